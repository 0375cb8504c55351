"""Works mailboxes off: each update goes to its channel, and what the channel raises puts it on hold."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from .contained import Contained
from .errors import ConfigurationError, HostingError, InvalidRequest, SessionTooLarge, TurnConflict, TurnRepeated
from .redaction import redacted
from .telemetry import start_turn, trace_of
from .updates import InboundUpdate
from .working import Working, working_on

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from .channels import OnUpdate
    from .state.mailboxes import HeldUpdate, Mailboxes

logger = logging.getLogger("agent_framework.hosting")


FINAL = (InvalidRequest, SessionTooLarge)
"""What would be the same at every further attempt."""


class Drains:
    """Processes the updates of one host; `handlers` are the channels' `on_update`, by the channels' names."""

    def __init__(self, mailboxes: Mailboxes, handlers: Mapping[str, OnUpdate]) -> None:
        self.mailboxes = mailboxes
        self.tracer: Tracer | None = None
        self.enough: float | None = None
        """Seconds after which an attempt that is cancelled counts as a failed one: a platform has no more to give."""
        self._handlers = handlers
        self._began: dict[HeldUpdate, float] = {}
        self._working: dict[HeldUpdate, Working] = {}

    async def accept(self, update: InboundUpdate) -> bool:
        """Keep an update; False if it is known already.

        Raises:
            ConfigurationError: Its channel has no `on_update`.
            InvalidRequest: It cannot be kept as it is.
            StateUnavailable: It was not kept.
        """
        if update.channel not in self._handlers:
            raise ConfigurationError(f"Channel {update.channel!r} accepts updates and contributes no on_update.")
        return await self.mailboxes.accept(update, trace_of(self.tracer))

    async def drain(self, key: str) -> float | None:
        """Process what waits in one conversation, in order.

        Returns:
            The seconds after which to look again; None when nothing is left.

        Raises:
            StateUnavailable: The store did not answer: look again later.
            StateDamaged: The conversation cannot be read; its updates stay where they are.
        """
        # After every release once more: something may have been accepted just before.
        while (taken := await self.mailboxes.take(key)) is not None:
            while taken is not None:
                if isinstance(taken, int | float):
                    return taken
                taken = await self._process(taken)
            if cancelled():  # Somebody's code has swallowed it.
                raise asyncio.CancelledError
        return None

    async def let_go(self) -> None:
        """Give back the conversations of all that is still worked on: of what was cancelled, and does not end.

        Whatever it still does is not saved, and it can take no more turns.
        """
        works = [self._give_back(held) for held in [*self._began] if held.active]
        for failure in await asyncio.gather(*works, return_exceptions=True):
            if failure is not None:
                logger.warning("A conversation could not be given back: %s", failure)

    def keys(self) -> AsyncIterator[str]:
        """Give the keys of all conversations with unfinished updates."""
        return self.mailboxes.keys()

    async def _process(self, held: HeldUpdate) -> HeldUpdate | None:
        update = held.update
        self._began[held] = asyncio.get_running_loop().time()
        record = start_turn(self.tracer, update.channel, update.isolation_key, held.trace, kind="update")
        try:
            with record.current():
                try:
                    await self._hand_over(held)
                except TurnRepeated:
                    logger.warning("The turn of an update was saved earlier, elsewhere: its reply may be missing.")
                except Exception as error:
                    if cancelled():  # What is raised then is no failure of the update, and nothing is to follow.
                        raise asyncio.CancelledError from error
                    if isinstance(error, TurnConflict):
                        held.check()  # Where the right to this update was lost, that is no failure of it.
                    record.outcome = type(error).__name__
                    await held.fail(self._told(held, error), final=isinstance(error, FINAL))
                    return None
                following = await held.done()
            record.outcome = "done"
            return following
        except TurnConflict as error:
            record.outcome = "TurnConflict"
            # Whoever has it now concludes it; where a lease was lost for want of a renewal, that was told.
            logger.info("An attempt at an update of channel %r has ended: %s", update.channel, error)
            return None
        finally:
            try:
                if held.active:  # Cancelled, before anything was concluded.
                    await self._give_back(held)
            finally:
                self._began.pop(held, None)
                self._working.pop(held, None)
                record.finish()

    async def _give_back(self, held: HeldUpdate) -> None:
        """Leave an update whose attempt was cancelled to a later one; without end only where that may come further."""
        if (began := self._began.pop(held, None)) is None:
            return  # Somebody is about it.
        if (working := self._working.pop(held, None)) is not None:
            working.given_up = True
        took = asyncio.get_running_loop().time() - began
        if self.enough is None or took < self.enough:
            await held.release()
            return
        logger.error(
            "Attempt %d at an update of channel %r did not end in %.0f s.", held.attempt, held.update.channel, took
        )
        await held.fail(
            f"It did not end in {took:.0f} s, and the platform gives no more: give the function a longer time-out."
        )

    async def _hand_over(self, held: HeldUpdate) -> None:
        """Have the channel process an update, for as long as the right to do so is there."""
        handler = self._handlers.get(held.update.channel)
        if handler is None:
            raise ConfigurationError(f"There is no channel {held.update.channel!r} with on_update any more.")
        with working_on(held) as working:
            self._working[held] = working
            async with held.guard():
                with Contained():
                    await handler(held.update)

    def _told(self, held: HeldUpdate, error: Exception) -> str:
        """Log a failure, and give what is kept of it: neither holds what may be a secret."""
        told = redacted(error, held.update.reply_token)
        where = "" if isinstance(error, HostingError) else "\n" + "".join(traceback.format_tb(error.__traceback__))
        logger.error(
            "Attempt %d at an update of channel %r failed: %s%s", held.attempt, held.update.channel, told, where
        )
        return told


def cancelled() -> bool:
    """Tell whether somebody has cancelled the caller's task."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
