"""The turn protocol (`state-protocol.md`): who may run in a conversation, and what is kept of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar
from weakref import WeakSet

from ..errors import StateDamaged, TurnBusy, TurnRepeated, UnknownConversation
from ..keys import check_key, conversation_path
from ..limits import HostLimits
from .clock import Clock, Instant, SystemClock, elapsed
from .content import Content, load_content, load_text
from .head import Head, decode_head, freed, random_id
from .holding import Holding
from .queues import LocalQueues
from .renewal_thread import RenewalThread
from .sightings import Sightings, next_attempt
from .sizes import admit_size
from .store import UNCHANGED, Lost, StateStore, Version
from .turn import StoredTurn

if TYPE_CHECKING:
    from .checkpoints import CheckpointKeeper
    from .conversations import Admit

T = TypeVar("T")
logger = logging.getLogger("agent_framework.hosting.state")

_FIRST_POLL, _LAST_POLL = 0.02, 0.5


class StoredConversations:
    """`Conversations` in a store. Use it on one event loop."""

    def __init__(
        self,
        store: StateStore,
        limits: HostLimits,
        *,
        clock: Clock | None = None,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        thread: RenewalThread | None = None,
    ) -> None:
        self.store = store
        self.keeper: CheckpointKeeper | None = None
        self.limits = limits
        self.clock = clock or SystemClock()
        self.wall = wall
        self.jitter = jitter
        self.queues = LocalQueues()
        self.sightings = Sightings(self.clock)
        self._sleep = sleep
        self._thread = thread or RenewalThread()
        self._leased = WeakSet[StoredTurn]()

    async def begin(
        self,
        key: str,
        turn_id: str | None = None,
        *,
        fresh: bool = False,
        parent: str | None = None,
        existing: bool = False,
        to_reset: bool = False,
        admit: Admit | None = None,
    ) -> StoredTurn:
        path = conversation_path(check_key(key))
        take = _Take(key, path, turn_id, self.clock.now(), existing, to_reset)
        try:
            leave = await self.queues.enter(path, self.limits.turn_timeout.total_seconds())
        except TimeoutError:
            raise TurnBusy.of_conversation() from None
        try:
            turn = self._turn(take, None, None, leave) if fresh else await self._lease(take, leave)
            if parent is not None:
                try:
                    turn.snapshot, turn.checkpoint = await self.peek(parent, admit=admit)
                    turn.stored_key = parent
                except BaseException:
                    await turn.release()
                    raise
        except BaseException:
            leave()
            raise
        return turn

    def _turn(self, take: _Take, head: Head | None, version: Version | None, leave: Callable[[], None]) -> StoredTurn:
        holding = self.holding(take.path, take.key, head, version)
        return StoredTurn(holding, take.turn_id or random_id(), keeper=self.keeper, leave=leave, wall=self.wall)

    def holding(self, path: str, key: str, head: Head | None, version: Version | None) -> Holding:
        """Make what a conversation that was found like that is taken with."""
        return Holding(self.store, path, key, head, version, clock=self.clock, thread=self._thread)

    async def _lease(self, take: _Take, leave: Callable[[], None]) -> StoredTurn:
        ttl = self.limits.lease.total_seconds()
        head, version = await self.read(take.key, take.path)
        delay = _FIRST_POLL
        while True:
            if take.existing and is_absent(head):
                raise UnknownConversation()
            if head is not None and not take.to_reset and take.turn_id is not None and head.knows(take.turn_id):
                raise TurnRepeated.of_request()
            if self.sightings.remaining(take.path, head, ttl) == 0:
                if not take.to_reset:
                    self._admit_size(head)
                turn = self._turn(take, head, version, leave)
                try:
                    await turn.acquire(ttl=ttl, attempt=next_attempt(head), to_reset=take.to_reset)
                except Lost:
                    logger.debug("Another instance took the conversation first.")
                except BaseException:
                    await turn.release()
                    raise
                else:
                    self._leased.add(turn)
                    return turn
            if elapsed(take.start, self.clock.now()) + delay > self.limits.turn_timeout.total_seconds():
                raise TurnBusy.of_conversation()
            await self._sleep(delay * (0.75 + 0.5 * self.jitter()))
            delay = min(delay * 1.5, _LAST_POLL)
            head, version = await self.read(take.key, take.path, head, version)

    def _admit_size(self, head: Head | None) -> None:
        admit_size(0 if head is None else head.size, self.limits.session_bytes)

    async def read(
        self, key: str, path: str, known: Head | None = None, version: Version | None = None
    ) -> tuple[Head | None, Version | None]:
        """Read a conversation's head; `known` where it still has that version.

        Raises:
            StateDamaged: It cannot be read.
        """
        name = f"k/{path}/head"
        found = await self.store.get(name, unless=version)
        if found is UNCHANGED:
            return known, version
        if found is None:
            return None, None
        return decode_head(name, found[0], key), found[1]

    async def peek(self, key: str, *, admit: Admit | None = None) -> Content:
        async def load(head: Head | None) -> Content:
            if head is None or is_absent(head):
                raise UnknownConversation()
            if admit is not None:
                admit(await load_text(self.store, head.attachment))
            self._admit_size(head)
            return await load_content(self.store, head, self.keeper)

        return (await self._load(key, load)).value

    async def attachment(self, key: str) -> bytes | None:
        return (await self._load(key, self._attachment)).value

    async def overruling(self, key: str) -> tuple[StoredTurn, bytes | None]:
        attachment, head, version = await self._load(key, self._attachment)
        if head is None or is_absent(head):
            raise UnknownConversation()
        holding = self.holding(conversation_path(key), key, freed(head), version)
        holding.unremoved.update(head.garbage)
        return StoredTurn(holding, random_id(), keeper=self.keeper, wall=self.wall), attachment

    async def _attachment(self, head: Head | None) -> bytes | None:
        return None if head is None else await load_text(self.store, head.attachment)

    async def _load(self, key: str, load: Callable[[Head | None], Awaitable[T]]) -> _Loaded[T]:
        """Read a head, and what `load` reads of what it names."""
        path = conversation_path(check_key(key))
        head, version = await self.read(key, path)
        try:
            return _Loaded(await load(head), head, version)
        except StateDamaged:
            # What is large may have been replaced between the two reads.
            again, now = await self.read(key, path)
            if again is None or now == version:
                raise
            return _Loaded(await load(again), again, now)

    async def let_go(self) -> None:
        await asyncio.gather(*[turn.release() for turn in [*self._leased]])

    async def close(self) -> None:
        await self._thread.close()


def is_absent(head: Head | None) -> bool:
    """Whether there is no conversation: no turn of it was saved, or it was removed."""
    return head is None or head.deleted is not None or not head.log


class _Loaded(NamedTuple, Generic[T]):
    """What was read of a conversation, and the head that named it."""

    value: T
    head: Head | None
    version: Version | None


@dataclass(frozen=True, slots=True)
class _Take:
    """One attempt to begin a turn."""

    key: str
    path: str
    turn_id: str | None
    start: Instant
    existing: bool
    to_reset: bool
