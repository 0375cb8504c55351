"""The programs that the builder runs: uv or pip, and a Python of the target's version."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..errors import ConfigurationError

VERSION = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
# Settings of other uses of the same programs, which would contradict what is asked here.
UNWANTED = ("PIP_TARGET", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_PREFIX", "UV_SYSTEM_PYTHON", "UV_PYTHON")
LONGEST_PROBE = 30
CREDENTIALS = re.compile(r"(?<=://)[^/\s@]+@")
SAID_LINES = 15


def uv(workspace: Path | None = None) -> Path | None:
    """Find uv: on PATH, beside this Python, or among the tools of our repository."""
    beside = os.pathsep.join((str(Path(sys.executable).parent), str(Path(sys.prefix, "bin"))))
    found = shutil.which("uv") or shutil.which("uv", path=beside)
    if found is None and workspace is not None:
        found = shutil.which("uv", path=str(workspace / ".tools" / "uv" / "bin"))
    return None if found is None else Path(found)


def python(version: str, uv: Path | None) -> Path | None:
    """Find a CPython of that version (`3.13`): this one, one on PATH, one that uv knows; none is fetched."""
    candidates = [sys.executable, shutil.which(f"python{version}")]
    if found := next((each for each in candidates if each and is_python(each, version)), None):
        return Path(found)
    if uv is None:
        return None
    asked = [str(uv), "python", "find", "-q", "--no-python-downloads", "--no-project", version]
    answered = said(asked)
    return Path(answered) if answered and is_python(answered, version) else None


def is_python(path: str, version: str) -> bool:
    return said([path, "-I", "-S", "-c", VERSION]) == f"cpython {version}"


def said(command: Sequence[str]) -> str | None:
    """Give what a program printed; None where it does not run."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST_PROBE, check=True, env=settings())
    except (OSError, subprocess.SubprocessError):
        return None
    return ran.stdout.strip()


def settings() -> dict[str, str]:
    """Give the environment for uv and pip: the operator's, whose package indexes stand there."""
    return {name: value for name, value in os.environ.items() if name not in UNWANTED}


def run(command: Sequence[str | Path], doing: str) -> None:
    """Run a program that has to succeed.

    Raises:
        ConfigurationError: It failed; the message has the end of what it said.
    """
    try:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, env=settings())
    except OSError as error:
        raise ConfigurationError(f"{doing} failed: {error}") from error
    if ran.returncode != 0:
        raise Failed(doing, ran.stdout.decode("utf-8", "replace"))


class Failed(ConfigurationError):
    """A program failed; `said` is what it said, without credentials."""

    def __init__(self, doing: str, said: str) -> None:
        self.said = CREDENTIALS.sub("", said).strip()
        super().__init__(f"{doing} failed:\n" + "\n".join(self.said.splitlines()[-SAID_LINES:]))
