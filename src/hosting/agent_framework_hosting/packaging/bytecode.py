"""Bytecode in the artefact: on the platform nothing can be written beside it, so each cold start would compile anew.

It is of the kind that is taken without a look at its source (PEP 552, unchecked hash): times of files in an artefact
say nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from ..errors import ConfigurationError
from .artefact import File

PROGRAM = Path(__file__).with_name("compiling.py")


def compiled(files: Iterable[File], python: Path, version: str, root: str, folder: Path) -> list[File]:
    """Compile the modules among the files; `root` is where they will lie, `folder` where to work.

    Raises:
        ConfigurationError: The compiler did not run.
    """
    jobs: list[tuple[str, str, str]] = []
    made: list[File] = []
    for file in files:
        if not file.name.endswith(".py") or isinstance(file.content, bytes):
            continue
        path = PurePosixPath(file.name)
        name = str(path.parent / "__pycache__" / f"{path.stem}.cpython-{version.replace('.', '')}.pyc")
        jobs.append((str(file.content), str(folder / name), f"{root}/{file.name}"))
        made.append(File(name, folder / name, owner=file.owner))
    # Compiled constants may hold sets, whose order goes by the hashes of strings; -I would ignore the setting.
    command = [str(python), "-B", "-s", "-S", "-P", str(PROGRAM)]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environ = {**inherited, "PYTHONHASHSEED": "0"}
    ran = subprocess.run(command, input=json.dumps(jobs), capture_output=True, text=True, check=False, env=environ)
    if ran.returncode != 0:
        raise ConfigurationError(
            f"Python {version} did not compile the modules; try --no-bytecode.\n{ran.stderr[-1000:]}"
        )
    return [file for file in made if isinstance(file.content, Path) and file.content.exists()]
