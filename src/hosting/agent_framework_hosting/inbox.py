"""The inbox of a server: drains run in this process, and a sweep finds what no wake has told of."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial

from .errors import HostingError
from .updates import Inbox

logger = logging.getLogger("agent_framework.hosting")

AT_ONCE = 64
GRACE = 4.0
LAST_WORDS = 6.0
INTERVAL = 60.0
WAKES_AT_ONCE = 16
RETRY = 5.0


class LocalInbox:
    """An `Inbox` that drains in this process, at most `at_once` conversations at a time. Use it on one event loop."""

    def __init__(
        self,
        drain: Callable[[str], Awaitable[float | None]],
        *,
        at_once: int = AT_ONCE,
        call_later: Callable[..., asyncio.TimerHandle] | None = None,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._drain = drain
        self._jitter = jitter
        self._call_later = call_later
        self._at_once = at_once
        self._ready: OrderedDict[str, None] = OrderedDict()
        self._running: dict[str, asyncio.Task[float | None]] = {}
        self._again: set[str] = set()
        self._later: dict[str, asyncio.TimerHandle] = {}
        self._open = False
        self._context = Context()
        self._failures: dict[str, int] = {}
        self._drained = 0
        self._given_up: set[asyncio.Task[float | None]] = set()

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        if delay > 0:
            self._wake_later(isolation_key, delay)
        else:
            self._wake_now(isolation_key)

    def start(self) -> None:
        # Whoever wakes has a context of his own, which is no business of whoever's update is worked on.
        self._context = copy_context()
        self._open = True
        self._fill()

    async def stop(self, grace: float = GRACE) -> None:
        """Drain what is ready for at most `grace` seconds; what is not done by then is given up, and stays accepted."""
        self._forget_later()
        clock = asyncio.get_running_loop().time
        deadline = clock() + grace
        while self._running and clock() < deadline:
            await asyncio.wait(self._running.values(), timeout=deadline - clock())
        await self.pause(LAST_WORDS)
        self._forget_later()

    async def settled(self, until: float, patience: float) -> None:
        """Wait until nothing is left but what is due later, or a time of the loop's clock.

        What is due soon is waited for: `patience` seconds in all, since the last drain that had something to do.

        Raises:
            RuntimeError: Nothing is drained: call `start` before.
        """
        if not self._open:
            raise RuntimeError("An inbox that is not started does not settle.")
        clock = asyncio.get_running_loop().time
        drained, enough = self._drained, clock() + patience
        while (now := clock()) < until:
            if drained != self._drained:
                drained, enough = self._drained, now + patience
            due = min((timer.when() for timer in self._later.values()), default=until)
            if self._running:
                await asyncio.wait(self._running.values(), timeout=until - now, return_when=asyncio.FIRST_COMPLETED)
            elif due < until and due <= enough:
                await asyncio.sleep(due - now)
            else:
                return

    async def pause(self, grace: float) -> None:
        """Drain no further: what is under way is cancelled and waited for, at most `grace` seconds, and stays noted.

        What has not ended by then is given up, and does not count as running any more.
        """
        self._open = False
        running = [*self._running.items()]
        for key, task in running:
            task.cancel()
            self._ready[key] = None
        if running:
            await asyncio.wait([task for _, task in running], timeout=grace)
        for key, task in running:
            if self._running.get(key) is task and not task.done():
                del self._running[key]
                self._given_up.add(task)
                task.add_done_callback(self._given_up.discard)

    @property
    def waits(self) -> bool:
        """Whether any key is noted."""
        return bool(self._ready or self._later)

    def left(self) -> dict[str, float]:
        """Give the keys that are noted, with the seconds after which each is due."""
        now = asyncio.get_running_loop().time()
        later = {key: max(0.0, timer.when() - now) for key, timer in self._later.items()}
        return {**dict.fromkeys(self._ready, 0.0), **later}

    def forget(self, key: str) -> None:
        """Have a key noted no longer: what becomes of it is somebody else's."""
        self._ready.pop(key, None)
        self._again.discard(key)
        self._failures.pop(key, None)
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()

    def _forget_later(self) -> None:
        for timer in self._later.values():
            timer.cancel()
        self._later.clear()

    def _wake_now(self, key: str) -> None:
        if (timer := self._later.pop(key, None)) is not None:
            timer.cancel()
        if key in self._running:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._fill()

    def _wake_later(self, key: str, delay: float) -> None:
        loop = asyncio.get_running_loop()
        timer = self._later.get(key)
        if timer is None or timer.when() > loop.time() + delay:
            if timer is not None:
                timer.cancel()
            call_later = self._call_later or loop.call_later
            self._later[key] = call_later(delay, self._wake_now, key)

    def _fill(self) -> None:
        while self._open and self._ready and len(self._running) < self._at_once:
            key, _ = self._ready.popitem(last=False)
            work = asyncio.create_task(self._work(key), name="hosting-drain", context=self._context.copy())
            self._running[key] = work
            # Not at the end of the work itself: what is cancelled at once never begins.
            work.add_done_callback(partial(self._ended, key))

    async def _work(self, key: str) -> float | None:
        """Drain a mailbox; give the seconds after which to look again, None where that is not needed."""
        try:
            delay = await self._drain(key)
        except HostingError as error:
            delay = self._retry_delay(key)
            logger.warning("A mailbox could not be worked off; again in %.0f s: %s", delay, error)
        except Exception:
            # One mailbox must not end the inbox of all others: it is looked into again.
            delay = self._retry_delay(key)
            logger.exception("A mailbox could not be worked off.")
        else:
            self._failures.pop(key, None)
        return delay

    def _ended(self, key: str, task: asyncio.Task[float | None]) -> None:
        if self._running.get(key) is not task:
            return
        del self._running[key]
        delay = None if task.cancelled() else task.result()
        if delay is None:
            self._drained += 1
        if key in self._again:
            self._again.discard(key)
            self._ready[key] = None
        elif delay is not None and self._open:
            self._wake_later(key, delay)
        self._fill()

    def _retry_delay(self, key: str) -> float:
        """Give the seconds until another try: 5 at first, a minute at last, and not all at the same time."""
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        return min(INTERVAL, RETRY * 2 ** (failures - 1)) * (0.8 + 0.4 * self._jitter())


class Sweeper:
    """Wakes every conversation that has unfinished updates: at the start, and then about every `interval` seconds."""

    def __init__(
        self,
        keys: Callable[[], AsyncIterator[str]],
        inbox: Inbox,
        *,
        interval: float = INTERVAL,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._keys = keys
        self._inbox = inbox
        self._interval = interval
        self._sleep = sleep
        self._jitter = jitter
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="hosting-sweep")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    async def _run(self) -> None:
        while True:
            try:
                await self.sweep()
            except Exception as error:
                told = isinstance(error, HostingError)
                logger.warning("The mailboxes could not be swept: %s", error, exc_info=None if told else error)
            # Never longer than the interval: instances that started together must not sweep together.
            await self._sleep(self._interval * (0.8 + 0.2 * self._jitter()))

    async def sweep(self) -> None:
        """Wake them once; one that cannot be told of keeps none of the others.

        Raises:
            StateUnavailable: The store did not answer.
            Exception: What the first wake raised that failed.
        """
        places = asyncio.Semaphore(WAKES_AT_ONCE)
        wakes: list[asyncio.Task[None]] = []
        try:
            async for key in self._keys():
                await places.acquire()
                wakes.append(wake := asyncio.create_task(self._inbox.wake(key)))
                wake.add_done_callback(lambda _: places.release())
            told = await asyncio.gather(*wakes, return_exceptions=True)
        finally:
            for wake in wakes:
                wake.cancel()
        failures = [failure for failure in told if failure is not None]
        if failures:
            logger.warning("%d of %d wakes of a sweep failed.", len(failures), len(wakes))
            raise failures[0]
