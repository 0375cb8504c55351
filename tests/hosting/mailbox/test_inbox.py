"""The inbox of a process and its sweeper, on a loop whose time does not pass by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.inbox import LocalInbox, Sweeper
from agent_framework_hosting.state.mail import Letter
from agent_framework_hosting.state.memory import MemoryStore
from tests.hosting.mailbox.desk import KEY, Times, desk, post
from tests.support.channels import until
from tests.support.stores import FaultStore, away


class Work:
    """A drain that is held until it is let go; what it gives comes from `delays`, then nothing is left."""

    def __init__(self, *delays: float | BaseException | None) -> None:
        self.delays = [*delays]
        self.begun: list[str] = []
        self.ended: list[str] = []
        self.running: set[str] = set()
        self.most = 0
        self.going = asyncio.Event()

    async def __call__(self, key: str) -> float | None:
        self.begun.append(key)
        self.running.add(key)
        self.most = max(self.most, len(self.running))
        try:
            await self.going.wait()
            delay = self.delays.pop(0) if self.delays else None
            if isinstance(delay, BaseException):
                raise delay
            return delay
        finally:
            self.running.remove(key)
            self.ended.append(key)


class Timers:
    """Stands in for the timers of a loop: they go off when the test moves the time."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, Callable[..., Any], tuple[Any, ...], asyncio.TimerHandle]] = []

    def __call__(self, delay: float, callback: Callable[..., Any], *args: Any) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        handle = asyncio.TimerHandle(loop.time() + delay, callback, args, loop)
        self.timers.append((self.now + delay, callback, args, handle))
        return handle

    @property
    def waiting(self) -> list[float]:
        return sorted(when - self.now for when, _, _, handle in self.timers if not handle.cancelled())

    def move(self, seconds: float) -> None:
        self.now += seconds
        due = [timer for timer in self.timers if timer[0] <= self.now]
        self.timers = [timer for timer in self.timers if timer[0] > self.now]
        for _, callback, args, handle in due:
            if not handle.cancelled():
                callback(*args)


@pytest.fixture
def timers() -> Timers:
    return Timers()


async def test_a_wake_is_worked_off() -> None:
    work = Work()
    inbox = LocalInbox(work)
    inbox.start()
    await inbox.wake("a")
    work.going.set()
    await until(lambda: work.ended == ["a"])
    await inbox.stop()


async def test_wakes_before_the_start_wait_for_it() -> None:
    work = Work()
    inbox = LocalInbox(work)
    await inbox.wake("a")
    await inbox.wake("a")
    await asyncio.sleep(0)
    assert work.begun == []
    work.going.set()
    inbox.start()
    await until(lambda: work.ended == ["a"])
    await inbox.stop()
    assert work.begun == ["a"]


async def test_wakes_during_a_drain_have_it_look_once_more() -> None:
    work = Work()
    inbox = LocalInbox(work)
    inbox.start()
    await inbox.wake("a")
    await until(lambda: work.begun == ["a"])
    for _ in range(5):
        await inbox.wake("a")
    work.going.set()
    await until(lambda: work.ended == ["a", "a"])
    await inbox.stop()
    assert work.begun == ["a", "a"]


async def test_no_more_run_at_once_than_may_and_all_have_their_turn() -> None:
    work = Work()
    inbox = LocalInbox(work, at_once=3)
    inbox.start()
    keys = [f"k{number}" for number in range(10)]
    for key in keys:
        await inbox.wake(key)
    await until(lambda: len(work.running) == 3)
    assert work.begun == keys[:3]
    work.going.set()
    await until(lambda: len(work.ended) == 10)
    await inbox.stop()
    assert (work.begun, work.most) == (keys, 3)


async def test_a_drain_that_has_to_wait_is_woken_then(timers: Timers) -> None:
    work = Work(7.0)
    work.going.set()
    inbox = LocalInbox(work, call_later=timers)
    inbox.start()
    await inbox.wake("a")
    await until(lambda: timers.waiting == [7.0])
    timers.move(6.9)
    await asyncio.sleep(0)
    assert work.begun == ["a"]
    timers.move(0.2)
    await until(lambda: work.ended == ["a", "a"])
    assert timers.waiting == []
    await inbox.stop()


async def test_the_earliest_of_several_delays_counts_and_a_wake_at_once_replaces_it(timers: Timers) -> None:
    work = Work()
    work.going.set()
    inbox = LocalInbox(work, call_later=timers)
    inbox.start()
    for delay in (30, 10, 20):
        await inbox.wake("a", delay=delay)
    assert timers.waiting == pytest.approx([10])
    await inbox.wake("a")
    assert timers.waiting == []
    await until(lambda: work.ended == ["a"])
    await inbox.stop()


@pytest.mark.parametrize("error", [StateUnavailable("away"), RuntimeError("a bug")])
async def test_a_drain_that_fails_is_tried_again_later(
    timers: Timers, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    work = Work(error)
    work.going.set()
    inbox = LocalInbox(work, call_later=timers, jitter=lambda: 0.5)
    inbox.start()
    await inbox.wake("a")
    await until(lambda: timers.waiting == [5.0])
    assert "could not be worked off" in caplog.text
    timers.move(5)
    await until(lambda: work.ended == ["a", "a"])
    await inbox.stop()


async def test_a_mailbox_that_keeps_failing_is_tried_less_and_less(timers: Timers) -> None:
    failures = 6

    async def work(key: str) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StateUnavailable("away")

    inbox = LocalInbox(work, call_later=timers, jitter=lambda: 0.5)
    inbox.start()
    await inbox.wake("a")
    for delay in (5, 10, 20, 40, 60, 60):
        await until(lambda delay=delay: timers.waiting == pytest.approx([delay]))
        timers.move(delay)
    await until(lambda: failures < 0)
    assert timers.waiting == []
    await inbox.stop()


async def test_stopping_works_off_what_is_ready() -> None:
    work = Work()
    inbox = LocalInbox(work, at_once=1)
    inbox.start()
    for key in "abc":
        await inbox.wake(key)
    asyncio.get_running_loop().call_soon(work.going.set)
    await inbox.stop()
    assert work.ended == ["a", "b", "c"]
    await inbox.wake("d")
    await asyncio.sleep(0)
    assert work.begun == ["a", "b", "c"]


async def test_stopping_gives_up_what_is_not_done_in_time(timers: Timers) -> None:
    work = Work()
    inbox = LocalInbox(work, at_once=1, call_later=timers)
    inbox.start()
    await inbox.wake("a")
    await inbox.wake("b")
    await inbox.wake("c", delay=60)
    await until(lambda: work.begun == ["a"])
    await inbox.stop(grace=0)
    assert (work.begun, work.ended, timers.waiting) == (["a"], ["a"], [])


async def test_an_update_that_is_given_up_goes_on_elsewhere_at_once(store: FaultStore) -> None:
    begun, times = asyncio.Event(), Times()

    async def act(channel: Any, update: Any) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with desk(store, act, times=times) as one, desk(store, times=times) as other:
        await one.accept(post("a"))
        inbox = LocalInbox(one.drain)
        inbox.start()
        await inbox.wake(KEY)
        await begun.wait()
        await inbox.stop(grace=0)
        assert await other.drain() is None
        assert other.sent == ["1: a"]
        assert times.clock.time == 1000


class Woken:
    def __init__(self) -> None:
        self.keys: list[str] = []

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        self.keys.append(isolation_key)


class Pauses:
    """Stands in for sleeping: notes how long, and goes on when told."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.over = asyncio.Semaphore(0)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await self.over.acquire()


@pytest.mark.parametrize(("jitter", "pause"), [(0.0, 48), (1.0, 60)])
async def test_a_sweep_comes_at_the_start_and_every_minute_at_least(jitter: float, pause: float) -> None:
    sweeps, woken, pauses = list[int](), Woken(), Pauses()

    async def keys() -> AsyncIterator[str]:
        sweeps.append(len(sweeps))
        if len(sweeps) == 2:
            raise StateUnavailable("away")
        yield f"k{len(sweeps)}"

    sweeper = Sweeper(keys, woken, sleep=pauses, jitter=lambda: jitter)
    sweeper.start()
    for count in range(1, 4):
        await until(lambda count=count: len(pauses.seconds) == count)
        pauses.over.release()
    await until(lambda: len(pauses.seconds) == 4)
    await sweeper.stop()
    assert woken.keys == ["k1", "k3", "k4"]
    assert pauses.seconds == pytest.approx([pause] * 4)


async def test_all_mailboxes_are_found_whatever_stands_in_them(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with desk(store) as one:
        for key, count in (("x", 1), ("y", 30), ("z", 2), ("damaged", 2), ("lost", 1), ("headed", 2)):
            for number in range(count):
                await one.accept(post(f"{number}", key=key))
        await store.put(Letter.of(post("0", key="damaged")).waiting, b"?")
        await store.put(Letter.of(post("0", key="lost")).waiting, b"?")
        assert await one.keys() == ["damaged", "headed", "x", "y", "z"]
        assert "left alone" in caplog.text
        await one.drain("headed")
        await one.accept(post("2", key="headed"))
        await store.put(Letter.of(post("2", key="headed")).waiting, b"?")
        assert "headed" in await one.keys()
        store.plan(away, kind="list")
        with pytest.raises(StateUnavailable):
            await one.keys()


async def test_more_updates_than_a_page_are_swept() -> None:
    async with desk(MemoryStore()) as one:
        await asyncio.gather(*[one.accept(post(f"{number}", key=f"k{number % 7}")) for number in range(1100)])
        assert await one.keys() == [f"k{number}" for number in range(7)]
