"""Work that has to be over in time, whether it ends by itself or not."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from agent_framework_hosting.deadline import DeadlineReached

from .budget import Budget
from .errors import NoResponse

T = TypeVar("T")

LEAST = 0.05
"""Seconds that a cancelled work has to end in any case: it may take some rounds of the loop."""


class Stuck(BaseException):
    """Something in the process does not end, and cannot be stopped: only the process's own end helps.

    It is no `Exception`, so that neither the operator's code nor Lambda's stock runtime goes on after it.
    """

    def __init__(self) -> None:
        super().__init__("The app does not end, although it was cancelled.")


async def in_time(work: Coroutine[Any, Any, T], budget: Budget) -> T:
    """Give the result of a work that is stopped when the budget's time to answer is over.

    Raises:
        DeadlineReached: It was stopped.
        NoResponse: It cancelled itself.
        Stuck: It does not end, although it was stopped.
        Exception: What it raised.
    """
    clock = asyncio.get_running_loop().time
    task = asyncio.create_task(work, name="hosting-invocation")
    late = True
    try:
        await asyncio.wait({task}, timeout=max(0.0, budget.answer - clock()))
        late = not task.done()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=max(LEAST, budget.stuck - clock()))
        if not task.done():
            raise Stuck
        failure = None if task.cancelled() else task.exception()
    if not task.cancelled():
        if failure is not None and not isinstance(failure, (Exception, KeyboardInterrupt, SystemExit)):
            raise NoResponse(f"The function raised {type(failure).__name__}.") from failure
        return task.result()
    raise DeadlineReached() if late else NoResponse(NoResponse.CANCELLED)
