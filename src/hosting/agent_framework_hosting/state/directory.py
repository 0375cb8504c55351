"""Documents in a directory, which several processes and machines may have mounted at once."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar
from urllib.parse import quote

from ..errors import ConfigurationError, StateUnavailable
from .disk import NEW, NO_LINKS, Disk, open_folder, rename_new, reported
from .files import KEEP, STALE, TEMPORARY, NumberedFiles
from .names import check_name, check_prefix
from .store import Condition, Marker, Unknown, Version

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

P = ParamSpec("P")
T = TypeVar("T")

THREADS = 16
PROBE = f"{TEMPORARY}probe-"


class DirectoryStore:
    """A `StateStore` below `path`; `files` says how documents are kept there.

    Nothing is touched before `probe` or the first operation, which makes the directory where it is missing. Later on
    a missing directory is an error: a file system that went away must not look like one without documents. Every
    operation is one visit to a thread, bounded by `timeout` seconds.

    `kept_versions` is how many contents of a document are on the disk: older ones go with further writes.
    `single_instance` does without hard links. It is for one process at a time: nothing keeps two apart.
    """

    kept_versions = KEEP

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        single_instance: bool = False,
        timeout: float = 10.0,
        disk: Disk | None = None,
    ) -> None:
        self.path: str = os.path.abspath(os.fspath(path))
        self.single_instance = single_instance
        self._timeout = timeout
        self._disk = disk or (Disk(commit=rename_new) if single_instance else Disk())
        self._files = NumberedFiles(self.path, self._disk)
        self._opening = threading.Lock()
        self._opened = False

    async def probe(self) -> None:
        """Make sure that the file system can do what conditional writes need. Idempotent.

        Raises:
            ConfigurationError: It cannot.
            StateUnavailable: It cannot be reached or written.
        """
        await self._visit(StateUnavailable, self._open)

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        return await self._visit(StateUnavailable, self._files.read, check_name(name), unless)

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        return await self._visit(Unknown, self._files.write, check_name(name), data, if_version)

    async def delete(self, name: str) -> None:
        await self._visit(StateUnavailable, self._files.remove, check_name(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return await self._visit(StateUnavailable, self._files.names, check_prefix(prefix), after, limit)

    async def _visit(self, late: type[StateUnavailable], work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do blocking work on a thread; `late` is raised when it has begun and does not end in time."""

        def visit() -> T:
            if not self._opened:
                self._open()
            return work(*args, **kwargs)

        job = threads().submit(visit)
        try:
            async with asyncio.timeout(self._timeout):
                return await asyncio.wrap_future(job)
        except TimeoutError:
            never_began = job.cancel()
            raise (StateUnavailable if never_began else late)(
                f"The directory {self.path} did not answer within {self._timeout} s: check the file system."
            ) from None

    def _open(self) -> None:
        with self._opening, reported(f"use the directory {self.path}"):
            if not self._opened:
                self._make(self.path)
                self._try_commit()
                self._opened = True

    def _make(self, path: str) -> None:
        if os.path.isdir(path):
            return
        above = os.path.dirname(path)
        self._make(above)
        with contextlib.suppress(FileExistsError):
            self._disk.mkdir(path, 0o700)
        with open_folder(above) as fd:
            self._disk.sync_folder(fd)

    def _try_commit(self) -> None:
        """Give two files one name: the first must get it, the second must not."""
        folder = f"{self.path}/{PROBE}{os.urandom(8).hex()}"
        self._disk.mkdir(folder, 0o700)
        try:
            with open_folder(folder) as fd:
                for file in ("first", "second"):
                    os.close(self._disk.open(file, NEW, 0o600, dir_fd=fd))
                try:
                    self._disk.commit("first", "name", src_dir_fd=fd, dst_dir_fd=fd)
                except OSError as error:
                    if error.errno in NO_LINKS:
                        raise ConfigurationError(self._no_links()) from error
                    raise
                with contextlib.suppress(FileExistsError):
                    self._disk.commit("second", "name", src_dir_fd=fd, dst_dir_fd=fd)
                    raise ConfigurationError(self._no_links())
            self._remove_old_probes(os.stat(folder).st_mtime)
        finally:
            self._remove_probe(folder)

    def _no_links(self) -> str:
        return (
            f"The file system of {self.path} cannot keep two writers apart: that takes hard links, which SMB and "
            "object-store mounts lack. Use a local disk or an NFS mount (Amazon EFS, Azure Files over NFS). If "
            f"never more than one process uses it at a time, say so: file://{quote(self.path)}?single_instance=true"
        )

    def _remove_old_probes(self, now: float) -> None:
        for entry in os.listdir(self.path):
            if entry.startswith(PROBE):
                folder = f"{self.path}/{entry}"
                with contextlib.suppress(FileNotFoundError):
                    if now - os.stat(folder).st_mtime > STALE:
                        self._remove_probe(folder)

    def _remove_probe(self, folder: str) -> None:
        with contextlib.suppress(OSError):
            for file in os.listdir(folder):
                self._disk.unlink(f"{folder}/{file}")
            self._disk.rmdir(folder)


@functools.cache
def threads() -> ThreadPoolExecutor:
    """Threads of the stores' own: those of the event loop may all be busy with blocking tools."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(THREADS, thread_name_prefix="hosting-state")


os.register_at_fork(after_in_child=threads.cache_clear)  # threads do not survive a fork
