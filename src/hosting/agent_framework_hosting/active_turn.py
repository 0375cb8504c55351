"""A turn in progress: lease, run, commit, and what follows a saved turn."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar
from enum import Enum
from time import perf_counter
from typing import TYPE_CHECKING, Any, TypeVar

from .enclosure import Enclosure
from .errors import HostingError, UnknownConversation
from .hooks import after_the_start, apply_response_hook
from .keys import turn_id
from .requests import ChannelRequest, ChannelSession, HostedRunResult, PendingRequest
from .shielding import shielded
from .state.conversations import Left, copy
from .state.head import random_id
from .streams import Abandoned
from .telemetry import hashed, start_turn
from .working import Working, current_update

if TYPE_CHECKING:
    from .channels import Attach, ChannelResponseHook, OnSaved
    from .running.run import Run
    from .state.conversations import Turn
    from .turns import Turns

_current: ContextVar[ActiveTurn | None] = ContextVar("hosting_turn", default=None)
T = TypeVar("T")
logger = logging.getLogger("agent_framework.hosting")

GRACE = 5.0
"""Seconds that what follows a saved turn may take once its caller was cancelled."""


def current_turn() -> ActiveTurn | None:
    """Give the turn that the caller runs in; None outside of one."""
    return _current.get()


class Phase(Enum):
    """How far a turn has come; it only goes down this list."""

    WAITING = "the target has not run: a failure has had no effects"
    RUNNING = "the target runs, or may be about to"
    SAVING = "the target has run, and what it left is being saved"
    ENDED = "everything was given back"


class ActiveTurn:
    """A turn in progress, and everything that must be given back when it ends."""

    def __init__(
        self,
        turns: Turns,
        request: ChannelRequest,
        channel_name: str,
        response_hook: ChannelResponseHook | None,
        on_saved: OnSaved | None,
        attach: Attach | None,
    ) -> None:
        self.request = request
        self.channel_name = channel_name
        self.turn: Turn | None = None
        self.saved: HostedRunResult[Any] | None = None
        """The result, once the turn is saved: also where whoever waited for that was cancelled meanwhile."""
        self._response_hook = response_hook
        self._on_saved = on_saved
        self._attach = attach
        self._conclusion: asyncio.Future[HostedRunResult[Any]] | None = None
        self._turns = turns
        self._run: Run | None = None
        self._enclosure: Enclosure | None = None
        self._phase = Phase.WAITING
        session = request.session
        self._key = None if session is None or request.session_mode == "disabled" else session.isolation_key
        self._fresh = session is not None and session.fresh
        self._kept = True
        self._copy = None if session is None else session.copy
        self._copy_over = None if session is None else session.copy_over
        self._left: Left | None = None
        if self._key is None and session is not None and session.parent is not None:
            # A look at what would come next: it has the parent's history, and is not kept.
            self._key, self._fresh, self._kept = random_id(), True, False
        self._record = start_turn(turns.tracer, channel_name, self._key, request.attributes)

    async def begin(self) -> Run:
        """Take the conversation and make ready to run; from here on the target counts as started."""
        key, session = self._key, self.request.session
        turns, runner = self._turns, self._turns.runner
        began = perf_counter()
        if key is not None and session is not None:
            with self._record.span_of("hosting.state.begin"):
                self.turn = turn = await self._take(key, session)
            turn.identity = self.request.identity
        if self.turn is not None and self.turn.remembered is not None:
            from .running.results import RememberedRun

            run = self._run = RememberedRun(self.turn)
        else:
            # One time-out for all that a turn waits for: the conversation, and a workflow that others run on.
            wait = turns.turn_timeout - (perf_counter() - began)
            run = self._run = await runner.prepare(self.request, self.turn, wait=wait)
        self._record.store_time += perf_counter() - began
        self._phase = Phase.RUNNING
        # A reset of its own conversation knows the turn by this.
        self._enclosure = Enclosure(self.turn, self._record, lambda: _current.set(self))
        return run

    async def _take(self, key: str, session: ChannelSession) -> Turn:
        """Take the conversation, or the next turn of the update that has it."""
        asked, working = self.request.attributes.get("idempotency_key"), current_update()
        given = None if asked is None else turn_id(key, asked)
        if working is not None and working.has(key):
            return await self._take_next(working, session)
        if working is not None and not given and not self._fresh:
            given = working.turn_id(key)
        return await self._turns.conversations.begin(
            key, given, fresh=self._fresh, parent=session.parent, existing=session.existing, admit=session.admit
        )

    async def _take_next(self, working: Working, session: ChannelSession) -> Turn:
        turn = await working.held.turn()
        if turn.remembered is not None:
            return turn
        try:
            if session.existing and not working.held.begun:
                raise UnknownConversation()
            if session.parent is not None:
                conversations = self._turns.conversations
                turn.snapshot, turn.checkpoint = await conversations.peek(session.parent, admit=session.admit)
                turn.stored_key = session.parent
        except BaseException:
            await turn.end()
            raise
        return turn

    def request_reset(self, key: str) -> bool:
        """Have the conversation started anew when this turn is saved; False if it is another one, or too late."""
        if self._phase is not Phase.RUNNING or self.turn is None or self.turn.key != key:
            return False
        self.turn.reset_requested = True
        return True

    def inside(self, work: Awaitable[T]) -> Awaitable[T]:
        """Take the run forward: as `Enclosure.take`."""
        assert self._enclosure is not None
        return self._enclosure.take(work)

    def feed(self, values: AsyncIterator[T], receive: Callable[[T], bool]) -> Awaitable[bool]:
        """Take the run forward, value by value: as `Enclosure.feed`."""
        assert self._enclosure is not None
        return self._enclosure.feed(values, receive)

    def after(self, work: Awaitable[T]) -> Awaitable[T]:
        """Clean up after the run, in its context if it has come to one."""
        return work if self._enclosure is None else self._enclosure.within(work)

    def stop(self) -> None:
        """Stop what is awaited inside."""
        if self._enclosure is not None:
            self._enclosure.stop()

    async def save(self, result: Any) -> None:
        """Commit what the run left behind; without a conversation there is nothing to do."""
        assert self._run is not None
        self._phase = Phase.SAVING
        began = perf_counter()
        outcome = await self._run.outcome(result)
        wanted = outcome.resumable or not self._fresh or self._attach is not None
        turn = self.turn if self._kept and wanted else None
        # What a conversation that begins anew has asked cannot be answered any more.
        pending = () if turn is not None and turn.reset_requested else outcome.pending
        hosted = HostedRunResult(result, session=self._run.session, pending=pending, saved=turn is not None)
        attachment = None
        if turn is not None:
            turn.to_copy = self._copy is not None
        if self._attach is not None and turn is not None:
            if self._copy is None and self._response_hook is None:
                attachment = self._attach(hosted)
            else:
                self._left = Left(outcome.snapshot, outcome.checkpoint)
                if turn.remembered is not None:
                    self._left = Left(turn.snapshot, turn.checkpoint)
        try:
            if turn is not None:
                with self._record.span_of("hosting.state.commit"):
                    await turn.commit(
                        snapshot=outcome.snapshot,
                        checkpoint=outcome.checkpoint,
                        result=encoded(result, pending) if turn.remembers else None,
                        attachment=attachment,
                    )
        finally:
            if turn is None or turn.committed:
                self.saved = hosted
        self._record.store_time += perf_counter() - began

    async def conclude(self) -> HostedRunResult[Any]:
        """Give the saved result to the response hook, `attach` and `on_saved`, whatever becomes of the caller.

        Whoever asks again after a failure has them called again.

        Raises:
            Exception: What one of them raised.
        """
        assert self.saved is not None
        if self._response_hook is None and self._on_saved is None and self._left is None:
            return self.saved
        if self._conclusion is None or self._conclusion.cancelled():
            self._conclusion = asyncio.ensure_future(self._concluded(self.saved))
        try:
            return await shielded(self._conclusion, grace=GRACE)
        except Exception:
            # Raised on; whoever asks again has it done once more.
            self._conclusion = None
            raise

    async def _concluded(self, hosted: HostedRunResult[Any]) -> HostedRunResult[Any]:
        if self._response_hook is not None:
            hook, request, name = self._response_hook, self.request, self.channel_name
            hosted = await apply_response_hook(hook, hosted, request=request, channel_name=name)
        if self._left is not None and self._attach is not None and self.turn is not None:
            with after_the_start():
                conversations, attachment = self._turns.conversations, self._attach(hosted)
                if self._copy is not None:
                    over = self._copy_over
                    await copy(conversations, self.turn, self._left, attachment, to=self._copy, over=over)
                else:
                    await self._turns.attach(self.turn.key, attachment)
                self._left = None
        if self._on_saved is not None:
            await self._on_saved(hosted)
        return hosted

    async def conclude_unheard(self) -> None:
        """Conclude a turn, if it was saved, whose caller was cancelled meanwhile."""
        if self.saved is None:
            return
        try:
            async with asyncio.timeout(GRACE):
                await self.conclude()
        except Exception:
            # Nobody is there any more to hear of it, and the turn is saved.
            logger.warning("What follows a saved turn failed after its caller had gone.", exc_info=True)

    async def end(self, error: BaseException | None) -> None:
        """Give everything back; `error` is why, if something went wrong. Idempotent."""
        if self._phase is Phase.ENDED:
            return
        if isinstance(error, HostingError):
            error.started = self._phase is not Phase.WAITING
        elif isinstance(error, Exception):
            error.add_note(f"In a turn of channel {self.channel_name!r}, conversation {hashed(self._key)}.")
        self._phase = Phase.ENDED
        self._record.outcome = outcome_word(error, self.saved)
        try:
            if self._run is not None:
                await self.after(self._run.close())
        finally:
            if self._enclosure is not None:
                self._enclosure.leave()
                self._enclosure = None  # Its context knows this turn: together they would wait for the collector.
            try:
                if self.turn is not None:
                    await self.turn.end()
            finally:
                self._record.finish()


def encoded(result: object, pending: Sequence[PendingRequest]) -> bytes:
    from .running.results import encode_result

    return encode_result(result, pending)


def outcome_word(error: BaseException | None, saved: HostedRunResult[Any] | None = None) -> str:
    if saved is not None:
        return "saved" if saved.saved else "answered"
    if isinstance(error, Abandoned):
        return "closed"
    return "cancelled" if not isinstance(error, Exception) else type(error).__name__
