"""What the turn protocol needs of a store: four operations on named byte documents."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Final, Literal, Protocol, runtime_checkable

from ..errors import HostingError, StateUnavailable

Version = str
"""Opaque; different for every write of a document, also for equal bytes."""


class Marker(Enum):
    ABSENT = "absent"
    UNCHANGED = "unchanged"


ABSENT: Final = Marker.ABSENT
UNCHANGED: Final = Marker.UNCHANGED

Condition = Version | Literal[Marker.ABSENT] | None
"""What `put` expects to find: that version, nothing at all, or (None) anything."""


class Lost(HostingError):
    """Another write certainly won; this one left no trace."""


class Unknown(StateUnavailable):
    """A write may or may not have been applied; reading back tells."""


@runtime_checkable
class StateStore(Protocol):
    """Named documents with conditional writes.

    Names are `/`-separated segments of `A-Za-z0-9._-` that the host makes; each segment is at most 200
    characters and never `.` or `..`. A store is bound to no event loop: any loop of any thread may call it.
    Every operation raises `StateUnavailable` when the store does not answer in bounded time.
    """

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        """Read a whole document; None where there is none, `UNCHANGED` where its version is still `unless`."""
        ...

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        """Write a whole document.

        Raises:
            Lost: `if_version` did not hold, for certain.
            Unknown: It may have been applied (a conflict, time-out or dropped connection; `settle` decides).
        """
        ...

    async def delete(self, name: str) -> None:
        """Remove a document whose name is never used again; removing what is absent is not an error."""
        ...

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        """Names that start with `prefix` and sort after `after`, in name order, at most `limit`."""
        ...


async def read(store: StateStore, name: str) -> tuple[bytes, Version] | None:
    """Read a whole document; None where there is none."""
    found = await store.get(name)
    assert found is not UNCHANGED  # That is an answer to `unless` only.
    return found


class ScopedStore:
    """The part of a store below a prefix, as a store of its own."""

    def __init__(self, store: StateStore, prefix: str) -> None:
        self._store = store
        self._prefix = prefix.rstrip("/") + "/"

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        return await self._store.get(self._prefix + name, unless=unless)

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        return await self._store.put(self._prefix + name, data, if_version=if_version)

    async def delete(self, name: str) -> None:
        await self._store.delete(self._prefix + name)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        skip = len(self._prefix)
        names = await self._store.list(self._prefix + prefix, after=self._prefix + after if after else "", limit=limit)
        return [name[skip:] for name in names]
