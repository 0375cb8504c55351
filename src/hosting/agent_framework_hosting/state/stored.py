"""The turn protocol (`state-protocol.md`): who may run in a conversation, and what is kept of it."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import InvalidRequest, StateDamaged, TurnBusy, TurnRepeated
from ..keys import check_key, conversation_path
from ..limits import HostLimits
from .clock import Clock, Instant, SystemClock, elapsed
from .content import Content, load_content
from .head import Head, decode_head, random_id
from .holding import Holding
from .queues import LocalQueues
from .renewal import RenewalThread
from .sizes import admit_size
from .store import UNCHANGED, Lost, StateStore, Version
from .turn import StoredTurn

if TYPE_CHECKING:
    from .checkpoints import CheckpointKeeper

logger = logging.getLogger("agent_framework.hosting.state")

_FIRST_POLL, _LAST_POLL = 0.02, 0.5
_REMEMBERED = 10_000


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
        self._limits = limits
        self._clock = clock or SystemClock()
        self._wall = wall
        self._sleep = sleep
        self._jitter = jitter
        self._queues = LocalQueues()
        self._thread = thread or RenewalThread()
        self._seen: OrderedDict[str, tuple[str, Instant]] = OrderedDict()

    async def begin(
        self,
        key: str,
        turn_id: str | None = None,
        *,
        fresh: bool = False,
        parent: str | None = None,
        to_reset: bool = False,
    ) -> StoredTurn:
        path = conversation_path(check_key(key))
        take = _Take(key, path, turn_id or random_id(), self._clock.now(), to_reset)
        try:
            leave = await self._queues.enter(path, self._limits.turn_timeout.total_seconds())
        except TimeoutError:
            raise TurnBusy.of_conversation() from None
        try:
            turn = self._turn(take, None, None, leave) if fresh else await self._lease(take, leave)
            if parent is not None:
                try:
                    turn.snapshot, turn.checkpoint = await self.peek(parent)
                    turn.stored_key = parent
                except BaseException:
                    await turn.release()
                    raise
        except BaseException:
            leave()
            raise
        return turn

    def _turn(self, take: _Take, head: Head | None, version: Version | None, leave: Callable[[], None]) -> StoredTurn:
        holding = Holding(self.store, take.path, take.key, head, version, clock=self._clock, thread=self._thread)
        return StoredTurn(holding, take.turn_id, keeper=self.keeper, leave=leave, wall=self._wall)

    async def _lease(self, take: _Take, leave: Callable[[], None]) -> StoredTurn:
        ttl = self._limits.lease.total_seconds()
        head, version = await self._read(take.key, take.path)
        delay = _FIRST_POLL
        while True:
            if head is not None and not take.to_reset and head.knows(take.turn_id):
                raise TurnRepeated.of_request()
            attempt = self._next_attempt(take.path, head, ttl)
            if attempt is not None:
                if not take.to_reset:
                    self._admit_size(head)
                turn = self._turn(take, head, version, leave)
                try:
                    await turn.acquire(ttl=ttl, attempt=attempt, to_reset=take.to_reset)
                except Lost:
                    logger.debug("Another instance took the conversation first.")
                except BaseException:
                    await turn.release()
                    raise
                else:
                    return turn
            if elapsed(take.start, self._clock.now()) + delay > self._limits.turn_timeout.total_seconds():
                raise TurnBusy.of_conversation()
            await self._sleep(delay * (0.75 + 0.5 * self._jitter()))
            delay = min(delay * 1.5, _LAST_POLL)
            head, version = await self._read(take.key, take.path, head, version)

    def _next_attempt(self, path: str, head: Head | None, ttl: float) -> int | None:
        """Give the number of the attempt that may begin now, or None while a live holder has the lease.

        A holder counts as dead after one `rev` was seen unchanged for as long as any lease in play.
        """
        if head is None or head.lease is None:
            self._seen.pop(path, None)
            return 1
        now = self._clock.now()
        seen = self._seen.get(path)
        if seen is None or seen[0] != head.rev:
            self._seen[path] = (head.rev, now)
            self._seen.move_to_end(path)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return None
        if elapsed(seen[1], now) < max(ttl, head.lease.ttl):
            return None
        return head.lease.attempt + 1

    def _admit_size(self, head: Head | None) -> None:
        admit_size(0 if head is None else head.size, self._limits.session_bytes)

    async def _read(
        self, key: str, path: str, known: Head | None = None, version: Version | None = None
    ) -> tuple[Head | None, Version | None]:
        name = f"k/{path}/head"
        found = await self.store.get(name, unless=version)
        if found is UNCHANGED:
            return known, version
        if found is None:
            return None, None
        return decode_head(name, found[0], key), found[1]

    async def peek(self, key: str) -> Content:
        """Read a conversation's session and checkpoint without taking it.

        Raises:
            InvalidRequest: There is no such conversation.
        """
        path = conversation_path(check_key(key))
        head, version = await self._read(key, path)
        if head is None or head.deleted is not None:
            raise InvalidRequest("session", "There is no such conversation to continue from.")
        self._admit_size(head)
        try:
            return await load_content(self.store, head, self.keeper)
        except StateDamaged:
            # Its large snapshot may have been replaced between the two reads.
            again, now = await self._read(key, path)
            if again is None or now == version:
                raise
            return await load_content(self.store, again, self.keeper)

    async def close(self) -> None:
        await self._thread.close()


@dataclass(frozen=True, slots=True)
class _Take:
    """One attempt to begin a turn."""

    key: str
    path: str
    turn_id: str
    start: Instant
    to_reset: bool
