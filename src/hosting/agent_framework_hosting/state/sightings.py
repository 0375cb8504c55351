"""Who holds a lease and who is dead, told from outside: by what was seen of it, and for how long."""

from __future__ import annotations

from collections import OrderedDict

from .clock import Clock, Instant, elapsed
from .head import Head

_REMEMBERED = 10_000


class Sightings:
    """When this process first saw the `rev` that a leased head has; kept across turns and invocations.

    A crashed holder's conversation thus opens even where every caller waits for less than a lease.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._seen: OrderedDict[str, tuple[str, Instant]] = OrderedDict()

    def remaining(self, path: str, head: Head | None, ttl: float) -> float:
        """Give the seconds until a head may be taken; 0 where nobody holds it, or its holder counts as dead.

        That is one whose `rev` was seen unchanged for as long as any lease in play; `ttl` is our own, in seconds.
        """
        if head is None or head.lease is None:
            self._seen.pop(path, None)
            return 0.0
        now = self._clock.now()
        bound = max(ttl, head.lease.ttl)
        seen = self._seen.get(path)
        if seen is None or seen[0] != head.rev:
            self._seen[path] = (head.rev, now)
            self._seen.move_to_end(path)
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)
            return bound
        return max(0.0, bound - elapsed(seen[1], now))


def next_attempt(head: Head | None) -> int:
    """Give the number of the attempt that takes a head over: it counts dead holders in a row."""
    return 1 if head is None or head.lease is None else head.lease.attempt + 1
