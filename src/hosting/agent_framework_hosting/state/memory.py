"""Documents in the memory of this process: what a host without `state_dir` keeps its conversations in."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import count
from threading import Lock
from typing import Literal

from .names import check_name, check_prefix
from .store import ABSENT, UNCHANGED, Condition, Lost, Version, _Marker  # pyright: ignore[reportPrivateUsage]

CONVERSATIONS = "k/"


class MemoryStore:
    """A `StateStore` of one process. Nothing here waits, so an operation costs less than a microsecond.

    `max_groups` bounds the conversations: all documents below one `k/<aa>/<digest>/` are a group, and beyond the
    bound the least recently used group goes, whole. Other names have no bound. `keep(path)`, given `<aa>/<digest>`,
    is True while a conversation's lease is held: such a group stays, even above the bound. It is called with the
    store locked, so it must be quick and leave the store alone.
    """

    shared = False

    def __init__(self, *, max_groups: int | None = None, keep: Callable[[str], bool] = lambda path: False) -> None:
        self._max_groups = max_groups
        self._keep = keep
        self._lock = Lock()
        self._versions = count(1)
        self._documents: dict[str, tuple[bytes, Version, str | None]] = {}
        self._groups: OrderedDict[str, set[str]] = OrderedDict()

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[_Marker.UNCHANGED] | None:
        with self._lock:
            document = self._documents.get(name)
            if document is None:
                check_name(name)
                return None
            data, version, group = document
            if group is not None:
                self._groups.move_to_end(group)
        return UNCHANGED if version == unless else (data, version)

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        with self._lock:
            document = self._documents.get(name)
            if document is None:
                check_name(name)
                if if_version is not None and if_version is not ABSENT:
                    raise Lost(f"{name} is gone: read it again before writing.")
                group = self._join_group(name)
            else:
                if if_version is not None and if_version != document[1]:
                    raise Lost(f"{name} has changed: read it again before writing.")
                group = document[2]
                if group is not None:
                    self._groups.move_to_end(group)
            version = str(next(self._versions))
            self._documents[name] = (data, version, group)
        return version

    async def delete(self, name: str) -> None:
        with self._lock:
            document = self._documents.pop(name, None)
            if document is None:
                check_name(name)
            elif (group := document[2]) is not None:
                names = self._groups[group]
                names.discard(name)
                if not names:
                    del self._groups[group]

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        check_prefix(prefix)
        with self._lock:
            group = group_of(prefix)
            names = self._documents if group is None else self._groups.get(group, ())
            found = [name for name in names if name.startswith(prefix) and name > after]
        return sorted(found)[:limit]

    def _join_group(self, name: str) -> str | None:
        group = group_of(name)
        if group is None:
            return None
        names = self._groups.get(group)
        if names is None:
            self._groups[group] = {name}
            self._evict()
        else:
            names.add(name)
            self._groups.move_to_end(group)
        return group

    def _evict(self) -> None:
        groups = self._groups
        if self._max_groups is None:
            return
        for _ in range(len(groups) - 1):  # the newest group is the one being written
            if len(groups) <= self._max_groups:
                return
            group = next(iter(groups))
            if self._keep(group):
                groups.move_to_end(group)
            else:
                for name in groups.pop(group):
                    del self._documents[name]


def group_of(name: str) -> str | None:
    """Give the conversation path `<aa>/<digest>` of a name below `k/`, and None for any other."""
    if not name.startswith(CONVERSATIONS):
        return None
    start = len(CONVERSATIONS)
    end = name.find("/", name.find("/", start) + 1)
    return name[start:end] if end > start else None
