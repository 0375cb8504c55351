"""Finds the Python interpreters that the environments are made with."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Prints the version and the interpreter behind a virtual environment or a shim; fails where it is of no use to us.
PROBE = """
import ssl, sys, sysconfig
assert sys.implementation.name == "cpython" and sys.version_info.releaselevel == "final"
assert not sysconfig.get_config_var("Py_GIL_DISABLED")
print(*sys.version_info[:3])
print(getattr(sys, "_base_executable", sys.executable))
"""


class Interpreter(NamedTuple):
    """A CPython that starts."""

    version: tuple[int, int, int]
    path: Path

    def __str__(self) -> str:
        return f"Python {'.'.join(map(str, self.version))} ({self.path})"


def find(major: int, minor: int) -> Interpreter | None:
    """Return an interpreter of that version from PATH or from where pyenv keeps it, `None` where there is none."""
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    for candidate in candidates(major, minor, pyenv):
        found = probe(candidate)
        if found is not None and found.version[:2] == (major, minor):
            return found
    return None


def candidates(major: int, minor: int, pyenv: Path) -> Iterator[Path]:
    """Yield what may be an interpreter of that version, the likeliest first."""
    if sys.version_info[:2] == (major, minor):
        yield Path(sys.executable)
    for name in (f"python{major}.{minor}", "python3", "python"):
        path = shutil.which(name)
        if path is not None:
            yield Path(path)
    yield from sorted(pyenv.glob(f"versions/{major}.{minor}.*/bin/python"), key=release, reverse=True)


def release(python: Path) -> tuple[int, ...]:
    """Return the numbers in the name of a pyenv version folder."""
    return tuple(int(part) for part in python.parts[-3].split(".") if part.isdigit())


def probe(path: Path) -> Interpreter | None:
    """Start a candidate: a shim on PATH may stand for a version that is not there."""
    try:
        # Isolated, so that neither PYTHONPATH nor the current folder decides what it imports.
        done = subprocess.run([path, "-I", "-c", PROBE], capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    version, executable = done.stdout.splitlines()
    major, minor, micro = map(int, version.split())
    return Interpreter((major, minor, micro), Path(executable))
