"""Documents in the memory of this process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from itertools import count
from threading import Lock
from typing import Literal

from .names import check_name, check_prefix
from .store import ABSENT, UNCHANGED, Condition, Lost, Marker, Version


class MemoryStore:
    """A `StateStore` of one process. Nothing here waits, so an operation costs less than a microsecond.

    Beyond `max_documents` the least recently used document goes.
    """

    def __init__(self, *, max_documents: int | None = None) -> None:
        self._max_documents = max_documents
        self._lock = Lock()
        self._versions = count(1)
        self._documents: OrderedDict[str, tuple[bytes, Version]] = OrderedDict()

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        check_name(name)
        with self._lock:
            document = self._documents.get(name)
            if document is None:
                return None
            self._documents.move_to_end(name)
        return UNCHANGED if document[1] == unless else document

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        check_name(name)
        with self._lock:
            document = self._documents.get(name)
            if if_version is not None:
                found = ABSENT if document is None else document[1]
                if found != if_version:
                    raise Lost(f"{name} has changed: read it again before writing.")
            version = str(next(self._versions))
            self._documents[name] = (data, version)
            self._documents.move_to_end(name)
            if self._max_documents is not None and len(self._documents) > self._max_documents:
                self._documents.popitem(last=False)
        return version

    async def delete(self, name: str) -> None:
        check_name(name)
        with self._lock:
            self._documents.pop(name, None)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        check_prefix(prefix)
        with self._lock:
            found = [name for name in self._documents if name.startswith(prefix) and name > after]
        return sorted(found)[:limit]
