"""Keeps leases alive from a thread of its own, so that a blocked event loop does not lose them."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from ..errors import StateUnavailable
from .clock import Clock, Instant, elapsed
from .head import Head, decode_head, encode_head
from .renewal_thread import RenewalThread, Schedule
from .settle import settled_put
from .store import Lost, StateStore, Version, read

logger = logging.getLogger("agent_framework.hosting.state")


class Renewal:
    """One held lease: its latest version in the store, and whether it is still ours.

    The commit and the renewal never write at once: `stop` waits for a renewal under way and hands its
    version over.
    """

    def __init__(
        self, store: StateStore, name: str, head: Head, version: Version, *, clock: Clock, ttl: float, began: Instant
    ) -> None:
        self._store = store
        self._name = name
        self._head = head
        self._version = version
        self._clock = clock
        self._ttl = ttl
        self._began = began
        self._lost = False
        self._stopped = False
        self._lock = threading.Lock()
        self._under_way: Future[None] | None = None
        self._task: asyncio.Task[float] | None = None
        self._watchers: list[Callable[[], None]] = []
        self._timers: Schedule | None = None

    @property
    def fenced(self) -> bool:
        """Whether this holder must stop: the lease was taken, or its last renewal is too long ago."""
        return self._lost or self._left(self._clock.now()) < 0

    def _left(self, now: Instant) -> float:
        """Seconds that the holder has without another renewal."""
        return self._ttl * 2 / 3 - elapsed(self._began, now)

    def start(self, thread: RenewalThread) -> None:
        self._timers = thread.schedule()
        self._go_on()

    def resume(self, head: Head, version: Version, began: Instant) -> None:
        """Go on after `stop` from a write of the holder's own that keeps the lease and began then."""
        with self._lock:
            self._head, self._version, self._began = head, version, began
        self.go_on()

    def go_on(self) -> None:
        """Go on after `stop` as before it: what the holder wanted to write may or may not stand there."""
        with self._lock:
            self._stopped = False
        self._go_on()

    def _go_on(self) -> None:
        self._schedule(max(0.0, self._ttl / 3 - elapsed(self._began, self._clock.now())))

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Call `on_lost` from the renewal thread when the lease is gone, until `unwatch`."""
        with self._lock:
            self._watchers.append(on_lost)
            lost = self._lost
        if lost:
            on_lost()

    def unwatch(self, on_lost: Callable[[], None]) -> None:
        with self._lock:
            self._watchers.remove(on_lost)

    async def stop(self) -> Version:
        """End renewing and return the version that the head has as far as this holder knows."""
        with self._lock:
            self._stopped = True
            under_way = self._under_way
        if self._timers is not None:
            self._timers.remove(self._begin)
        if under_way is not None:
            await asyncio.wait([asyncio.wrap_future(under_way)])
        return self._version

    def _schedule(self, delay: float) -> None:
        assert self._timers is not None
        with self._lock:
            if not self._stopped and not self._lost:
                self._timers.add(self._begin, delay)

    def _begin(self) -> None:
        assert self._timers is not None
        with self._lock:
            if self._stopped or self._lost:
                return
            self._under_way = Future()
        self._task = self._timers.loop.create_task(self._renew())
        self._task.add_done_callback(self._end)

    def _end(self, task: asyncio.Task[float]) -> None:
        with self._lock:
            under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.set_result(None)
        if not task.cancelled():
            self._schedule(task.result())

    async def _renew(self) -> float:
        """Renew once, and tell after how many seconds to come again."""
        began = self._clock.now()
        try:
            # A store that hangs must not keep a holder from stopping in time.
            async with asyncio.timeout(self._left(began)):
                if await self._write():
                    self._began = began
                    return self._ttl / 3
        except StateUnavailable as error:
            logger.warning("A lease could not be renewed: %s", error)
            if not self.fenced:
                return self._ttl / 20
        except TimeoutError:
            logger.warning("A lease could not be renewed in time; its turn is stopped.")
        except Exception:
            # Whatever a store raised, the lease was not renewed: fail closed.
            logger.exception("A lease could not be renewed; its turn is stopped.")
        self._lose()
        return 0

    async def _write(self) -> bool:
        while not self.fenced:
            head = self._head.next()
            try:
                version = await settled_put(self._store, self._name, encode_head(head), if_version=self._version)
            except Lost:
                if not await self._adopt():
                    return False
            else:
                self._head, self._version = head, version
                return True
        return False

    async def _adopt(self) -> bool:
        """Go on from an earlier write of ours whose answer was lost, if it is what stands there.

        It does not count as a renewal: others may have seen it long ago.
        """
        found = await read(self._store, self._name)
        if found is None:
            return False
        head = decode_head(self._name, found[0], self._head.key)
        if head.lease is None or self._head.lease is None or head.lease.token != self._head.lease.token:
            return False
        self._head, self._version = head, found[1]
        return True

    def _lose(self) -> None:
        with self._lock:
            self._lost = True
            watchers = [*self._watchers]
        for on_lost in watchers:
            on_lost()
