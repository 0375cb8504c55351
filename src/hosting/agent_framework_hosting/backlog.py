"""The inbox of a platform that works only within its invocations: what was woken is worked off before one ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from .errors import InvalidRequest
from .inbox import INTERVAL, LocalInbox
from .updates import Inbox, PreparedInbox

__all__ = ["Backlog", "Substitute", "prepared"]

PATIENCE = 2.0
"""Seconds that are waited for a conversation that is busy. Back-off, which lasts longer, is a later invocation's."""

HANDING_ON = 3.0
"""Seconds in which an inbox elsewhere is told of what is left."""

PREPARING = 4.0
"""Seconds before the end of the work at which that inbox is prepared, if it can be: by then it may be needed."""

PART = 2 / 3
"""The part of the time for ending in which drains may end by themselves; then their conversations are taken away."""

logger = logging.getLogger("agent_framework.hosting")


async def nothing() -> None: ...


class Backlog:
    """An `Inbox` that notes which conversations are to be looked after; `work` does it, within an invocation.

    What is left when its time is over, and due before the next sweep, is told to `beyond`, an inbox elsewhere. Where
    there is none it stays noted for the next `work` in this process; and where there is no next one, the sweep finds
    it. `let_go` gives back the conversations of drains that do not end.
    """

    def __init__(
        self,
        local: LocalInbox,
        beyond: Inbox | None = None,
        *,
        let_go: Callable[[], Awaitable[None]] = nothing,
        patience: float = PATIENCE,
    ) -> None:
        self._local = local
        self._beyond = beyond
        self._let_go = let_go
        self._patience = patience
        self.noted = asyncio.Event()
        """Set by each wake; whoever waits for one clears it before."""

    @property
    def waits(self) -> bool:
        """Whether anything is noted."""
        return self._local.waits

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        await self._local.wake(isolation_key, delay=delay)
        self.noted.set()

    async def work(self, until: float, *, end: float) -> None:
        """Work off what is noted, and what is noted meanwhile. Both times are those of the running loop's clock.

        What is under way at `until` is cancelled, which gives its conversation back. By `end` all is over.
        """
        if not self.waits:
            return
        now = asyncio.get_running_loop().time
        if now() < until:
            self._local.start()
            preparing = asyncio.create_task(prepared(self._beyond, until), name="hosting-prepare")
            try:
                await self._local.settled(until, self._patience)
            finally:
                preparing.cancel()
                await self._local.pause(PART * max(0.0, end - now()))
                await self._given_back(end)
        if self._beyond is not None:
            await self._hand_on(self._beyond, min(end, now() + HANDING_ON))

    async def _given_back(self, end: float) -> None:
        try:
            async with asyncio.timeout_at(end):
                await self._let_go()
        except TimeoutError:
            logger.warning("A conversation could not be given back in time: it waits until its lease has run out.")

    async def _hand_on(self, beyond: Inbox, end: float) -> None:
        # A sweep comes in time for the others; told each time, they would have more and more wakes under way.
        left = {key: delay for key, delay in self._local.left().items() if delay < INTERVAL}
        tasks = {key: asyncio.ensure_future(beyond.wake(key, delay=delay)) for key, delay in left.items()}
        for key in left:
            # Before it is told: what is noted anew meanwhile comes after that.
            self._local.forget(key)
        try:
            async with asyncio.timeout_at(end):
                await asyncio.gather(*tasks.values(), return_exceptions=True)
        except TimeoutError:
            pass
        finally:
            # Of these it could not be told: a later invocation looks into them, or a sweep.
            untold = [key for key, task in tasks.items() if not task.done() or task.cancelled() or task.exception()]
            for key in untold:
                await self._local.wake(key, delay=left[key])
            if untold:
                logger.warning("The inbox could not be told of %d updates that are left.", len(untold))


async def prepared(inbox: Inbox | None, until: float) -> None:
    """Prepare an inbox, if it can be, some seconds before a time of the loop's clock at which it may be needed."""
    if not isinstance(inbox, PreparedInbox):
        return
    await asyncio.sleep(until - PREPARING - asyncio.get_running_loop().time())
    try:
        await inbox.prepare()
    except Exception as error:
        # Whether it can be told of anything, a wake will show.
        logger.debug("The inbox could not be prepared: %s", error)


class Substitute:
    """An `Inbox` for one sweep: what `inbox` cannot be told of is noted in the `backlog`, and worked on here."""

    def __init__(self, inbox: Inbox, backlog: Backlog) -> None:
        self._inbox = inbox
        self._backlog = backlog
        self._away = False

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        if not self._away:
            try:
                await self._inbox.wake(isolation_key, delay=delay)
                return
            except InvalidRequest:
                pass  # It cannot be told of this one, ever.
            except Exception:
                # Asking for each of many conversations would take the time that they need.
                self._away = True
                logger.warning("The inbox could not be told of an update; it is worked on here.", exc_info=True)
        await self._backlog.wake(isolation_key, delay=delay)
