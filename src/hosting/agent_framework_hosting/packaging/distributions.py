"""What was installed: distributions with the files that their metadata records (PyPA, recording installed projects)."""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from ..errors import ConfigurationError
from .artefact import File, permissions

NAME = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)")


def normalized(name: str) -> str:
    """Give a distribution's name in the form in which names are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required_name(requirement: str) -> str | None:
    """Give the normalized name that a requirement (PEP 508) begins with."""
    found = NAME.match(requirement)
    return None if found is None else normalized(found[1])


@dataclass(frozen=True)
class Distribution:
    """A distribution: its normalized name, its version, its files by name, and the names that it requires."""

    name: str
    version: str
    files: Mapping[str, File]
    requires: frozenset[str]


def installed(folder: Path) -> list[Distribution]:
    """Read what is installed in a folder, in the order of names.

    Commands in `bin/` are no part of it: nobody calls them on the platform, and they name this machine's Python.

    Raises:
        ConfigurationError: A recorded file is not a plain file.
    """
    found: list[Distribution] = []
    taken: set[str] = set()
    for metadata in sorted(folder.glob("*.dist-info/METADATA")):
        said = HeaderParser().parsestr(metadata.read_text("utf-8", "replace"))
        name = normalized(said["Name"])
        names = [each for each in recorded(metadata.with_name("RECORD")) if each not in taken]
        commands = "bin/__init__.py" not in names
        files = {
            each: File(each, folder / each, permissions((folder / each).stat()), name)
            for each in names
            if not (commands and each.startswith("bin/")) and is_there(folder, each)
        }
        taken.update(files)
        requires = frozenset(filter(None, map(required_name, said.get_all("Requires-Dist", []))))
        found.append(Distribution(name, said["Version"], files, requires))
    return sorted(found, key=lambda each: each.name)


def recorded(record: Path) -> Iterator[str]:
    """Yield the names of a RECORD that are inside its folder."""
    with record.open(encoding="utf-8", newline="") as lines:
        for row in csv.reader(lines):
            if row and not PurePosixPath(row[0]).is_absolute() and ".." not in PurePosixPath(row[0]).parts:
                yield PurePosixPath(row[0]).as_posix()


def is_there(folder: Path, name: str) -> bool:
    try:
        mode = (folder / name).lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    if not stat.S_ISREG(mode) or not (folder / name).resolve().is_relative_to(folder.resolve()):
        raise ConfigurationError(f"{name} was installed as something other than a file: its package cannot be packed.")
    return True


def brought(
    distributions: Iterable[Distribution], roots: Iterable[str], supplied: frozenset[str], beside: frozenset[str]
) -> set[str]:
    """Name the distributions that need not be packed, because the platform's runtime has them.

    Those are the `supplied`, and of those `beside` the ones that only they require. `roots` are the names that the
    operator asked for. Requirements count whatever their markers say: what may be needed stays.
    """
    there = {each.name: each for each in distributions}
    left = supplied & there.keys()
    asked = set(roots)
    while True:
        more = {
            name
            for name in beside & there.keys() - left - asked
            if {each.name for each in there.values() if name in each.requires} <= left
        }
        if not left or not more:
            return set(left)
        left |= more


def rewritten(name: str, names: Iterable[str]) -> File:
    """Give a RECORD of what was packed, without hashes: so `importlib.metadata.files` stays true."""
    folder = next(each.partition("/")[0] for each in names if ".dist-info/" in each)
    record = f"{folder}/RECORD"
    rows = "".join(f"{quoted(each)},,\n" for each in sorted({*names, record}))
    return File(record, rows.encode(), owner=name)


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"' if re.search(r'[",\r\n]', name) else name
