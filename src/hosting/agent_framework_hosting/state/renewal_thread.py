"""The thread that renewals run on, and when each of them is due."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future

from ..errors import StateUnavailable

_LAST_WORDS = 5.0


class Schedule:
    """Calls on an event loop of another thread what is due there.

    Most of it is taken back before it is due. So the loop is woken only for what is earlier than its next call, and not
    for what is taken back: under load once in a third of a lease, where each turn would wake it twice.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._lock = threading.Lock()
        self._due: dict[Callable[[], None], float] = {}
        self._planned = math.inf
        self._timer: asyncio.TimerHandle | None = None

    def add(self, call: Callable[[], None], delay: float) -> None:
        """Have `call` called once after `delay` seconds, and not as said before."""
        due = self.loop.time() + delay
        with self._lock:
            self._due[call] = due
            sooner = due < self._planned
            if sooner:
                self._planned = due
        if sooner:
            with contextlib.suppress(RuntimeError):  # The loop has ended.
                self.loop.call_soon_threadsafe(self._plan)

    def remove(self, call: Callable[[], None]) -> None:
        """Have `call` not called, unless it is about to be."""
        with self._lock:
            self._due.pop(call, None)

    def _plan(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            when = self._planned
        self._timer = None if when == math.inf else self.loop.call_at(when, self._come, when)

    def _come(self, when: float) -> None:
        now = max(when, self.loop.time())
        with self._lock:
            calls = [call for call, due in self._due.items() if due <= now]
            for call in calls:
                del self._due[call]
            self._planned = min(self._due.values(), default=math.inf)
        self._plan()
        for call in calls:
            self.loop.call_soon(call)


class RenewalThread:
    """One daemon thread with an event loop, started with the first lease and again after a fork."""

    def __init__(self, make: Callable[..., threading.Thread] = threading.Thread) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._schedule: Schedule | None = None
        self._thread: threading.Thread | None = None
        self._ended: Future[None] = Future()
        self._pid = 0

    def schedule(self) -> Schedule:
        """Give the schedule of the thread that runs.

        Raises:
            StateUnavailable: The system has no thread or file to spare; the next call tries again.
        """
        with self._lock:
            if self._schedule is None or self._pid != os.getpid():
                self._schedule, self._thread, self._ended = self._started()
                self._pid = os.getpid()
            return self._schedule

    def _started(self) -> tuple[Schedule, threading.Thread, Future[None]]:
        with contextlib.ExitStack() as undo:
            try:
                loop, ended = asyncio.new_event_loop(), Future[None]()
                undo.callback(loop.close)
                thread = self._make(target=run_loop, args=(loop, ended), name="hosting-lease-renewal", daemon=True)
                thread.start()
            except (OSError, RuntimeError) as error:
                raise StateUnavailable(f"There is nothing to renew a lease with: {error}. Try again.") from error
            undo.pop_all()
        return Schedule(loop), thread, ended

    async def close(self) -> None:
        """End the thread; leases still held are not renewed any more and age out."""
        with self._lock:
            schedule, thread = self._schedule, self._thread
            self._schedule = self._thread = None
            if schedule is None or thread is None or self._pid != os.getpid():
                return
        schedule.loop.call_soon_threadsafe(schedule.loop.stop)
        await asyncio.wait([asyncio.wrap_future(self._ended)], timeout=_LAST_WORDS)
        if self._ended.done():
            thread.join()


def run_loop(loop: asyncio.AbstractEventLoop, ended: Future[None]) -> None:
    """Run a loop until it is stopped; what is then still under way is cancelled."""
    try:
        loop.run_forever()
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks))
    finally:
        loop.close()
        ended.set_result(None)
