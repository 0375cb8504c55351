"""When a failing update is tried again."""

from __future__ import annotations

FIRST, GROWTH, LONGEST = 5.0, 4.0, 600.0


def backoff(attempts: int, jitter: float) -> float:
    """Give the seconds to wait after that many attempts: 5, 20, 80, 320, 600, each ± 20 %; `jitter` is 0 to 1."""
    return min(LONGEST, FIRST * GROWTH ** (attempts - 1)) * (0.8 + 0.4 * jitter)
