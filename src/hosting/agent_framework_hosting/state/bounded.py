"""Stores for work on very many documents beside live traffic: few operations at once, and patience."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Literal, Protocol, TypeVar, runtime_checkable

from ..errors import StateUnavailable
from .store import Condition, Marker, StateStore, Version

T = TypeVar("T")
TRIES = 4
FIRST_PAUSE = 0.2


@runtime_checkable
class KeepsVersions(Protocol):
    """A store that has the last contents of a document until it is written again, so many in all."""

    kept_versions: int


def kept_versions(store: StateStore) -> int:
    return store.kept_versions if isinstance(store, KeepsVersions) else 1


class BoundedStore:
    """A store with at most as many operations under way as `slots` has, which several stores may share.

    What may be repeated without harm (all but `put`) is tried up to four times in all.
    """

    def __init__(
        self,
        store: StateStore,
        slots: asyncio.Semaphore,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.kept_versions = kept_versions(store)
        self._store = store
        self._slots = slots
        self._sleep = sleep
        self._jitter = jitter

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        return await self._repeated(lambda: self._store.get(name, unless=unless))

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        async with self._slots:
            return await self._store.put(name, data, if_version=if_version)

    async def delete(self, name: str) -> None:
        await self._repeated(lambda: self._store.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return await self._repeated(lambda: self._store.list(prefix, after=after, limit=limit))

    async def _repeated(self, operation: Callable[[], Awaitable[T]]) -> T:
        pause = FIRST_PAUSE
        for _ in range(TRIES - 1):
            try:
                async with self._slots:
                    return await operation()
            except StateUnavailable:
                await self._sleep(pause * (0.5 + self._jitter()))
                pause *= 3
        async with self._slots:
            return await operation()


async def each(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Do `work` on all items at once and wait for all of it, also where one fails.

    Raises:
        Exception: What the first of them raised that failed.
    """
    for outcome in await asyncio.gather(*map(work, items), return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome
