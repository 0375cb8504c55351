"""The operating system's calls for files, and what their errors mean here."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass

from ..errors import StateUnavailable

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC

NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EINVAL}
REFUSED = NO_LINKS | {errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""After these a link or rename was certainly not made."""

NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
ADVICE = {
    errno.ENOENT: "The directory is gone: is its file system mounted?",
    errno.ENOTDIR: "Name a directory, not a file.",
    errno.EACCES: "Give this process the right to read and write there.",
    errno.EPERM: "Give this process the right to read and write there.",
    errno.EROFS: "Mount the file system for writing.",
    errno.ENOSPC: "Free some space, or enlarge the volume.",
    errno.EDQUOT: "Free some space, or raise the quota.",
    errno.EMFILE: "Raise the number of files this process may open.",
}
RENAMING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Disk:
    """The calls that change something. `commit` gives a file its final name, and fails if that name is taken."""

    open: Callable[..., int] = os.open
    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    commit: Callable[..., None] = os.link
    unlink: Callable[..., None] = os.unlink
    mkdir: Callable[..., None] = os.mkdir
    rmdir: Callable[..., None] = os.rmdir

    def write_all(self, fd: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self.write(fd, rest) :]

    def sync_folder(self, fd: int) -> None:
        """Make the entries of a folder durable, where the file system can."""
        try:
            self.fsync(fd)
        except OSError as error:
            if error.errno not in NO_FOLDER_SYNC:
                raise


def rename_new(source: str, target: str, *, src_dir_fd: int, dst_dir_fd: int) -> None:
    """Stand in for `os.link` where there are no hard links: it keeps writers of this process apart, and no others."""
    with RENAMING:
        try:
            os.stat(target, dir_fd=dst_dir_fd)
        except FileNotFoundError:
            os.rename(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        else:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)


@contextlib.contextmanager
def open_folder(path: str) -> Generator[int, None, None]:
    fd = os.open(path, FOLDER)
    try:
        yield fd
    finally:
        os.close(fd)


def read_all(fd: int) -> bytes:
    """Read a file that nobody changes.

    Raises:
        OSError: It is shorter than the file system says.
    """
    size = os.fstat(fd).st_size
    data = os.read(fd, size)
    while len(data) < size:
        more = os.read(fd, size - len(data))
        if not more:
            raise OSError(errno.EIO, "The file is shorter than its size")
        data += more
    return data


def unavailable(doing: str, error: OSError) -> StateUnavailable:
    advice = ADVICE.get(error.errno or 0, "Check the file system.")
    code = errno.errorcode.get(error.errno or 0, str(error.errno))
    return StateUnavailable(f"Cannot {doing}: {error.strerror} ({code}). {advice} What was stored before is unharmed.")


@contextlib.contextmanager
def reported(doing: str) -> Generator[None, None, None]:
    """Turn errors of the operating system into `StateUnavailable`."""
    try:
        yield
    except OSError as error:
        raise unavailable(doing, error) from error
