"""Work that goes on although its caller is cancelled, and works that end together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable
from typing import Any, TypeVar

from anyio import CancelScope

__all__ = ["ended", "shielded", "together"]

logger = logging.getLogger("agent_framework.hosting")

T = TypeVar("T")
U = TypeVar("U")
LAST_WORDS = 1.0


async def shielded(work: Awaitable[T], *, grace: float | None = None) -> T:
    """Finish `work` even if the caller is cancelled meanwhile; then be cancelled.

    `grace` bounds the seconds from then on: what is not finished is cancelled as well, and left alone if it does not
    end. What `work` raises goes before the cancellation only in the log: the caller is not there to hear it.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait([task])
    except asyncio.CancelledError as error:
        cancelled = error
    else:
        return task.result()
    with CancelScope(shield=True):  # AnyIO would cancel in every round of the loop.
        await ended(task, grace)
    if not task.done() or task.cancelled():
        logger.warning("Work was given up %s s after its caller had been cancelled.", grace)
    elif (failure := task.exception()) is not None:
        logger.warning("Work failed while its caller was being cancelled: %s", failure)
    raise cancelled


async def ended(task: asyncio.Future[Any], grace: float | None, *, last_words: float = LAST_WORDS) -> None:
    """Wait for the end of a task, through every further cancellation; after `grace` seconds cancel it.

    It then has `last_words` seconds.
    """
    clock = asyncio.get_running_loop().time
    deadline = None if grace is None else clock() + grace
    while not task.done() and (deadline is None or clock() < deadline):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([task], timeout=None if deadline is None else deadline - clock())
    if not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=last_words)


async def together(one: Awaitable[T], other: Awaitable[U]) -> tuple[T, U]:
    """Do two works at the same time and wait for both, also where one fails.

    Raises:
        Exception: What the first of them raised that failed.
    """
    first, second = await asyncio.gather(one, other, return_exceptions=True)
    if isinstance(first, BaseException):
        raise first
    if isinstance(second, BaseException):
        raise second
    return first, second
