"""An update that is being worked on: its turns, and how it is concluded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import TurnBusy, TurnConflict
from ..shielding import shielded, together
from .content import NOTHING, Content, Unreadable, load_content, place_text, remove, superseded
from .head import Head, Hold, Ran, Snapshot, random_id, uncounted
from .holding import Holding
from .holds import backoff
from .mail import Letter, Waiting
from .remembered import RememberedTurn
from .sizes import admit_size
from .turn import Leaving, StoredTurn

if TYPE_CHECKING:
    from .mailbox import StoredMailboxes

REMEMBERED = 90_000.0
"""Seconds for which an update that is done is known at least: a day, by clocks that may differ."""


class Found(NamedTuple):
    """What was read for an update: the conversation, or why it cannot be read; and what earlier turns of it gave."""

    content: Content | Unreadable = NOTHING
    results: tuple[bytes, ...] | Unreadable = ()


class StoredHeld:
    """A `HeldUpdate` of a conversation in a store; `leave` ends this process's turn in the conversation."""

    def __init__(
        self,
        box: StoredMailboxes,
        holding: Holding,
        letter: Letter,
        waiting: Waiting,
        found: Found,
        *,
        leave: Callable[[], None],
    ) -> None:
        self.attempt = holding.head.hold[letter.uid].attempts
        self.update = waiting.update(box.wall(), self.attempt)
        self.trace: Mapping[str, str] = waiting.trace
        self.active = True
        self.holding = holding
        self.letter = letter
        self._box = box
        self._waiting = waiting
        self._content: Content | Unreadable | None = found.content
        self._snapshot = None if isinstance(found.content, Unreadable) else found.content.snapshot
        self._results = found.results
        self._leave = leave
        self._begun = 0
        self._following: StoredHeld | None = None
        self._one_turn = asyncio.Lock()
        self.writing = asyncio.Lock()
        """Held while a turn is saved, or the update is concluded."""

    @property
    def begun(self) -> bool:
        return bool(self.holding.head.log)

    def guard(self) -> AbstractAsyncContextManager[Any]:
        return self.holding.guard()

    async def turn(self, *, to_reset: bool = False) -> StoredTurn | RememberedTurn:
        await entered(self._one_turn, self._box.limits.turn_timeout.total_seconds())
        try:
            self.check()
            number, self._begun = self._begun, self._begun + 1
            leave = self._one_turn.release
            if isinstance(self._results, Unreadable):
                raise self._results.error
            if number < len(self._results) and self._results[number]:
                return await self._remembered(self._results[number], leave)
            if not to_reset:
                admit_size(self.holding.head.size, self._box.limits.session_bytes)
            return UpdateTurn(self, number, await self._go_on_from(to_reset), self._box, leave=leave)
        except BaseException:
            self._one_turn.release()
            raise

    def check(self) -> None:
        """Make sure that the update may still have turns.

        Raises:
            TurnConflict: The lease was lost, or the update is concluded.
        """
        if not self.active:
            raise TurnConflict("The update of this turn is concluded: have on_update return after its last turn.")
        self.holding.check()

    async def _go_on_from(self, to_reset: bool) -> Content:
        """Give what the next turn finds: what was read with the lease, or what the turn before it has saved."""
        box = self._box
        if to_reset:
            return await load_content(box.store, self.holding.head, box.keeper, to_reset=True)
        if self._content is None:
            self._content = await box.continued(self.holding.head, self._snapshot)
        if isinstance(self._content, Unreadable):
            raise self._content.error
        return self._content

    async def _remembered(self, result: bytes, leave: Callable[[], None]) -> RememberedTurn:
        holding, box = self.holding, self._box
        left = Content(self._snapshot)
        if (ran := holding.head.ran) is not None and (ran.snapshot or ran.checkpoint):
            left = await load_content(
                box.store, holding.head.next(snapshot=ran.snapshot, checkpoint=ran.checkpoint), box.keeper
            )
        return RememberedTurn(
            holding.name,
            holding.key,
            holding.head.session,
            result,
            snapshot=left.snapshot,
            checkpoint=left.checkpoint,
            check=self.check,
            leave=leave,
        )

    def saved(self, snapshot: bytes | None) -> None:
        """Have a further turn go on from what one has saved."""
        self._content, self._snapshot = None, snapshot

    async def done(self) -> StoredHeld | None:
        self.active = False
        try:
            return await shielded(self._done())
        except asyncio.CancelledError:
            if self._following is not None:  # Nobody is there any more to work on it.
                await self._following.release()
            raise

    async def _done(self) -> StoredHeld | None:
        async with self.writing:
            return await self._concluded()

    async def _concluded(self) -> StoredHeld | None:
        box, before = self._box, self.holding.head
        box.meanwhile(remove(box.store, box.keeper, before.garbage))
        try:
            following, listed = await box.following(self.letter, before)
            head = concluded(before.next(garbage=()), self.letter.uid, listed, box.wall())
            if following is not None:
                return await self._go_on(head, following)
            await self._write(head.next(lease=None))
            await box.forget(self.letter)
        except BaseException:
            await self._end()
            raise
        await self._end()
        return None

    async def _go_on(self, head: Head, following: Letter) -> StoredHeld | None:
        """Begin the next update with the write that concludes this one."""
        box, before = self._box, self.holding.head
        try:
            _, (data, content) = await together(
                self._write(box.leased(head, following, before.lease)), self._next(following, before)
            )
            self.holding.check()  # Others may have gone on from that write.
        except BaseException:
            if known_as_done(self.holding.head, self.letter.uid):  # The next one was not begun: that is no attempt.
                await self.holding.release(hold=head.hold)
            raise
        # Whoever lists the mailbox before the document is gone finds the update done.
        box.meanwhile(box.forget(self.letter))
        held = await box.begun(self.holding, following, data, Found(content), leave=self._leave)
        if isinstance(held, StoredHeld):
            self._following = held
            return held
        self._leave()
        return None

    async def _next(self, following: Letter, head: Head) -> tuple[bytes | None, Content | Unreadable]:
        return await together(self._box.open(following), self._box.continued(head, self._snapshot))

    async def fail(self, error: str, *, final: bool = False) -> None:
        self.active = False
        await shielded(self._fail(error, final))

    async def _fail(self, error: str, final: bool) -> None:
        async with self.writing:
            await self._put_on_hold(error, final)

    async def _put_on_hold(self, error: str, final: bool) -> None:
        box, head, uid = self._box, self.holding.head, self.letter.uid
        try:
            if final or self.attempt >= box.limits.update_attempts:
                await box.set_aside(self.holding, self.letter, self._waiting, error)
            else:
                later = box.wall() + backoff(self.attempt, box.jitter())
                hold = {**head.hold, uid: Hold(self.attempt, error, later)}
                await self._write(head.next(lease=None, hold=hold))
        finally:
            await self._end()

    async def release(self) -> None:
        self.active = False
        await shielded(self._release())

    async def _release(self) -> None:
        async with self.writing:
            await self._give_back()

    async def _give_back(self) -> None:
        head, uid = self.holding.head, self.letter.uid
        hold = {known: hold for known, hold in head.hold.items() if known != uid}
        if (before := uncounted(head.hold[uid])) is not None:
            hold[uid] = before
        try:
            await self.holding.release(hold=hold)
        finally:
            await self._end()

    async def _write(self, head: Head) -> None:
        await write(self.holding, head, self.letter.uid)

    async def _end(self) -> None:
        try:
            await self.holding.end()
        finally:
            self._leave()


async def entered(lock: asyncio.Lock, patience: float) -> None:
    """Acquire a lock: whoever waits for it inside of what holds it would wait for ever.

    Raises:
        TurnBusy: It took longer than `patience` seconds.
    """
    try:
        async with asyncio.timeout(patience):
            await lock.acquire()
    except TimeoutError:
        raise TurnBusy.of_conversation() from None


async def write(holding: Holding, head: Head, uid: str) -> None:
    """Write what becomes of an update.

    Raises:
        TurnConflict: The lease was lost, and nothing was written.
    """
    if not await holding.write(head, lambda found: known_as_done(found, uid)):
        raise TurnConflict("Another instance took this update over; that one concludes it.")


def known_as_done(head: Head, uid: str) -> bool:
    return uid[:32] in head.done


def concluded(head: Head, uid: str, listed: Collection[str] | None, now: float) -> Head:
    """Give a head in which an update is done; `listed` are the uids that the mailbox holds, None if there are more.

    What is done stays known for a day, and for as long as the mailbox holds it.
    """
    known = {
        other: when
        for other, when in head.done.items()
        if listed is None or when > now - REMEMBERED or any(name.startswith(other) for name in listed)
    }
    ran = None if head.ran is not None and head.ran.update == uid else head.ran
    after = head.next(ran=ran)
    return after.next(
        # Of what the mailbox does not hold any more somebody has dropped it.
        hold={other: hold for other, hold in head.hold.items() if other != uid and (listed is None or other in listed)},
        done={**known, uid[:32]: int(now)},
        garbage=superseded(head, after),
    )


class UpdateTurn(StoredTurn):
    """A turn of an update: once it is saved the lease is still there, and the head has what the reply needs."""

    remembers = True

    def __init__(
        self, held: StoredHeld, number: int, content: Content, box: StoredMailboxes, *, leave: Callable[[], None]
    ) -> None:
        super().__init__(held.holding, random_id(), keeper=box.keeper, leave=leave, content=content, wall=box.wall)
        self._held = held
        self._number = number

    def check(self) -> None:
        self._held.check()

    async def _result(self, leaving: Leaving, entry: str) -> Head:
        holding, uid = self._holding, self._held.letter.uid
        text = b"null" if leaving.result is None else leaving.result
        head, placed = await together(
            super()._result(leaving, entry),
            place_text(holding.store, holding.path, holding.epoch, text),
        )
        ran = holding.head.ran
        before = ran.results if ran is not None and ran.update == uid else ()
        after = Ran(uid, placed_at(self._number, placed, before))
        if self.to_copy:
            after = Ran(uid, after.results, head.snapshot, head.checkpoint)
        elif ran is not None and ran.update == uid:
            after = Ran(uid, after.results, ran.snapshot, ran.checkpoint)
        return head.next(lease=holding.head.lease, ran=after)

    async def _commit(self, leaving: Leaving) -> None:
        async with self._held.writing:
            self.check()
            await super()._commit(leaving)
            self._held.saved(None if self.reset_requested else leaving.snapshot)
            self._holding.check()  # Saved; the reply is another holder's if the lease was lost meanwhile.

    async def release(self) -> None:
        """Leave the lease to the update."""


NOT_SAVED = Snapshot(size=0)


def placed_at(number: int, result: Snapshot, before: Sequence[Snapshot]) -> tuple[Snapshot, ...]:
    """Put a turn's result at its number: turns before it may have failed, and come to their own result next time."""
    filled = [*before, *[NOT_SAVED] * (number + 1 - len(before))]
    return (*filled[:number], result, *filled[number + 1 :])
