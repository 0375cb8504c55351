"""Deleting conversations on request, one or all that somebody took part in.

Only what was first seen is deleted. If a conversation was removed and begun anew while whoever deletes it was stopped,
the new one stays: it shares neither the lease nor a turn nor a document with the old one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from ..errors import TurnConflict
from ..keys import check_key, conversation_path
from .belonging import Candidate
from .bounded import BoundedStore, each
from .documents import (
    CONVERSATIONS,
    SET_ASIDE,
    WAITING,
    all_names,
    find_head,
    is_tombstone,
    named_by,
    part_of,
    uid_of,
)
from .head import Head
from .retention import SETTLE
from .store import Lost, StateStore
from .tombstones import OPERATIONS, bury, purge, remove

TRIES = 20


@dataclass
class Deleted:
    """How much was deleted.

    `foreign` are checkpoints in a storage of the user's own, which are left to its owner. `interrupted` are the paths
    and tombstones of conversations in which a turn was running.
    """

    conversations: int = 0
    documents: int = 0
    foreign: list[str] = field(default_factory=list[str])
    interrupted: dict[str, Head] = field(default_factory=dict[str, Head])

    def count(self, documents: int) -> None:
        # Never `+= await …`: others count meanwhile.
        self.documents += documents


class Deleter:
    """Deletes from `stores` (see `documents.stores_of`) what a `Finder` has found there.

    At most `operations` are under way at once.
    """

    def __init__(
        self,
        stores: Sequence[StateStore],
        *,
        operations: int = OPERATIONS,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        slots = asyncio.Semaphore(operations)
        self._stores = [BoundedStore(store, slots, sleep=sleep) for store in stores]
        self._sessions = self._stores[0]
        self._clock = clock
        self._sleep = sleep

    async def delete(self, conversations: Sequence[Candidate], documents: Sequence[str] = ()) -> Deleted:
        """Delete what was found. A turn that is running cannot be saved any more.

        Raises:
            TurnConflict: A conversation was begun anew, or taken over, meanwhile; it was left as it is.
            StateDamaged: A head cannot be read.
            StateUnavailable: The store did not answer. Do it again.
        """
        deleted = Deleted()

        async def delete_one(candidate: Candidate) -> None:
            tombstone, interrupted = await self._bury(candidate)
            if interrupted:
                deleted.interrupted[candidate.path] = tombstone
            if candidate.head is None or not is_tombstone(candidate.head):
                deleted.conversations += 1
            if (foreign := foreign_checkpoint(candidate)) is not None:
                deleted.foreign.append(foreign)
            deleted.count(await purge(self._stores, candidate.path, tombstone, updates=True))
            deleted.count(await remove(self._sessions, candidate.documents))

        await each(conversations, delete_one)
        deleted.count(await remove(self._sessions, documents))
        return deleted

    async def delete_rest(self, deleted: Deleted, *, after: float = SETTLE) -> None:
        """Delete what turns that were interrupted have still written, `after` so many seconds.

        A prune does that too, and finds what comes even later, from a holder that was stopped.
        """
        if deleted.interrupted:
            await self._sleep(after)
        for path, tombstone in deleted.interrupted.items():
            deleted.count(await purge(self._stores, path, tombstone, updates=True))

    async def _bury(self, candidate: Candidate) -> tuple[Head, bool]:
        """Give the tombstone, and whether a turn may have been running."""
        first = candidate.head
        for _ in range(TRIES):
            found = await find_head(self._sessions, candidate.path)
            head = None if found is None else found[0]
            unchanged = first is None if head is None else first is not None and first.rev == head.rev
            if head is not None and is_tombstone(head) and not unchanged:
                return head, True
            if not unchanged and (first is None or head is None or not continues(first, head)):
                break
            # Before the tombstone: what comes after it is no part of what is deleted.
            names = [name for place in (WAITING, SET_ASIDE) for name in await self._names(place, candidate.path)]
            if head is not None and is_tombstone(head) and head.done.keys() >= set(map(uid_of, names)):
                return head, False
            archives = await self._names(CONVERSATIONS, candidate.path, "s/")
            try:
                tombstone = await bury(
                    self._sessions,
                    candidate.path,
                    found,
                    now=self._clock(),
                    epoch=await self._epoch(candidate.path) if head is None else 0,
                    updates=map(uid_of, names),
                    archives=archives,
                )
            except Lost:
                continue
            return tombstone, head is None or head.lease is not None
        raise TurnConflict(
            f"The conversation {candidate.path[3:15]} was begun anew, or taken over, while it was being deleted, and "
            "was left as it is. Look at it (af-hosting state show), and delete it again if it is still to go."
        )

    async def _names(self, place: str, path: str, below: str = "") -> list[str]:
        return await all_names(self._sessions, f"{place}{path}/{below}")

    async def _epoch(self, path: str) -> int:
        names = [name for store in self._stores for name in await all_names(store, f"{CONVERSATIONS}{path}/")]
        return max((part.epoch for part in map(part_of, names) if part is not None), default=0)


async def delete_conversation(stores: Sequence[StateStore], key: str) -> bool:
    """Delete one conversation, but for the documents that its channel has elsewhere; False if there is none.

    Raises:
        TurnConflict, StateDamaged, StateUnavailable: As `Deleter.delete`.
    """
    path = conversation_path(check_key(key))
    found = await find_head(stores[0], path)
    if found is None or is_tombstone(found[0]):
        return False
    await Deleter(stores).delete([Candidate(path, key, found[0])])
    return True


def continues(before: Head, now: Head) -> bool:
    """Whether two heads are certainly of one conversation, not of one that was removed and begun anew in between."""
    return (
        before.rev == now.rev
        or (before.lease is not None and now.lease is not None and before.lease.token == now.lease.token)
        or not set(before.log).isdisjoint(now.log)
        or not named_by(before).isdisjoint(named_by(now))
    )


def foreign_checkpoint(candidate: Candidate) -> str | None:
    checkpoint = None if candidate.head is None else candidate.head.checkpoint
    ours = f"{CONVERSATIONS}{candidate.path}/"
    return None if checkpoint is None or checkpoint.name.startswith(ours) else checkpoint.name
