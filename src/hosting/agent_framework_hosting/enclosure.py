"""Where a run of the target lives: in a context of its own, contained, and stopped from outside when it must be."""

from __future__ import annotations

import asyncio
import contextlib
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, TypeVar

from .contained import Contained
from .deadline import DeadlineReached, current_deadline
from .errors import TurnConflict

if TYPE_CHECKING:
    from .state.conversations import Turn
    from .telemetry import TurnRecord

T = TypeVar("T")
Steps = Generator[Any, Any, T]


class Stopped(Exception):
    """Somebody had the run stopped."""


class Enclosure:
    """Takes a run forward, one piece after another, for one task at a time.

    All pieces run in one context: what one sets there the next finds, and whoever awaits them never sees. `enter` is
    called in it first. A piece that does not suspend is over before anybody could stop it, so only one that does
    pays for being stoppable.

    What is not over at the platform's deadline (`deadline`) is stopped, too.

    Raises:
        TurnConflict: The turn has lost its lease already.
    """

    def __init__(self, turn: Turn | None, record: TurnRecord, enter: Callable[[], object]) -> None:
        self._record = record
        self._contained = Contained()
        self._scope: asyncio.Timeout | None = None
        self._stopped = False
        # Holds until the loop has gone round: until then nobody has waited for anything.
        self._checked = False
        self._loop = asyncio.get_running_loop()
        self._deadline = current_deadline()
        self._guarding = turn if turn is not None and turn.guarded else None
        self._context = copy_context()
        self._context.run(record.enter)
        self._context.run(enter)
        if self._guarding is not None:
            self._guarding.watch(self._lose)

    def leave(self) -> None:
        """Stop watching the lease."""
        if self._guarding is not None:
            self._guarding.unwatch(self._lose)

    async def take(self, work: Awaitable[T]) -> T:
        """Await a piece of the run.

        Raises:
            TurnConflict: The lease was lost.
            Stopped: `stop` was called.
            DeadlineReached: The platform's deadline came first.
            TargetFailed: As `Contained`.
        """
        if self._guarding is not None and not self._checked:
            self._check(work)
        steps = work.__await__()
        with self._contained:
            try:
                awaited = self._context.run(next, steps)
            except StopIteration as end:
                return end.value
            except StopAsyncIteration:  # The end of its updates is no failure.
                raise
            except Exception as error:
                self._record.failed(error)
                raise
            return await self._suspended(steps, awaited)

    async def feed(self, values: AsyncIterator[T], receive: Callable[[T], bool]) -> bool:
        """Take the run forward and hand out its values as they come, until `receive` says that it has enough.

        That is one piece, whatever it waits for meanwhile. False means that there are no more. A lease that is lost
        without a wait ends the piece, too: the turn's `check` tells.

        Raises:
            Exception: As `take`.
        """
        return await self.take(self._fed(values, receive))

    async def within(self, work: Awaitable[T]) -> T:
        """Await what cleans up after the run; nobody stops that."""
        steps = work.__await__()
        try:
            awaited = self._context.run(next, steps)
        except StopIteration as end:
            return end.value
        return await going_on(self._context, steps, awaited)

    def stop(self) -> None:
        """Cancel the piece that is awaited now, or the next one that suspends."""
        if not self._stopped:
            self._stopped = True
            if self._scope is not None:
                self._scope.reschedule(0)

    async def _fed(self, values: AsyncIterator[T], receive: Callable[[T], bool]) -> bool:
        guarding, contained = self._guarding, self._contained
        async for value in values:
            # Nobody is there any more for what a target gives that has swallowed its end, or lost its lease.
            if self._scope is not None and contained.cancelled:
                return True
            if guarding is not None and is_lost(guarding):
                return True
            if receive(value):
                return True
        return False

    async def _suspended(self, steps: Steps[T], awaited: object) -> T:
        # Also without a time: the one way to cancel a block of one's own task that the standard library keeps apart
        # from a cancellation from outside.
        scope = self._scope = asyncio.timeout_at(self._loop.time() if self._stopped else self._deadline)
        try:
            async with scope:
                value = await going_on(self._context, steps, awaited)
            if not scope.expired():  # Otherwise the target swallowed it.
                return value
        except StopAsyncIteration:
            if not scope.expired():
                raise
        except Exception as error:
            if not (isinstance(error, TimeoutError) and scope.expired()):
                self._record.failed(error)
                raise
        finally:
            self._scope = None
        if self._guarding is not None:
            self._guarding.check()
        raise Stopped if self._stopped else DeadlineReached

    def _check(self, work: Awaitable[Any]) -> None:
        assert self._guarding is not None
        try:
            self._guarding.check()
        except BaseException:
            if isinstance(work, Coroutine):
                work.close()  # It is never begun.
            raise
        self._checked = True
        self._loop.call_soon(self._forget)

    def _forget(self) -> None:
        self._checked = False

    def _lose(self) -> None:
        """Called from the thread that renews the lease."""
        with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
            self._loop.call_soon_threadsafe(self.stop)


def is_lost(turn: Turn) -> bool:
    try:
        turn.check()
    except TurnConflict:
        return True
    return False


@types.coroutine
def going_on(context: Context, steps: Steps[T], awaited: object) -> Generator[Any, Any, T]:
    """As `yield from`, for steps that have begun and wait for `awaited`; each further one runs in `context`."""
    while True:
        step: Callable[[Any], object] = steps.send
        try:
            given = yield awaited
        except BaseException as error:
            step, given = steps.throw, error
        try:
            awaited = context.run(step, given)
        except StopIteration as end:
            return end.value
