"""The inbox of a platform that works only within its invocations: what was woken is worked off before one ends."""

from __future__ import annotations

import asyncio
import logging

from .inbox import LocalInbox
from .updates import Inbox

__all__ = ["Backlog"]

PATIENCE = 5.0
"""Seconds that are waited for an update on hold; one that is on hold for longer is left to a later invocation."""

HANDING_ON = 2.0
"""Seconds in which an inbox elsewhere is told of what is left."""

logger = logging.getLogger("agent_framework.hosting")


class Backlog:
    """An `Inbox` that notes which conversations are to be looked after; `work` does it, within an invocation.

    What is left when its time is over is told to `beyond`, an inbox elsewhere. Where there is none it stays noted for
    the next `work` in this process; and where there is no next one, the sweep finds it.
    """

    def __init__(self, local: LocalInbox, beyond: Inbox | None = None, *, patience: float = PATIENCE) -> None:
        self._local = local
        self._beyond = beyond
        self._patience = patience

    @property
    def waits(self) -> bool:
        """Whether anything is noted."""
        return self._local.waits

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        await self._local.wake(isolation_key, delay=delay)

    async def work(self, until: float, *, grace: float) -> None:
        """Work off what is noted, and what is noted meanwhile, until a time of the running loop's clock.

        What is then under way is cancelled, which gives its conversation back; `grace` bounds the seconds for that.
        """
        if not self.waits:
            return
        self._local.start()
        try:
            await self._local.settled(until, self._patience)
        finally:
            await self._local.pause(grace)
        if self._beyond is not None:
            await self._hand_on(self._beyond)

    async def _hand_on(self, beyond: Inbox) -> None:
        left = self._local.left()
        try:
            async with asyncio.timeout(HANDING_ON):
                for key, delay in left.items():
                    await beyond.wake(key, delay=delay)
                    self._local.forget(key)
        except Exception:
            # What it was not told of stays noted, and the sweep finds it.
            logger.warning(
                "The inbox could not be told of updates that are left; a sweep will find them.", exc_info=True
            )
