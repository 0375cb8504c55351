"""Time as a lease holder must see it: freezes and suspended machines included."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

_BOOT = getattr(time, "CLOCK_BOOTTIME", None)


@dataclass(slots=True)
class Instant:
    """A point in time on two clocks, in seconds. A plain class: twice as fast to make as a named tuple."""

    monotonic: float
    boot: float


class Clock(Protocol):
    def now(self) -> Instant: ...


class SystemClock:
    """The monotonic clock, and the boot clock where there is one (it goes on while the machine is suspended)."""

    def now(self) -> Instant:
        monotonic = time.monotonic()
        return Instant(monotonic, monotonic if _BOOT is None else time.clock_gettime(_BOOT))


def elapsed(since: Instant, now: Instant) -> float:
    """Seconds from `since` to `now` by whichever clock saw more of them."""
    monotonic, boot = now.monotonic - since.monotonic, now.boot - since.boot
    return monotonic if monotonic > boot else boot  # noqa: FURB136 - asked after every streamed update
