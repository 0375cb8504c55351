"""What of a state may go, and the prune that removes it beside live traffic.

Every decision rests on a head that was read, and holds however late it is carried out: `tombstones` has the argument
for each kind of document. An idle conversation goes by compare-and-swap of its head alone: who uses it first wins. A
prune may be killed, stopped or repeated at any point.

`in/` is left alone. Documents in `dead/` and those of channels that have a `when` go by their age. The former are
written once, within the day in which an update can be delivered again. Of the latter a channel must be able to miss
one, for it may have been written again under its name while the prune was stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import groupby
from typing import NamedTuple

from ..errors import ConfigurationError, StateDamaged
from .archives import decode_archive
from .bounded import BoundedStore, each
from .documents import (
    BATCH,
    CHANNELS,
    CONVERSATIONS,
    SET_ASIDE,
    WAITING,
    Part,
    all_names,
    find_head,
    head_name,
    is_superseded,
    is_tombstone,
    pages,
    part_of,
    path_of,
    when_of,
)
from .head import Head, encode_head
from .settle import settled_put
from .store import Lost, StateStore, Version, read
from .tombstones import OPERATIONS, REPEATED_FOR, bury, purge, remove

SETTLE = 60.0
LOOKED_AT_AGAIN = 10_000


@dataclass
class Pruned:
    """What a prune has done so far, or with `dry_run` would.

    `seen` counts the documents that were looked at, `conversations` the idle ones that were removed, `documents` all
    that were removed. `stamped` were written by an earlier release and age from now on; `postponed` were in doubt,
    and are left to a next prune. `damaged` names what could not be read, which was kept.
    """

    seen: int = 0
    conversations: int = 0
    documents: int = 0
    stamped: int = 0
    postponed: int = 0
    damaged: set[str] = field(default_factory=set[str])


class Doubt(NamedTuple):
    """A conversation to look at again: its head's `rev` (None: it had none), and the highest epoch of its documents."""

    rev: str | None
    epoch: int


class Pruner:
    """Removes from `stores` (see `documents.stores_of`) what is garbage, or was idle for `retention` (None: for ever).

    At most `operations` are under way at once, on `batch` documents. What may belong to a turn that is just being
    saved, or to a holder that may be alive, is looked at again after `settle` seconds. `progress` is called after each
    batch.
    """

    def __init__(
        self,
        stores: Sequence[StateStore],
        *,
        retention: timedelta | None,
        settle: float = SETTLE,
        dry_run: bool = False,
        batch: int = BATCH,
        operations: int = OPERATIONS,
        progress: Callable[[Pruned], None] = lambda pruned: None,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        slots = asyncio.Semaphore(operations)
        self.pruned = Pruned()
        self._stores = [BoundedStore(store, slots, sleep=sleep) for store in stores]
        self._sessions = self._stores[0]
        self._retention = None if retention is None else retention.total_seconds()
        self._settle = settle
        self._dry_run = dry_run
        self._batch = batch
        self._progress = progress
        self._clock = clock
        self._sleep = sleep
        self._doubts: dict[str, Doubt] = {}
        self._idle: set[str] = set()  # of a dry run, which meets them again

    async def run(self) -> Pruned:
        """Prune once.

        Raises:
            ConfigurationError: There are checkpoints, and no conversations that could name them.
            StateUnavailable: The store did not answer; what was done is done, and the rest is left to a next prune.
        """
        for store in self._stores:
            if store is not self._sessions and await self._is_elsewhere(store):
                raise ConfigurationError(
                    "There are checkpoints here and no conversations at all: is this the place of the host's sessions? "
                    "Nothing was removed. Name the host (--host), which knows both places."
                )
            await self._prune_conversations(store)
        if self._retention is not None:
            for prefix in (SET_ASIDE, CHANNELS):
                async for names in pages(self._sessions, prefix, self._batch):
                    await each(names, self._prune_dated)
                    self._seen(names)
        await self._look_again()
        return self.pruned

    def _count(self, removed: int) -> None:
        # Never `+= await …`: others count meanwhile.
        self.pruned.documents += removed

    def _seen(self, names: Sequence[str]) -> None:
        self.pruned.seen += len(names)
        self._progress(self.pruned)

    async def _is_elsewhere(self, checkpoints: StateStore) -> bool:
        """Whether there are checkpoints without a single conversation."""
        if not await checkpoints.list(CONVERSATIONS, limit=1):
            return False
        return not await self._sessions.list(CONVERSATIONS, limit=1)

    async def _prune_conversations(self, store: StateStore) -> None:
        async for names in pages(store, CONVERSATIONS, self._batch):
            grouped = [(path, list(group)) for path, group in groupby(names, path_of) if path is not None]
            await each(grouped, lambda group: self._prune_conversation(store, *group))
            self._seen(names)

    async def _prune_conversation(self, store: StateStore, path: str, names: Sequence[str]) -> None:
        parts = [part for part in map(part_of, names) if part is not None]
        try:
            found = await find_head(self._sessions, path)
        except StateDamaged as error:
            self.pruned.damaged.add(error.name)
            return
        if found is None:
            if parts:
                self._doubt(path, Doubt(None, max(part.epoch for part in parts)))
            return
        head = found[0]
        unused = head.deleted is None and self._is_unused(head)
        if unused and head.lease is not None:
            if head.lease.ttl <= self._settle:
                self._doubt(path, Doubt(head.rev, 0))
            else:
                self.pruned.postponed += 1
        elif unused and await self._let_go(path, found, parts):
            return
        if head.deleted is not None:
            await self._finish(path, head)
            await self._clear(path, found)
        await self._remove(store, [part.name for part in parts if is_superseded(part, head)])
        if not is_tombstone(head):
            archives = [part for part in parts if part.kind == "s" and part.name not in head.garbage]
            await self._prune_archives(store, archives)

    def _doubt(self, path: str, doubt: Doubt) -> None:
        if path in self._doubts:
            doubt = max(doubt, self._doubts[path], key=lambda doubt: doubt.epoch)
        elif len(self._doubts) >= LOOKED_AT_AGAIN:
            self.pruned.postponed += 1
            return
        self._doubts[path] = doubt

    def _is_unused(self, head: Head) -> bool:
        """Whether a head is idle or has never been dated; a lease, which may be a dead one, apart."""
        return self._retention is not None and head.ran is None and (head.when == 0 or self._is_old(head.when))

    def _is_old(self, when: float) -> bool:
        return self._retention is not None and self._clock() - when > self._retention

    async def _let_go(self, path: str, found: tuple[Head, Version], parts: Sequence[Part] = ()) -> bool:
        """Remove an idle conversation, or date one that was not; False if it stays."""
        head, version = found
        if head.when == 0:
            self.pruned.stamped += 1
            await self._replace(path, head.next(when=self._clock()), version)
            return False
        if await self._sessions.list(f"{WAITING}{path}/", limit=1):
            return False
        if self._dry_run:
            self._idle.add(path)
            self.pruned.conversations = len(self._idle)
            self.pruned.documents += len(parts)
            return True
        archives = await all_names(self._sessions, f"{CONVERSATIONS}{path}/s/")
        try:
            tombstone = await bury(self._sessions, path, found, now=self._clock(), archives=archives)
        except Lost:  # Somebody uses it.
            return True
        self.pruned.conversations += 1
        self._count(await purge(self._stores, path, tombstone))
        return True

    async def _finish(self, path: str, head: Head) -> None:
        """Remove the updates that a late holder has written once more after they were deleted."""
        if is_tombstone(head) and head.done and not self._dry_run:
            self._count(await purge(self._stores, path, head, updates=True))

    async def _clear(self, path: str, found: tuple[Head, Version]) -> None:
        """Make a tombstone small once no platform delivers its updates again."""
        head, version = found
        if not is_tombstone(head) or not (head.done or head.garbage):
            return
        fresh = any(self._clock() - when < 2 * REPEATED_FOR for when in (head.deleted or 0.0, *head.done.values()))
        if not fresh and not await self._sessions.list(f"{WAITING}{path}/", limit=1):
            await self._replace(path, head.next(done={}, garbage=()), version)

    async def _replace(self, path: str, head: Head, version: Version) -> None:
        if not self._dry_run:
            with contextlib.suppress(Lost):
                await settled_put(self._sessions, head_name(path), encode_head(head), if_version=version)

    async def _remove(self, store: StateStore, names: Sequence[str]) -> None:
        self._count(len(names) if self._dry_run else await remove(store, names))

    async def _prune_archives(self, store: StateStore, archives: Sequence[Part]) -> None:
        """Remove the old ones, in the order of their making: what follows one that stays is not even read."""
        if self._retention is None:
            return
        for archive in sorted(archives, key=lambda part: part.epoch):
            found = await read(store, archive.name)
            if found is None:
                continue
            decoded = decode_archive(found[0])
            if decoded is None:
                self.pruned.damaged.add(archive.name)
            elif decoded.when > 0:
                if not self._is_old(decoded.when):
                    return
                await self._remove(store, [archive.name])

    async def _prune_dated(self, name: str) -> None:
        found = await read(self._sessions, name)
        when = None if found is None else when_of(found[0])
        if when is not None and self._is_old(when):
            await self._remove(self._sessions, [name])

    async def _look_again(self) -> None:
        if not self._doubts or self._dry_run:
            self.pruned.postponed += len(self._doubts)
            return
        await self._sleep(self._settle)
        await each(self._doubts.items(), lambda doubted: self._decide(*doubted))
        self._progress(self.pruned)

    async def _decide(self, path: str, doubt: Doubt) -> None:
        try:
            found = await find_head(self._sessions, path)
        except StateDamaged as error:
            self.pruned.damaged.add(error.name)
            return
        if found is None and doubt.rev is None:
            # First a head that the commit of a frozen turn will meet, so that it names nothing which is gone.
            try:
                tombstone = await bury(self._sessions, path, None, now=self._clock(), epoch=doubt.epoch)
            except Lost:
                return
            self._count(await purge(self._stores, path, tombstone))
        elif found is not None and found[0].rev == doubt.rev:  # A live holder would have renewed.
            await self._let_go(path, found)
