"""Writing an artefact, as a zip file or a folder: the same files give the same bytes, and nobody sees half of one."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConfigurationError

# What is in an artefact, one `name==version` a line.
LISTING = "packaged.lock.txt"
# The first moment that a zip file knows, as a date and as POSIX seconds.
EPOCH = (1980, 1, 1, 0, 0, 0)
EPOCH_SECONDS = 315_532_800
# The highest level takes three times as long for half a percent.
LEVEL = 6


@dataclass(frozen=True)
class File:
    """A file of an artefact: its name with slashes, what is in it, and the distribution that it belongs to, if any."""

    name: str
    content: Path | bytes
    mode: int = 0o644
    owner: str = ""

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True)
class Sizes:
    """Bytes of one file, or of many."""

    unzipped: int = 0
    zipped: int = 0

    def __add__(self, other: Sizes) -> Sizes:
        return Sizes(self.unzipped + other.unzipped, self.zipped + other.zipped)


def permissions(status: os.stat_result) -> int:
    """Give the permissions of a file in an artefact, which is unpacked by one user and read by another."""
    return 0o755 if status.st_mode & 0o111 else 0o644


def write_zip(files: Iterable[File], path: Path) -> Mapping[str, Sizes]:
    """Write a zip file, and give the sizes of its files by name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in in_order(files):
                archive.writestr(entry(file), file.read(), compresslevel=LEVEL)
            sizes = {each.filename: Sizes(each.file_size, each.compress_size) for each in archive.infolist()}
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        with suppress(FileNotFoundError):
            Path(temporary).unlink()
        raise
    return sizes


def entry(file: File) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(file.name, EPOCH)
    info.create_system = 3  # Unix, so that the permissions count.
    info.external_attr = (stat.S_IFREG | file.mode) << 16
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def write_folder(files: Iterable[File], path: Path) -> None:
    """Write the files into a folder, which must be an earlier artefact or empty, or not there.

    Raises:
        ConfigurationError: Something else is there.
    """
    replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        temporary.chmod(0o755)
        for file in in_order(files):
            place = temporary / file.name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(file.read())
            place.chmod(file.mode)
            os.utime(place, (EPOCH_SECONDS, EPOCH_SECONDS))
        if path.exists():
            shutil.rmtree(path)
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replaceable(path: Path) -> None:
    """See that a folder may be replaced.

    Raises:
        ConfigurationError: It holds something that is no artefact.
    """
    if path.exists() and (not path.is_dir() or (any(path.iterdir()) and not (path / LISTING).is_file())):
        raise ConfigurationError(f"{path} is there, and is no artefact of this command: remove it, or name another.")


def in_order(files: Iterable[File]) -> list[File]:
    return sorted(files, key=lambda file: file.name)
