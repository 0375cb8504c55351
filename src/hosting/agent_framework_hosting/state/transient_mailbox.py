"""Mailboxes of one process, for a server without `state_dir`: what is in them goes with the process."""

from __future__ import annotations

import asyncio
import bisect
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import StateUnavailable, TurnConflict
from ..updates import InboundUpdate, Standing
from .conversations import Left
from .held import REMEMBERED, entered
from .holds import backoff
from .mail import Letter, uid_of
from .remembered import RememberedTurn
from .sizes import admit_size
from .transient import TransientConversations, TransientTurn

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from .mailboxes import HeldUpdate

logger = logging.getLogger("agent_framework.hosting.state")

BUSY = 0.2
MOST_DONE = 100_000


@dataclass(order=True, slots=True)
class Kept:
    """An accepted update and what became of it so far; they sort by the order of the platform."""

    order: str
    uid: str
    update: InboundUpdate = field(compare=False)
    trace: Mapping[str, str] = field(compare=False)
    attempts: int = field(default=0, compare=False)
    not_before: float = field(default=0.0, compare=False)
    results: dict[int, bytes] = field(default_factory=dict[int, bytes], compare=False)
    left: Left | None = field(default=None, compare=False)


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
        self._working: dict[str, TransientHeld] = {}
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
            if when > self.wall() - REMEMBERED and len(self._done) <= MOST_DONE:
                return
            del self._done[uid]

    async def take(self, key: str) -> HeldUpdate | float | None:
        if key not in self._boxes:
            return None
        try:
            leave = await self.conversations.queues.enter(key, 0)
        except TimeoutError:
            return BUSY
        # Now nobody else concludes what is taken here.
        box = self._boxes.get(key)
        kept = next((kept for kept in box if kept.results), box[0]) if box else None
        wait = 0.0 if kept is None else kept.not_before - self.wall()
        if kept is None or wait > 0:
            leave()
            return None if kept is None else wait
        kept.attempts += 1

        def end() -> None:
            del self._working[kept.uid]
            leave()

        held = self._working[kept.uid] = TransientHeld(self, kept, end)
        return held

    async def standing(self, update: InboundUpdate) -> Standing | None:
        uid = uid_of(update)
        if uid in self._working:
            return "working"
        return "waiting" if any(kept.uid == uid for kept in self._boxes.get(update.isolation_key, [])) else None

    async def interrupt(self, update: InboundUpdate) -> None:
        if (held := self._working.get(uid_of(update))) is not None:
            held.interrupt()

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
        update = kept.update
        expired = update.expires is not None and update.expires <= box.wall()
        token = None if expired else update.reply_token
        self.update = replace(update, reply_token=token, attempt=kept.attempts)
        self.attempt = kept.attempts
        self.trace = kept.trace
        self.active = True
        self._box = box
        self._kept = kept
        self._leave = leave
        self._begun = 0
        self._one_turn = asyncio.Lock()
        self._interrupted = False
        self._scope: asyncio.Timeout | None = None

    @property
    def begun(self) -> bool:
        return self._box.conversations.find(self.update.isolation_key) is not None

    @asynccontextmanager
    async def guard(self) -> AsyncGenerator[None]:
        self.check()
        try:
            async with asyncio.timeout(None) as self._scope:
                yield
        except TimeoutError:
            self.check()
            raise
        finally:
            self._scope = None

    def interrupt(self) -> None:
        """Cancel the body of `guard`."""
        if not self._interrupted:
            self._interrupted = True
            if self._scope is not None:
                self._scope.reschedule(0)

    async def turn(self, *, to_reset: bool = False) -> TransientTurn | RememberedTurn:
        await entered(self._one_turn, self._box.limits.turn_timeout.total_seconds())
        leave = self._one_turn.release
        try:
            self.check()
            number, self._begun = self._begun, self._begun + 1
            conversations, key = self._box.conversations, self.update.isolation_key
            record = conversations.record(key)
            if (result := self._kept.results.get(number)) is not None:
                left = self._kept.left or Left(record.snapshot, None)
                return RememberedTurn("memory", key, record.session, result, **left._asdict(), leave=leave)
            if not to_reset:
                admit_size(record.size, self._box.limits.session_bytes)
            turn = TransientUpdateTurn(conversations, key, record, None, leave)
            turn.held, turn.number = self, number
            if not to_reset:
                turn.checkpoint = await conversations.load(record)
            return turn
        except BaseException:
            leave()
            raise

    def check(self) -> None:
        """Make sure that the update may still have turns.

        Raises:
            TurnConflict: It is concluded.
        """
        if not self.active:
            raise TurnConflict("The update of this turn is concluded: have on_update return after its last turn.")
        if self._interrupted:
            raise TurnConflict("This attempt at an update was interrupted; nothing more of it is saved.")

    def remember(self, number: int, result: bytes, left: Left | None = None) -> None:
        """Keep what came of a turn, and what it has left if that is to be copied."""
        self._kept.results[number] = result
        self._kept.left = left or self._kept.left

    async def done(self) -> HeldUpdate | None:
        self.active = False
        self._box.conclude(self._kept)
        self._leave()

    async def fail(self, error: str, *, final: bool = False) -> None:
        self.active = False
        if final or self.attempt >= self._box.limits.update_attempts:
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
    held: TransientHeld
    number: int

    def check(self) -> None:
        self.held.check()

    async def commit(
        self,
        *,
        snapshot: bytes | None,
        checkpoint: WorkflowCheckpoint | None,
        result: bytes | None = None,
        attachment: bytes | None = None,
    ) -> None:
        self.check()
        await super().commit(snapshot=snapshot, checkpoint=checkpoint, attachment=attachment)
        left = Left(snapshot, checkpoint) if self.to_copy else None
        self.held.remember(self.number, b"null" if result is None else result, left)

    async def amend(self, attachment: bytes) -> None:
        self.check()
        await super().amend(attachment)
        self.held.remember(self.number, b"null")
