"""How long an invocation may still work, and what of that is kept to end it in order."""

from __future__ import annotations

import asyncio
from typing import NamedTuple

from .events import Context

MARGIN = 2.0
"""Seconds that are kept at most: to stop a run, give its conversation back, and answer."""

PART = 0.2
"""The part of the remaining time that is kept at most."""

ENOUGH = 1 / 3
"""The part of an invocation after which an update that is stopped counts as a failed attempt."""


class Budget(NamedTuple):
    """Times of the running loop's clock: runs are stopped at `work`, the app itself at `answer`; `total` in seconds."""

    work: float
    answer: float
    total: float

    @property
    def grace(self) -> float:
        """Seconds in which what was stopped may end."""
        return self.answer - self.work

    @property
    def stuck(self) -> float:
        """When to give up what goes on although it was cancelled at `answer`: the rest is for the process to end."""
        return self.answer + self.grace / 2

    @property
    def end(self) -> float:
        """When the platform ends the invocation."""
        return self.answer + self.grace

    def within(self, seconds: float | None, now: float) -> Budget:
        """Give what is left of it where somebody waits for no more than so many seconds from now on."""
        return self if seconds is None or seconds >= self.total else budget_for(seconds, now)

    def before(self, closing: float) -> float:
        """Give when to stop what then takes up to so many seconds to end; a third of all is kept for that at most."""
        return min(self.work, self.answer - min(closing, self.total / 3))


def budget_of(context: Context, loop: asyncio.AbstractEventLoop) -> Budget | None:
    """Give what an invocation has; None where the context does not tell."""
    if (tell := getattr(context, "get_remaining_time_in_millis", None)) is None:
        return None
    return budget_for(tell() / 1000, loop.time())


def budget_for(remaining: float, now: float) -> Budget:
    margin = max(0.0, min(MARGIN, PART * remaining))
    end = now + remaining
    return Budget(end - margin, end - margin / 2, remaining)
