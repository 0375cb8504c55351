"""What can become of one operation."""

from __future__ import annotations

from typing import Any

from tests.support.stores import Apply, Operation, away, lost_answer, lost_request, twice

FAULTS = [away, lost_answer, lost_request, twice]


class Stopped(BaseException):
    """Nobody catches it, as nobody survives a kill."""


async def stop_before(operation: Operation, apply: Apply) -> Any:
    raise Stopped


async def stop_after(operation: Operation, apply: Apply) -> Any:
    await apply()
    raise Stopped


STOPS = [stop_before, stop_after]
