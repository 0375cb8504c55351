"""Mailboxes of one process, for a server without `state_dir`: what is in them goes with the process."""

from __future__ import annotations

import asyncio
import bisect
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..errors import StateUnavailable
from ..updates import InboundUpdate
from .held import REMEMBERED
from .holds import backoff
from .mail import Letter
from .remembered import RememberedTurn
from .sizes import admit_size
from .transient import TransientConversations, TransientTurn

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

logger = logging.getLogger("agent_framework.hosting.state")

BUSY = 0.2


@dataclass(order=True, slots=True)
class Kept:
    """An accepted update and what became of it so far; they sort by the order of the platform."""

    order: str
    uid: str
    update: InboundUpdate = field(compare=False)
    trace: Mapping[str, str] = field(compare=False)
    attempts: int = field(default=0, compare=False)
    not_before: float = field(default=0.0, compare=False)
    results: list[bytes] = field(default_factory=list[bytes], compare=False)


class TransientMailboxes:
    """`Mailboxes` in memory; there are at most `memory_sessions` of them. Use it on one event loop."""

    def __init__(
        self,
        conversations: TransientConversations,
        *,
        wall: Callable[[], float] = time.time,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.conversations = conversations
        self.limits = conversations.limits
        self.wall = wall
        self.jitter = jitter
        self._boxes: dict[str, list[Kept]] = {}
        self._done: OrderedDict[str, float] = OrderedDict()

    async def accept(self, update: InboundUpdate, trace: Mapping[str, str]) -> bool:
        _, order, uid = Letter.of(update)
        self._forget()
        if uid in self._done:
            return False
        box = self._boxes.get(update.isolation_key, [])
        if (known := next((kept for kept in box if kept.uid == uid), None)) is not None:
            return not known.results
        if len(box) >= self.limits.mailbox_updates or (not box and len(self._boxes) >= self.limits.memory_sessions):
            raise StateUnavailable("There are too many unfinished updates in memory: no more are taken for now.")
        bisect.insort(self._boxes.setdefault(update.isolation_key, box), Kept(order, uid, update, trace))
        return True

    def _forget(self) -> None:
        while self._done:
            uid, when = next(iter(self._done.items()))
            if when > self.wall() - REMEMBERED:
                return
            del self._done[uid]

    async def take(self, key: str) -> TransientHeld | float | None:
        box = self._boxes.get(key)
        if not box:
            return None
        kept = next((kept for kept in box if kept.results), box[0])
        if (wait := kept.not_before - self.wall()) > 0:
            return wait
        try:
            leave = await self.conversations.queues.enter(key, 0)
        except TimeoutError:
            return BUSY
        kept.attempts += 1
        return TransientHeld(self, kept, leave)

    async def keys(self) -> AsyncIterator[str]:
        for key in [*self._boxes]:
            yield key

    async def close(self) -> None:
        return None

    def conclude(self, kept: Kept) -> None:
        """Forget an update, but not that it was there."""
        key = kept.update.isolation_key
        box = self._boxes.get(key, [])
        if kept in box:
            box.remove(kept)
        if not box:
            self._boxes.pop(key, None)
        self._done[kept.uid] = self.wall()


class TransientHeld:
    """A `HeldUpdate` in memory."""

    def __init__(self, box: TransientMailboxes, kept: Kept, leave: Callable[[], None]) -> None:
        self.update = kept.update
        self.attempt = kept.attempts
        self.trace = kept.trace
        self.active = True
        self._box = box
        self._kept = kept
        self._leave = leave
        self._begun = 0
        self._one_turn = asyncio.Lock()

    def guard(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext()

    async def turn(self) -> TransientTurn | RememberedTurn:
        await self._one_turn.acquire()
        leave = self._one_turn.release
        try:
            number, self._begun = self._begun, self._begun + 1
            conversations, key = self._box.conversations, self.update.isolation_key
            record = conversations.record(key)
            if number < len(self._kept.results):
                result = self._kept.results[number]
                return RememberedTurn("memory", key, record.session, result, snapshot=record.snapshot, leave=leave)
            admit_size(record.size, self._box.limits.session_bytes)
            turn = TransientUpdateTurn(conversations, key, record, None, leave)
            turn.results = self._kept.results
            turn.checkpoint = await conversations.load(record)
            return turn
        except BaseException:
            leave()
            raise

    async def done(self) -> None:
        self.active = False
        self._box.conclude(self._kept)
        self._leave()

    async def fail(self, error: str) -> None:
        self.active = False
        if self.attempt >= self._box.limits.update_attempts:
            logger.error("An update of channel %r was given up: %s", self.update.channel, error)
            self._box.conclude(self._kept)
        else:
            self._kept.not_before = self._box.wall() + backoff(self.attempt, self._box.jitter())
        self._leave()

    async def release(self) -> None:
        self.active = False
        self._kept.attempts -= 1
        self._leave()


class TransientUpdateTurn(TransientTurn):
    """A turn of an update; its result is kept until the update is done."""

    remembers = True
    results: list[bytes]

    async def commit(
        self, *, snapshot: bytes | None, checkpoint: WorkflowCheckpoint | None, result: bytes | None = None
    ) -> None:
        await super().commit(snapshot=snapshot, checkpoint=checkpoint)
        self.results.append(b"null" if result is None else result)
