"""Wheels of our own distributions, which may not be published anywhere yet: found, or built from their sources."""

from __future__ import annotations

import json
import os
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from ..errors import ConfigurationError
from . import programs
from .distributions import normalized, required_name

OURS = "agent-framework-hosting"
PIN = re.compile(r"[^=<>~!;#@]*===?\s*([^\s;,#*\\]+)\s*(?:[;#\\].*)?")
INCLUDE = re.compile(r"\s*(?:-r|--requirement)[\s=]+(\S+)")
# release, then how far before or after it
VERSION = re.compile(r"v?(\d+(?:\.\d+)*)[-_.]?(a|b|rc|post|dev)?[-_.]?(\d*)", re.IGNORECASE)
STAGES = {"dev": -4, "a": -3, "b": -2, "rc": -1, "": 0, "post": 1}


def is_ours(name: str) -> bool:
    return name == OURS or name.startswith(f"{OURS}-")


def required(requirements: Path) -> dict[str, str | None]:
    """Give the names in a requirements file, and in those that it includes, each with the version it is pinned to.

    Raises:
        ConfigurationError: There is no such file.
    """
    found: dict[str, str | None] = {}
    waiting, seen = [requirements], set[Path]()
    while waiting:
        path = waiting.pop()
        if path.resolve() in seen:
            continue
        seen.add(path.resolve())
        try:
            lines = path.read_text("utf-8").splitlines()
        except OSError as error:
            raise ConfigurationError(f"The requirements cannot be read: {error}") from error
        for line in lines:
            if included := INCLUDE.match(line):
                waiting.append(path.parent / included[1])
            elif name := required_name(line):
                pin = PIN.fullmatch(line)
                found[name] = pin[1] if pin else None
    return found


def wheels(folders: Iterable[Path], wanted: Mapping[str, str | None]) -> dict[str, Path]:
    """Give for each of our distributions the wheel in these folders: the newest, or the one that is pinned.

    Raises:
        ConfigurationError: A wheel is none, or has files that would be written outside of it.
    """
    found: dict[str, Path] = {}
    there = (path for folder in folders for path in folder.glob("*.whl"))
    for path in sorted(filter(has_our_name, there), key=version_of):
        name, version = path.name.split("-")[:2]
        if wanted.get(normalized(name)) in (None, version):
            found[normalized(name)] = path.resolve()
    for path in found.values():
        check(path)
    return found


def has_our_name(wheel: Path) -> bool:
    return is_ours(normalized(wheel.name.split("-")[0]))


def version_of(wheel: Path) -> tuple[tuple[int, ...], int, int]:
    """Give the version in a wheel's name as something that can be compared."""
    found = VERSION.match(wheel.name.split("-")[1]) if wheel.name.count("-") >= 4 else None
    if found is None:
        raise ConfigurationError(
            f"{wheel.name} is no name of a wheel: it must be name-version-python-abi-platform.whl."
        )
    return tuple(map(int, found[1].split("."))), STAGES[(found[2] or "").lower()], int(found[3] or 0)


def check(wheel: Path) -> None:
    """See that a wheel is one, and that its names stay inside it.

    Raises:
        ConfigurationError: It is not, or they do not.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile) as error:
        raise ConfigurationError(f"{wheel} cannot be read as a wheel: {error}. Build it again.") from error
    for name in names:
        path = PurePosixPath(name.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or ":" in name.partition("/")[0]:
            raise ConfigurationError(f"{wheel} is not installed: {name!r} would be written outside of its folder.")


def workspace(*places: Path) -> Path | None:
    """Give the repository of ours that one of these places is in."""
    for place in places:
        for folder in (place, *place.parents):
            if project(folder / "src" / "hosting").get("name") == OURS:
                return folder
    return None


def here() -> Path | None:
    """Give our repository, if the command runs inside it, or out of it."""
    return workspace(Path.cwd(), Path(__file__).resolve().parent)


def sources(root: Path | None) -> dict[str, Path]:
    """Give the source folders of our distributions by name: in our repository, or installed as editable."""
    found = dict(editable())
    if root is not None:
        for part in ("src", "adapters"):
            for path in sorted((root / part).glob("*/pyproject.toml")):
                if (name := project(path.parent).get("name")) and is_ours(normalized(name)):
                    found[normalized(name)] = path.parent
    return found


def editable() -> Iterator[tuple[str, Path]]:
    """Yield what is installed as editable (PyPA, direct URL data structure)."""
    for each in metadata.distributions():
        name = normalized(each.metadata["Name"] or "")
        if not is_ours(name) or (text := each.read_text("direct_url.json")) is None:
            continue
        origin: dict[str, Any] = json.loads(text)
        url = urlsplit(str(origin.get("url", "")))
        if origin.get("dir_info", {}).get("editable") and url.scheme == "file":
            folder = Path(url2pathname(url.path))
            if (folder / "pyproject.toml").is_file():
                yield name, folder


def project(folder: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((folder / "pyproject.toml").read_text("utf-8")).get("project", {})
    except (OSError, tomllib.TOMLDecodeError):
        return {}


def needed(wanted: Iterable[str], folders: Mapping[str, Path]) -> list[str]:
    """Give those names of ours that are wanted, or required by one that is, as far as there are sources of them."""
    found: set[str] = set()
    waiting = [name for name in wanted if name in folders]
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            about = project(folders[name])
            extras = [each for extra in about.get("optional-dependencies", {}).values() for each in extra]
            names = map(required_name, [*about.get("dependencies", []), *extras])
            waiting += [each for each in names if each is not None and each in folders]
    return sorted(found)


def build(names: Sequence[str], folders: Mapping[str, Path], into: Path, *, uv: Path | None, root: Path | None) -> None:
    """Build the wheels of these distributions.

    Raises:
        ConfigurationError: One could not be built.
    """
    pinned = [] if root is None or not (root / "constraints.txt").is_file() else [root / "constraints.txt"]
    for name in names:
        if uv is not None:
            more = [part for path in pinned for part in ("--build-constraints", path)]
            tool = [uv, "build", "-q", "--wheel", "--no-create-gitignore", "--python", sys.executable, *more]
            command = [*tool, "--out-dir", into, folders[name]]
        else:
            command = [sys.executable, "-P", "-m", "pip", "wheel", "-q", "--no-deps", "-w", into, folders[name]]
        programs.run(command, f"Building the wheel of {name} from {os.path.relpath(folders[name])}")
