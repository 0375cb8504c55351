"""The work of one invocation, by scripted drains on a loop whose time jumps over every wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from agent_framework_hosting import HostingError, InvalidRequest, StateUnavailable
from agent_framework_hosting.backlog import PATIENCE, PREPARING, Backlog, Substitute
from agent_framework_hosting.inbox import INTERVAL, LocalInbox
from tests.support.jumping import now, run

UNTIL, END = 50.0, 53.0


@dataclass
class Step:
    """A drain of some seconds; `stays` is for how long it goes on once it is cancelled, which it then swallows."""

    seconds: float = 0.0
    delay: float | None = None
    error: Exception | None = None
    stays: float | None = None


@dataclass
class Drains:
    """Does, key by key, one step after another; a key without one has nothing left."""

    steps: Mapping[str, list[Step]]
    begun: list[tuple[str, float]] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    let_go: int = 0

    async def __call__(self, key: str) -> float | None:
        self.begun.append((key, now()))
        left = self.steps.get(key, [])
        step = left.pop(0) if left else Step()
        try:
            await asyncio.sleep(step.seconds)
        except asyncio.CancelledError:
            self.cancelled.append(key)
            if step.stays is None:
                raise
            await asyncio.sleep(step.stays)
        if step.error is not None:
            raise step.error
        self.done.append(key)
        return step.delay

    async def give_back(self) -> None:
        self.let_go += 1


@dataclass
class Elsewhere:
    """An inbox that takes `seconds` for each wake, and raises what is planned for its key, or for every one."""

    seconds: float = 0.0
    errors: Mapping[str, Exception] = field(default_factory=dict)
    error: Exception | None = None
    woken: dict[str, float] = field(default_factory=dict)
    asked: int = 0

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        self.asked += 1
        await asyncio.sleep(self.seconds)
        if error := self.error or self.errors.get(isolation_key):
            raise error
        self.woken[isolation_key] = delay


@dataclass
class Invocations:
    """A process's backlog, and its invocations one after another; `ends` are when they were over."""

    drains: Drains
    backlog: Backlog
    local: LocalInbox
    ends: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, elsewhere: Elsewhere | None = None, *, at_once: int = 64, **steps: list[Step]) -> Invocations:
        drains = Drains(steps)
        local = LocalInbox(drains, at_once=at_once, jitter=lambda: 0.5)
        return cls(drains, Backlog(local, elsewhere, let_go=drains.give_back), local)

    async def invoke(self, *keys: str, seconds: float = UNTIL, closing: float = END - UNTIL) -> None:
        began = now()
        for key in keys:
            await self.backlog.wake(key)
        await self.backlog.work(began + seconds, end=began + seconds + closing)
        self.ends.append(now() - began)

    @property
    def left(self) -> list[str]:
        return sorted(self.local.left())


def test_what_was_woken_is_worked_off_and_what_is_woken_meanwhile() -> None:
    async def work() -> None:
        process = Invocations.of(a=[Step(3)], b=[Step(5)], c=[Step(4)])
        later = asyncio.get_running_loop().call_later(4, lambda: tasks.append(asyncio.ensure_future(wake("c"))))
        tasks: list[asyncio.Future[None]] = []
        wake = process.backlog.wake
        await process.invoke("a", "b")
        assert process.drains.begun == [("a", 0), ("b", 0), ("c", 4)]
        assert (process.drains.done, process.ends, process.left) == (["a", "b", "c"], [8], [])
        assert not process.backlog.waits
        later.cancel()

    run(work())


def test_nothing_takes_no_time_and_begins_nothing() -> None:
    async def work() -> None:
        process = Invocations.of()
        await process.invoke()
        assert (process.ends, process.drains.begun, process.drains.let_go) == ([0], [], 0)

    run(work())


def test_nothing_is_begun_between_invocations() -> None:
    async def work() -> None:
        process = Invocations.of(a=[Step(1, delay=20)])
        await process.invoke("a")
        await process.backlog.wake("b")
        await asyncio.sleep(100)
        assert process.drains.begun == [("a", 0)]
        assert process.backlog.waits
        await process.invoke()
        assert process.drains.done == ["a", "b", "a"]

    run(work())


def test_a_conversation_that_is_busy_is_waited_for_and_one_on_hold_is_not() -> None:
    async def work() -> None:
        process = Invocations.of(busy=[Step(delay=1.0), Step(delay=0.5)], hold=[Step(delay=PATIENCE + 5)])
        await process.invoke("busy", "hold")
        assert [key for key, _ in process.drains.begun] == ["busy", "hold", "busy", "busy"]
        assert process.ends == [1.5]
        assert process.left == ["hold"]

    run(work())


def test_what_stays_busy_is_not_waited_for_again_and_again() -> None:
    async def work() -> None:
        process = Invocations.of(busy=[Step(delay=1.0)] * 50)
        await process.invoke("busy")
        assert process.ends == [PATIENCE]
        assert process.left == ["busy"]

    run(work())


def test_a_hold_that_ends_while_others_are_worked_on_is_not_left_to_another_invocation() -> None:
    async def work() -> None:
        process = Invocations.of(long=[Step(20)], hold=[Step(delay=6)])
        await process.invoke("long", "hold")
        assert process.drains.done == ["hold", "hold", "long"]
        assert process.left == []

    run(work())


def test_at_the_deadline_what_is_under_way_is_stopped_and_stays_noted() -> None:
    async def work() -> None:
        process = Invocations.of(at_once=2, a=[Step(20)], b=[Step(UNTIL + 1)], c=[Step(40)], d=[Step()])
        await process.invoke("a", "b", "c", "d")
        assert process.drains.cancelled == ["b", "c"]
        assert process.ends == [UNTIL]
        assert process.left == ["b", "c", "d"]
        await process.invoke()
        assert (sorted(process.drains.done), process.left) == (["a", "b", "c", "d"], [])

    run(work())


def test_an_invocation_whose_time_is_over_begins_nothing_and_loses_nothing() -> None:
    async def work() -> None:
        process = Invocations.of(a=[Step(1)])
        await process.invoke("a", seconds=-1)
        assert process.drains.begun == []
        await process.invoke()
        assert (process.drains.done, process.ends) == (["a"], [0, 1])

    run(work())


def test_a_drain_that_is_stopped_before_its_first_step_is_begun_the_next_time() -> None:
    async def work() -> None:
        drains = Drains({})
        local = LocalInbox(drains)
        await local.wake("a")
        local.start()
        await local.pause(1)
        assert (drains.begun, local.left()) == ([], {"a": 0})
        local.start()
        await local.settled(UNTIL, PATIENCE)
        await local.pause(1)
        assert (drains.done, now(), local.waits) == (["a"], 0, False)

    run(work())


@pytest.mark.parametrize("stays", [1, 2.5, 1000])
def test_a_drain_that_does_not_end_keeps_no_invocation_and_is_begun_anew(stays: float) -> None:
    async def work() -> None:
        process = Invocations.of(a=[Step(100, stays=stays), Step(1)], b=[Step(1)])
        await process.invoke("a")
        assert process.ends[0] <= END
        assert process.drains.let_go == 1
        assert process.left == ["a"]
        await process.invoke("b")
        assert process.ends[1] == 1
        assert [key for key, _ in process.drains.begun] == ["a", "a", "b"]
        await asyncio.sleep(2000)  # The first one ends at last.
        assert process.left == []
        await process.invoke("a")
        assert process.ends[2] == 0

    run(work())


@pytest.mark.parametrize("error", [StateUnavailable("away"), ValueError("a bug")])
def test_a_drain_that_fails_is_left_to_another_invocation(error: Exception) -> None:
    async def work() -> None:
        process = Invocations.of(a=[Step(1, error=error)], b=[Step(2)])
        await process.invoke("a", "b")
        assert (process.drains.done, process.left, process.ends) == (["b"], ["a"], [2])
        await asyncio.sleep(10)
        await process.invoke()
        assert process.left == []

    run(work())


def test_the_invocation_that_is_cancelled_stops_what_is_under_way() -> None:
    async def work() -> None:
        process = Invocations.of(a=[Step(20)])
        task = asyncio.create_task(process.invoke("a"))
        await asyncio.sleep(5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        assert (process.drains.cancelled, process.drains.let_go, process.left) == (["a"], 1, ["a"])

    run(work())


def test_a_conversation_that_nobody_gives_back_in_time_ends_no_later(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        async def never() -> None:
            await asyncio.sleep(1000)

        drains = Drains({"a": [Step(100)]})
        local = LocalInbox(drains)
        await local.wake("a")
        await Backlog(local, let_go=never).work(UNTIL, end=END)
        assert now() == END
        assert "lease has run out" in caplog.text

    run(work())


# An inbox elsewhere


def test_what_is_woken_while_the_inbox_is_told_is_noted_anew() -> None:
    async def work() -> None:
        elsewhere = Elsewhere(seconds=1)
        process = Invocations.of(elsewhere, a=[Step(100)])
        asyncio.get_running_loop().call_at(UNTIL + 0.5, lambda: again.append(asyncio.ensure_future(wake("a"))))
        again: list[asyncio.Future[None]] = []
        wake = process.backlog.wake
        await process.invoke("a")
        assert (elsewhere.woken, process.left) == ({"a": 0}, ["a"])

    run(work())


@dataclass
class Unprepared(Elsewhere):
    """An inbox that takes `preparing` seconds for its first wake, or before; `prepared` is when it was told to."""

    preparing: float = 1.5
    refuses: bool = False
    prepared: list[float] = field(default_factory=list)

    async def prepare(self) -> None:
        self.prepared.append(now())
        await asyncio.sleep(self.preparing)
        if self.refuses:
            raise LookupError("no module of that name")
        self.preparing = 0.0

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        await asyncio.sleep(self.preparing)
        await super().wake(isolation_key, delay=delay)


def test_an_inbox_is_prepared_before_the_time_is_over_and_only_where_it_may_be_needed() -> None:
    async def work() -> None:
        elsewhere = Unprepared()
        process = Invocations.of(elsewhere, a=[Step(UNTIL - PREPARING - 1)], b=[Step(100)], c=[Step(100)])
        await process.invoke("a")
        assert elsewhere.prepared == []
        began = now()
        await process.invoke("b")
        assert elsewhere.prepared == [began + UNTIL - PREPARING]
        assert (elsewhere.woken, process.ends[-1]) == ({"b": 0}, UNTIL)
        await process.invoke("c", seconds=1)  # Less than it takes: at once.
        assert elsewhere.woken == {"b": 0, "c": 0}

    run(work())


def test_an_inbox_that_cannot_be_prepared_is_asked_all_the_same() -> None:
    async def work() -> None:
        elsewhere = Unprepared(refuses=True)
        process = Invocations.of(elsewhere, a=[Step(100)])
        await process.invoke("a")
        assert (len(elsewhere.prepared), elsewhere.woken) == (1, {"a": 0})
        assert process.ends == [UNTIL + 1.5]

    run(work())


def test_what_is_left_and_due_before_a_sweep_is_handed_on() -> None:
    async def work() -> None:
        elsewhere = Elsewhere(seconds=0.5)
        process = Invocations.of(
            elsewhere, a=[Step(100)], b=[Step(45, delay=20)], c=[Step(45, delay=INTERVAL + 10)], d=[Step()]
        )
        await process.invoke("a", "b", "c", "d")
        assert elsewhere.woken == {"a": 0, "b": pytest.approx(15)}
        assert process.left == ["c"]
        assert process.ends == [UNTIL + 0.5]

    run(work())


def test_an_inbox_that_is_away_leaves_everything_noted(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        elsewhere = Elsewhere(errors={"b": HostingError("no queue")})
        process = Invocations.of(elsewhere, a=[Step(delay=30)], b=[Step(delay=30)])
        await process.invoke("a", "b")
        assert list(elsewhere.woken) == ["a"]
        assert process.left == ["b"]
        assert "1 updates that are left" in caplog.text

    run(work())


@pytest.mark.parametrize(("seconds", "end"), [(10.0, 3.0), (UNTIL, END)])
def test_an_inbox_that_hangs_is_given_up_before_the_end(seconds: float, end: float) -> None:
    async def work() -> None:
        hold = [Step(seconds - UNTIL + 49.5, delay=30)] if seconds == UNTIL else [Step(delay=30)]
        process = Invocations.of(Elsewhere(seconds=1000), a=hold, b=[Step(1000)] if seconds == UNTIL else [])
        await process.invoke("a", "b")
        assert process.ends == [end]
        assert "a" in process.left

    run(work())


def test_a_sweep_notes_what_an_inbox_cannot_be_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        process = Invocations.of()
        elsewhere = Elsewhere(errors={"large": InvalidRequest("session", "too large")})
        inbox = Substitute(elsewhere, process.backlog)
        for key in ("a", "large", "b"):
            await inbox.wake(key)
        assert list(elsewhere.woken) == ["a", "b"]
        assert process.left == ["large"]

    with caplog.at_level(logging.WARNING):
        run(work())
    assert caplog.text == ""


def test_a_sweep_asks_an_inbox_that_is_away_but_once() -> None:
    async def work() -> Any:
        process, elsewhere = Invocations.of(), Elsewhere(seconds=2.9, error=HostingError("away"))
        inbox = Substitute(elsewhere, process.backlog)
        for key in ("a", "b", "c"):
            await inbox.wake(key)
        assert (process.left, elsewhere.asked, now()) == (["a", "b", "c"], 1, 2.9)

    run(work())
