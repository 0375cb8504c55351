"""Installing for another machine: wheels for the target alone, with uv or with pip."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError
from . import programs
from .ours import is_ours
from .platforms import Target

# What uv and pip say of a distribution that has no wheel for the target.
WITHOUT_WHEEL = (
    re.compile(
        r"(?:Because|because|and|only)\s+([A-Za-z0-9][\w.-]*?)(?:\[[^\]]*\])?(?:[=<>!~]=?\S*)?\s+has\s+no\s+(?:usable\s+)?wheels"
    ),
    re.compile(r"Wheels are (?:required|available) for `([\w.-]+)`"),
)
UNKNOWN = (
    re.compile(r"(?:Because|because|and)\s+([A-Za-z0-9][\w.-]*)\s+was\s+not\s+found"),
    re.compile(r"there\s+is\s+no\s+version\s+of\s+([A-Za-z0-9][\w.-]*?)[=<>!~]"),
    re.compile(r"No matching distribution found for ([A-Za-z0-9][\w.-]*)"),
)


@dataclass(frozen=True)
class Wanted:
    """What to install: files of requirements and constraints, and where wheels are beside the package index."""

    requirements: Sequence[Path]
    constraints: Sequence[Path]
    find_links: Sequence[Path]
    no_index: bool = False

    @property
    def arguments(self) -> list[str]:
        """As uv and pip both take them."""
        said = [f"--requirement={path}" for path in self.requirements]
        said += [f"--constraint={path}" for path in self.constraints]
        said += [f"--find-links={path}" for path in self.find_links]
        return said + ["--no-index"] * self.no_index


def with_uv(uv: Path, target: Target, wanted: Wanted, into: Path) -> list[str | Path]:
    """Give the command that installs with uv, which judges markers by the target."""
    command = [uv, "pip", "install", "-q", "--no-progress", "--python", sys.executable, "--target", into]
    platform = ["--python-platform", target.uv_platform, "--python-version", target.python]
    return [*command, *platform, "--only-binary", ":all:", *wanted.arguments]


def with_pip(python: Path, target: Target, wanted: Wanted, into: Path) -> list[str | Path]:
    """Give the command that installs with pip, which judges markers by the Python it runs on."""
    command = [python, "-P", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
    tags = [part for tag in target.tags for part in ("--platform", tag)]
    platform = [*tags, "--python-version", target.python, "--implementation", "cp", "--only-binary", ":all:"]
    return [*command, "--target", into, *platform, *wanted.arguments]


def install(target: Target, wanted: Wanted, into: Path, *, uv: Path | None, python: Path | None) -> None:
    """Install into a folder; `python` is one of the target's version, if there is one.

    Raises:
        ConfigurationError: Something has no wheel for the target, or is not to be had; the message names it.
    """
    if uv is not None:
        command = with_uv(uv, target, wanted, into)
    else:
        command = with_pip(pip_of(python, Path(sys.executable)), target, wanted, into)
    try:
        programs.run(command, f"Installing for {target}")
    except programs.Failed as error:
        raise ConfigurationError(explained(error, target)) from error


def pip_of(*pythons: Path | None) -> Path:
    """Give the first of these Pythons that has pip.

    Raises:
        ConfigurationError: None has.
    """
    for python in pythons:
        if python is not None and programs.said([str(python), "-P", "-c", "import pip"]) is not None:
            return python
    raise ConfigurationError("There is neither uv on PATH nor pip in this Python: install one of them (uv is quicker).")


def explained(error: programs.Failed, target: Target) -> str:
    """Give the message of an installation that failed: what is lacking, what to do, and what the installer said."""
    said = " ".join(error.said.split())
    unknown = found(UNKNOWN, said)
    if without := found(WITHOUT_WHEEL, said):
        why = (
            f"{without} has no wheel for {target}, and an artefact is not built from source distributions, which could "
            "run only on this machine. Take a release that has one, or build its wheel on such a machine and give its "
            "folder as --find-links."
        )
    elif unknown and is_ours(unknown):
        why = (
            f"{unknown} is not on the package index, or not in that version. Give the folder of its wheel as "
            "--find-links, or run this in our repository, where it is built."
        )
    elif unknown:
        why = (
            f"{unknown} is not to be had as a wheel for {target}: it has none (perhaps only a source distribution), "
            "not in that version, or the name is wrong. A folder with its wheel can be given as --find-links."
        )
    else:
        return str(error)
    return f"{why}\n{error}"


def found(patterns: Sequence[re.Pattern[str]], said: str) -> str | None:
    return next((match[1] for pattern in patterns if (match := pattern.search(said))), None)


def pinned_to(wheels: Mapping[str, Path], path: Path) -> Path:
    """Write constraints: where one of these distributions is required, it is this wheel and no other."""
    path.write_text("".join(f"{name} @ {wheel.as_uri()}\n" for name, wheel in sorted(wheels.items())), "utf-8")
    return path
