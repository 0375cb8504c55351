"""Documents as numbered files: the protocol of the directory store, on plain system calls.

The document `a/b` is the folder `a/b/`, and its n-th content the file `a/b/v<n>`, which never changes. The highest
number counts. A write prepares a temporary file (`~…`) in that folder and links it to the next number: that fails
where the number is taken, so of two writers one loses, on whatever machines they run. Nothing is locked and nothing
is renamed over anything. A writer killed at any point leaves the old content or the new, and at most a temporary
file, which a later write to that document removes.

Numbers up to `highest - KEEP` are removed. A writer that was frozen for long may thus find its number free again
although others went far beyond. So it looks once more: if the highest is less than KEEP above its own, that number
was never removed before, and it has won; otherwise the outcome is `Unknown`.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Generator, Iterable, Iterator
from itertools import islice
from typing import Literal

from ..errors import StateUnavailable
from .disk import FOLDER, NEW, REFUSED, Disk, open_folder, read_all, reported, unavailable
from .store import ABSENT, UNCHANGED, Condition, Lost, Marker, Unknown, Version

KEEP = 4
STALE = 3600.0
TRIES = 100

NUMBERED = re.compile(r"v([1-9][0-9]*)", re.ASCII)
LIKE_NUMBERED = re.compile(r"(?<![^/])(v[0-9]+)(?![^/])", re.ASCII)
MARK = "="
MARKED = rf"\1{MARK}"
TEMPORARY = "~"


class NumberedFiles:
    """The documents below `root`, for blocking callers on any thread."""

    def __init__(self, root: str, disk: Disk) -> None:
        self.root = root
        self._disk = disk

    def read(self, name: str, unless: Version | None) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        folder = self.folder(name)
        with reported(f"read {folder}"):
            for _ in range(TRIES):
                try:
                    number = highest(os.listdir(folder))
                except FileNotFoundError:
                    os.stat(self.root)
                    return None
                if number == 0:
                    return None
                if unless == (version := str(number)):
                    return UNCHANGED
                try:
                    return self._content(f"{folder}/v{number}"), version
                except OSError as error:  # removed meanwhile, because others have written
                    if error.errno not in (errno.ENOENT, errno.ESTALE):
                        raise
        raise StateUnavailable(f"{folder} changes faster than it can be read. Try again.")

    def _content(self, path: str) -> bytes:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return read_all(fd)
        finally:
            os.close(fd)

    def write(self, name: str, data: bytes, condition: Condition) -> Version:
        folder = self.folder(name)
        expected = None if condition is None else 0 if condition is ABSENT else number_of(f"v{condition}")
        if expected == 0 and condition is not ABSENT:
            raise Lost(f"{name} never had the version {condition}: read it again before writing.")
        with reported(f"write {folder}"):
            for _ in range(TRIES):
                try:
                    fd = os.open(folder, FOLDER)
                except FileNotFoundError:
                    os.stat(self.root)
                    if expected:
                        raise Lost(f"{name} is gone: read it again before writing.") from None
                    self._make(folder)
                    continue
                try:
                    if (version := self._write(fd, folder, data, expected)) is not None:
                        return version
                except FileNotFoundError:
                    pass  # somebody removed the folder while it was empty
                finally:
                    os.close(fd)
        raise StateUnavailable(f"{folder} changes faster than it can be written. Try again.")

    def _write(self, fd: int, folder: str, data: bytes, expected: int | None) -> Version | None:
        """Write the next content, or give None where others were faster and that does not matter."""
        temporary = self._prepare(fd, data)
        try:
            # Only now: it is short from here to the commit, and a network file system that just made a file looks anew.
            latest = highest(os.listdir(fd))
            if expected not in (None, latest):
                raise Lost(f"{folder} has changed: read it again before writing.")
            number = latest + 1
            won = self._commit(fd, folder, temporary, number, again=expected is None)
        finally:
            with contextlib.suppress(OSError):
                self._disk.unlink(temporary, dir_fd=fd)
        if not won:
            if expected is None:
                return None
            raise Lost(f"{folder} has changed: read it again before writing.")
        with doubted(folder):
            entries = os.listdir(fd)
            top = max(highest(entries), number)
            self._prune(fd, entries, top)
            if top - number >= KEEP:
                if expected is None:
                    return None
                raise Unknown(f"Others have written {folder} many times since this write began: read it again.")
            self._disk.sync_folder(fd)
            if latest == 0:
                self._sync_above(folder)
        return str(number)

    def _prepare(self, fd: int, data: bytes) -> str:
        """Write a durable file under a name that nobody else has."""
        temporary = TEMPORARY + os.urandom(8).hex()
        new = self._disk.open(temporary, NEW, 0o600, dir_fd=fd)
        try:
            try:
                self._disk.write_all(new, data)
                self._disk.fsync(new)
            finally:
                os.close(new)
        except OSError:
            with contextlib.suppress(OSError):
                self._disk.unlink(temporary, dir_fd=fd)
            raise
        return temporary

    def _commit(self, fd: int, folder: str, temporary: str, number: int, *, again: bool) -> bool:
        """Give the file its number; False if another file has it, or had it and `again` allows to write once more.

        Raises:
            StateUnavailable: It was certainly not given.
            Unknown: It may have been given.
        """
        target = f"v{number}"
        with doubted(folder):
            try:
                self._disk.commit(temporary, target, src_dir_fd=fd, dst_dir_fd=fd)
            except FileExistsError:
                # A network file system that repeats a request after a lost answer meets its own link.
                try:
                    return os.stat(target, dir_fd=fd).st_ino == os.stat(temporary, dir_fd=fd).st_ino
                except FileNotFoundError:  # Many writes later: whose it was cannot be told any more.
                    if again:
                        return False
                    raise
            except OSError as error:
                if error.errno in REFUSED:
                    raise unavailable(f"write {folder}", error) from error
                raise
        return True

    def _prune(self, fd: int, entries: Iterable[str], top: int) -> None:
        """Remove what is long superseded, and what killed writers left. A failure costs space and nothing else."""
        with contextlib.suppress(OSError):
            for entry in entries:
                number = number_of(entry)
                if 0 < number <= top - KEEP or (entry.startswith(TEMPORARY) and self._is_stale(fd, entry, top)):
                    self._disk.unlink(entry, dir_fd=fd)

    def _is_stale(self, fd: int, entry: str, top: int) -> bool:
        # Both times are the file server's.
        age = os.stat(f"v{top}", dir_fd=fd).st_mtime - os.stat(entry, dir_fd=fd).st_mtime
        return age > STALE

    def _make(self, folder: str) -> None:
        try:
            self._disk.mkdir(folder, 0o700)
        except FileExistsError:
            pass
        except FileNotFoundError:
            if (parent := os.path.dirname(folder)) != self.root:
                self._make(parent)
                with contextlib.suppress(FileNotFoundError, FileExistsError):
                    self._disk.mkdir(folder, 0o700)

    def _sync_above(self, folder: str) -> None:
        """Make a new folder durable, with all above it, whoever made them."""
        while folder != self.root:
            folder = os.path.dirname(folder)
            with open_folder(folder) as fd:
                self._disk.sync_folder(fd)

    def remove(self, name: str) -> None:
        folder = self.folder(name)
        with reported(f"remove {folder}"):
            try:
                entries = os.listdir(folder)
            except FileNotFoundError:
                os.stat(self.root)
                return
            for entry in sorted(entries, key=number_of):  # the one that counts last: readers never see an older one
                if number_of(entry) or entry.startswith(TEMPORARY):
                    with contextlib.suppress(FileNotFoundError):
                        self._disk.unlink(f"{folder}/{entry}")
            self._remove_folders(folder)

    def _remove_folders(self, folder: str) -> None:
        """Remove a folder and those above it, as far as they are empty: a sweep should not walk through them."""
        while folder != self.root:
            try:
                self._disk.rmdir(folder)
            except OSError:
                break
            folder = os.path.dirname(folder)
        with contextlib.suppress(FileNotFoundError), open_folder(folder) as fd:
            self._disk.sync_folder(fd)

    def names(self, prefix: str, after: str, limit: int) -> list[str]:
        above = prefix[: prefix.rfind("/") + 1]
        with reported(f"list {self.root}"):
            os.stat(self.root)
            segments = self._look(above.rstrip("/"))[1]
            return [*islice(self._walk(above, segments, prefix, after), limit)]

    def _walk(self, above: str, segments: Iterable[str], prefix: str, after: str) -> Iterator[str]:
        # The folder `a` stands for the name "a" and for all that start with "a/", and "a-b" sorts between them.
        below: dict[str, list[str]] = {}
        for name in sorted(above + segment + end for segment in segments for end in ("", "/")):
            if not name.endswith("/"):
                if name.startswith(prefix) and name > after:
                    exists, below[name] = self._look(name)
                    if exists:
                        yield name
            elif (name.startswith(prefix) or prefix.startswith(name)) and after[: len(name)] <= name:
                inner = below.pop(name[:-1], None)
                yield from self._walk(name, self._look(name[:-1])[1] if inner is None else inner, prefix, after)

    def _look(self, name: str) -> tuple[bool, list[str]]:
        """Tell whether there is such a document, and the next segments of names below it."""
        exists = False
        segments: list[str] = []
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder(name)) as entries:
            for entry in entries:
                if number_of(entry.name):
                    exists = True
                elif not entry.name.startswith(TEMPORARY) and entry.is_dir():
                    segments.append(entry.name.removesuffix(MARK))
        return exists, segments

    def folder(self, name: str) -> str:
        """Give a document's folder. A segment that looks like a numbered file gets a mark that no name can have."""
        return f"{self.root}/{LIKE_NUMBERED.sub(MARKED, name)}" if name else self.root


def number_of(entry: str) -> int:
    """Give n of `v<n>`, and 0 for any other file."""
    match = NUMBERED.fullmatch(entry)
    return int(match[1]) if match is not None else 0


def highest(entries: Iterable[str]) -> int:
    return max(map(number_of, entries), default=0)


@contextlib.contextmanager
def doubted(folder: str) -> Generator[None, None, None]:
    """Turn errors of the operating system into `Unknown`."""
    try:
        yield
    except OSError as error:
        raise Unknown(f"It is not known whether {folder} was written: {error.strerror}. Read it again.") from error
