"""Brings what is not Python of ours: uv, a Python to run on, Node.js, AWS's Lambda emulator, AWS SAM and Azurite.

Everything that is fetched goes into `.tools/`; nothing is installed outside the project.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from scripts import interpreters
from scripts.interpreters import Interpreter
from scripts.workspace import CONSTRAINTS, ROOT, TOOLS

OLDEST_UV = (0, 9)
# The wheel of this release carries the Lambda Runtime Interface Emulator as a static Linux binary.
AWS_SAM_CLI = "aws-sam-cli==1.170.0"
EMULATORS = {"x86_64": "aws-lambda-rie-x86_64", "aarch64": "aws-lambda-rie-arm64", "arm64": "aws-lambda-rie-arm64"}
FETCHED_EMULATOR = TOOLS / "aws-lambda-rie"
# `LAMBDA_RIE` names another one, which is taken as it is.
LAMBDA_EMULATOR = Path(os.environ.get("LAMBDA_RIE") or FETCHED_EMULATOR).absolute()

# SAM with its linter and its transform, apart from `.venv`: it wants an older pydantic.
SAM_HOME = TOOLS / "sam"
SAM = SAM_HOME / "bin" / "sam"

# Of those before 3.36 any supported Node.js can be the host.
AZURITE = "azurite@3.35.0"
AZURITE_MAIN = TOOLS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


class Lacking(Exception):
    """The machine lacks something that cannot be fetched; the message says what to install."""


def uv() -> Path:
    """Return a uv that is new enough, fetching it where the machine has none.

    Raises:
        Lacking: There is neither uv nor a pip to fetch it with.
    """
    own = TOOLS / "uv" / "bin" / "uv"
    for candidate in (shutil.which("uv"), own):
        if candidate is not None and version_of(Path(candidate)) >= OLDEST_UV:
            return Path(candidate)
    print("uv: not on PATH, fetching it into .tools/uv")
    try:
        venv.create(own.parent.parent, clear=True, with_pip=True)
        subprocess.run([own.with_name("python"), "-m", "pip", "install", "-q", "-c", CONSTRAINTS, "uv"], check=True)
    except subprocess.CalledProcessError:
        # Debian's Python comes without ensurepip; its pip may be there all the same.
        target = [sys.executable, "-m", "pip", "install", "-q", "-c", CONSTRAINTS, "--target", own.parent.parent, "uv"]
        shutil.rmtree(own.parent.parent)
        if subprocess.run(target, check=False).returncode != 0:
            raise Lacking("uv could not be fetched: install uv, or python3-venv, and run this again") from None
    return own


def version_of(path: Path) -> tuple[int, ...]:
    """Return the version of a uv, `()` where it does not start."""
    try:
        said = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ()
    return tuple(map(int, re.findall(r"\d+", said.split()[1])))


def python(major: int, minor: int) -> Interpreter:
    """Return an interpreter of that version, fetching one into `.tools/python` where the machine has none.

    Raises:
        Lacking: None was found and none could be fetched.
    """
    found = interpreters.find(major, minor) or fetched(major, minor)
    if found is None:
        name = f"Python {major}.{minor}"
        print(f"{name}: neither on PATH nor with pyenv, fetching it into .tools/python")
        command = [uv(), "python", "install", "--no-bin", "--install-dir", TOOLS / "python", f"{major}.{minor}"]
        subprocess.run(command, check=False)
        found = fetched(major, minor)
        if found is None:
            raise Lacking(f"{name} could not be fetched: install it so that `python{major}.{minor}` is on PATH")
    return found


def fetched(major: int, minor: int) -> Interpreter | None:
    """Return the interpreter of that version which an earlier run fetched."""
    paths = sorted((TOOLS / "python").glob(f"cpython-{major}.{minor}*/bin/python{major}.{minor}"))
    return next(filter(None, map(interpreters.probe, paths)), None)


def has_node() -> bool:
    """Tell whether the machine has a Node.js beside the one that `.venv` may hold."""
    return of_the_machine("node") is not None


def of_the_machine(command: str) -> str | None:
    elsewhere = [folder for folder in os.get_exec_path() if not Path(folder).is_relative_to(ROOT)]
    return shutil.which(command, path=os.pathsep.join(elsewhere))


def node(command: str = "node") -> Path | None:
    """Return a command of Node.js, of the machine's or of the one in `.venv`; None where there is none."""
    found = of_the_machine(command) if has_node() else shutil.which(command, path=str(ROOT / ".venv" / "bin"))
    return None if found is None else Path(found)


def azurite() -> Path:
    """Return the script of Azurite's blob service, fetching it where it is not there yet.

    Raises:
        Lacking: It could not be fetched, or there is no npm to do it.
    """
    home = TOOLS / "azurite"
    marker = home / ".from"
    if not marker.exists() or marker.read_text() != AZURITE or not AZURITE_MAIN.is_file():
        npm = node("npm")
        if npm is None:
            raise Lacking("Azurite could not be fetched: there is no npm. Install Node.js, or run `make setup` first")
        TOOLS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
            fetch = [npm, "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", folder]
            path = os.pathsep.join((str(npm.parent), os.environ.get("PATH", "")))
            if subprocess.run([*fetch, AZURITE], check=False, env={**os.environ, "PATH": path}).returncode != 0:
                raise Lacking(f"Azurite could not be fetched: npm did not install {AZURITE}")
            Path(folder, ".from").write_text(AZURITE)
            if home.exists():
                shutil.rmtree(home)
            shutil.copytree(folder, home, symlinks=True)
    return AZURITE_MAIN


def lambda_emulator() -> Path:
    """Return the Lambda Runtime Interface Emulator for this machine, fetching it where it is not there yet.

    Raises:
        Lacking: It does not run on this kind of machine, could not be fetched, or is not where `LAMBDA_RIE` says.
    """
    if LAMBDA_EMULATOR != FETCHED_EMULATOR:
        if not LAMBDA_EMULATOR.is_file():
            raise Lacking(f"the Lambda emulator: there is no {LAMBDA_EMULATOR}, which LAMBDA_RIE names")
        return LAMBDA_EMULATOR
    name = EMULATORS.get(platform.machine())
    if sys.platform != "linux" or name is None:
        raise Lacking(f"the Lambda emulator runs on Linux (x86_64, arm64), not on {sys.platform} {platform.machine()}")
    marker = FETCHED_EMULATOR.with_suffix(".from")
    wanted = f"{AWS_SAM_CLI} {name}"
    if not marker.exists() or marker.read_text() != wanted or not FETCHED_EMULATOR.exists():
        TOOLS.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=TOOLS) as folder:
            fetch = [uv(), "pip", "install", "-q", "--python", sys.executable, "--target", folder, "--no-deps"]
            if subprocess.run([*fetch, AWS_SAM_CLI], check=False).returncode != 0:
                raise Lacking(f"the Lambda emulator could not be fetched: {AWS_SAM_CLI} holds it")
            binary = Path(folder, "samcli", "local", "rapid", name)
            binary.chmod(binary.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
            # A rename, so that an emulator which runs just now is not written into.
            binary.replace(FETCHED_EMULATOR)
        marker.write_text(wanted)
    return FETCHED_EMULATOR


def sam() -> Path:
    """Return the command line of AWS SAM, fetching it where it is not there yet.

    Raises:
        Lacking: It could not be fetched.
    """
    marker = SAM_HOME / ".from"
    if not marker.exists() or marker.read_text() != AWS_SAM_CLI or not SAM.is_file():
        make = [uv(), "venv", "-q", "--clear", "--no-project", "--python", sys.executable, SAM_HOME]
        fetch = [uv(), "pip", "install", "-q", "--python", SAM_HOME / "bin" / "python", AWS_SAM_CLI]
        if any(subprocess.run(command, check=False).returncode != 0 for command in (make, fetch)):
            raise Lacking(f"AWS SAM could not be fetched: {AWS_SAM_CLI} could not be installed")
        marker.write_text(AWS_SAM_CLI)
    return SAM
