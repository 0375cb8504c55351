"""Importing a module from an artefact, in a Python that has nothing else."""

from __future__ import annotations

import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from ..errors import ConfigurationError
from .platforms import Target

IMPORT = "import sys, importlib; sys.path.insert(0, sys.argv[1]); importlib.import_module(sys.argv[2])"
LONGEST = 120
SAID_LINES = 12


def check(artefact: Path, module: str, target: Target, python: Path | None) -> None:
    """Import the module as the platform would, with the settings of this environment.

    Raises:
        ConfigurationError: It cannot be imported, or this machine cannot tell.
    """
    if sys.platform != "linux" or platform.machine() != target.machine:
        raise ConfigurationError(f"--check imports on this machine, which is not Linux on {target.architecture}.")
    if python is None:
        raise ConfigurationError(f"--check needs Python {target.python}: put it on PATH.")
    if artefact.is_dir():
        run(artefact, module, python)
        return
    with tempfile.TemporaryDirectory() as folder:
        with zipfile.ZipFile(artefact) as archive:
            archive.extractall(folder)
        run(Path(folder), module, python)


def run(folder: Path, module: str, python: Path) -> None:
    # -I -S: neither this folder, nor anybody's settings, nor what is installed in that Python.
    command = [str(python), "-I", "-S", "-B", "-c", IMPORT, str(folder.resolve()), module]
    try:
        with tempfile.TemporaryDirectory() as elsewhere:
            ran = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, timeout=LONGEST, check=False)
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"Importing {module} from the artefact took longer than {LONGEST} s.") from None
    if ran.returncode != 0:
        said = "\n".join(ran.stderr.strip().splitlines()[-SAID_LINES:])
        raise ConfigurationError(f"{module} cannot be imported from the artefact:\n{said}")
