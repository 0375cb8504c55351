"""Every store operation of updates goes wrong in every way; then another instance goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from agent_framework_hosting import HostLimits, InboundUpdate
from agent_framework_hosting.errors import HostingError, StateUnavailable
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import StateStore
from tests.hosting.mailbox.desk import (
    Act,
    Desk,
    PostChannel,
    Times,
    check_at_rest,
    dead,
    desk,
    head_of,
    numbered,
    post,
    reply,
    word_of,
)
from tests.hosting.protocol.diary import LARGE, LONG, Diary
from tests.support.places import StatePlace
from tests.support.stores import (
    Fault,
    FaultStore,
    Operation,
    away,
    calling,
    cut,
    landed,
    late_request,
    lost_answer,
    lost_request,
    slow,
    twice,
)

Apply = Callable[[], Awaitable[Any]]


class Once:
    """An act that fails at its first attempt at a word, after the turn was saved or before."""

    def __init__(self, word: str, *, saved: bool) -> None:
        self.word = word
        self.saved = saved
        self.failed = False

    async def __call__(self, channel: PostChannel, update: InboundUpdate) -> None:
        due = word_of(update) == self.word and not self.failed
        if due and not self.saved:
            self.failed = True
            raise ValueError("no")
        hosted = await channel.run(update)
        if due:
            self.failed = True
            raise ValueError("no")
        await channel.send(hosted.result.text)


async def refuse_b(channel: PostChannel, update: InboundUpdate) -> None:
    if word_of(update) == "b":
        raise ValueError("never")
    await reply(channel, update)


async def reset_at_b(channel: PostChannel, update: InboundUpdate) -> None:
    if word_of(update) == "b":
        await channel.context.reset_session(update.isolation_key)
        await channel.send("reset")
    else:
        await reply(channel, update)


async def run_twice_at_b(channel: PostChannel, update: InboundUpdate) -> None:
    await reply(channel, update)
    if word_of(update) == "b":
        await channel.send((await channel.run(update, "b2")).result.text)


@dataclass(frozen=True)
class Scenario:
    """What happens to the updates a, b and c: the words that are left, and the replies that must have been sent."""

    act: Callable[[], Act] = lambda: reply
    words: tuple[str, ...] = ("a", "b", "c")
    replies: tuple[str, ...] = ("1: a", "2: b", "3: c")
    dead: tuple[str, ...] = ()
    padding: int = 0
    limits: HostLimits = LONG


SCENARIOS = {
    "chain": Scenario(),
    "large": Scenario(padding=LARGE),
    "fails before its turn": Scenario(lambda: Once("b", saved=False)),
    "fails after its turn": Scenario(lambda: Once("b", saved=True)),
    "set aside": Scenario(
        lambda: refuse_b, ("a", "c"), ("1: a", "2: c"), ("b",), limits=replace(LONG, update_attempts=2)
    ),
    "reset": Scenario(lambda: reset_at_b, ("c",), ("1: a", "reset", "1: c")),
    "two turns": Scenario(lambda: run_twice_at_b, ("a", "b", "b2", "c"), ("1: a", "2: b", "3: b2", "4: c")),
}
FAULTS: list[Fault] = [away, cut, late_request, lost_answer, lost_request, slow, twice]


async def accepted(worker: Desk, update: InboundUpdate) -> None:
    """Accept an update as a platform does that repeats what was not acknowledged."""
    for _ in range(3):
        try:
            await worker.drains.accept(update)
        except StateUnavailable:
            continue
        return
    raise AssertionError("not acknowledged")


async def tried(worker: Desk, store: FaultStore) -> None:
    """Accept and drain while the store does what was planned; errors are those of the store."""
    for word in "abc":
        await accepted(worker, post(word))
    for _ in range(20):
        try:
            if (delay := await worker.drain()) is None:
                return
        except HostingError:
            delay = 1.0
        worker.times.clock.advance(delay + 0.001)


async def checked(scenario: Scenario, inner: StateStore, plan: Callable[[FaultStore], None]) -> int:
    """Play a scenario with planned faults, let another instance finish it, and see what is left."""
    store, times, sent = FaultStore(inner), Times(), list[str]()
    act = scenario.act()
    target = Diary(padding=scenario.padding)
    parts: dict[str, Any] = {"target": target, "times": times, "sent": sent, "limits": scenario.limits}
    plan(store)
    async with desk(store, act, **parts) as one, desk(store, act, **parts) as other:
        await tried(one, store)
        operations = len(store.log)
        store.clear()
        await landed()
        await other.finish()
    await check_at_rest(inner, list(scenario.words))
    assert set(sent) == set(scenario.replies)
    assert sorted(set(sent), key=sent.index) == list(scenario.replies)
    assert tuple(update.id for update in await dead(inner)) == scenario.dead
    return operations


def at(nth: int, fault: Fault, times: int | None = 1) -> Callable[[FaultStore], None]:
    return lambda store: store.plan(fault, nth=nth, times=times)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
async def test_updates_survive_a_fault_of_any_operation(name: str, fault: Fault) -> None:
    scenario = SCENARIOS[name]
    operations = await checked(scenario, MemoryStore(), lambda store: None)
    assert operations >= 15
    cases = [checked(scenario, MemoryStore(), at(nth, fault)) for nth in range(1, operations + 1)]
    await asyncio.gather(*cases)


@pytest.mark.parametrize("fault", FAULTS)
async def test_updates_at_every_place_survive_a_fault_of_any_operation(place: StatePlace, fault: Fault) -> None:
    scenario = SCENARIOS["chain"]
    operations = await checked(scenario, open_store(place.below("0")), lambda store: None)
    cases = [checked(scenario, open_store(place.below(str(nth))), at(nth, fault)) for nth in range(1, operations + 1)]
    await asyncio.gather(*cases)


def failing(fault: Fault) -> Fault:
    """A fault that spares acceptance, whose caller would have to wait for the end of it."""

    async def late(operation: Operation, apply: Apply) -> Any:
        if operation.kind == "put" and operation.name.startswith("in/"):
            return await apply()
        return await fault(operation, apply)

    return late


@pytest.mark.parametrize("fault", [away, lost_answer])
async def test_updates_survive_a_store_that_goes_away_at_any_operation(fault: Fault) -> None:
    """It is away for so long that everybody gives up, which takes seconds: all scenarios wait at once."""

    async def check(name: str) -> None:
        scenario = SCENARIOS[name]
        operations = await checked(scenario, MemoryStore(), lambda store: None)
        cases = [checked(scenario, MemoryStore(), at(nth, failing(fault), 40)) for nth in range(10, operations + 1)]
        await asyncio.gather(*cases)

    await asyncio.gather(*map(check, ["chain", "fails after its turn", "reset"]))


class Caller:
    """Awaits works as tasks of their own, the current one of which can be cancelled."""

    def __init__(self) -> None:
        self.task: asyncio.Task[Any] | None = None

    async def __call__(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Give what a work gives, doing it again for as long as it is cancelled."""
        while True:
            self.task = asyncio.ensure_future(work())
            await asyncio.wait([self.task])
            if not self.task.cancelled():
                return self.task.result()

    async def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()
            await asyncio.sleep(0)
            self.task.cancel()


@pytest.mark.parametrize("name", SCENARIOS)
async def test_updates_survive_a_cancellation_at_any_operation(name: str) -> None:
    """As where an invocation ends: at once nobody holds anything, and no attempt is counted."""
    scenario = SCENARIOS[name]

    async def check(nth: int, *, after: bool) -> int:
        store, times, sent = FaultStore(MemoryStore()), Times(), list[str]()
        act, caller = scenario.act(), Caller()
        parts: dict[str, Any] = {"times": times, "sent": sent, "limits": scenario.limits}
        store.plan(calling(after=caller.cancel) if after else calling(before=caller.cancel), nth=nth)
        async with desk(store, act, target=Diary(padding=scenario.padding), **parts) as one:
            for word in "abc":
                await caller(lambda word=word: one.accept(post(word)))
            while (delay := await caller(one.drain)) is not None:
                assert delay > 3, "somebody still holds the conversation"
                times.clock.advance(delay + 0.001)
        await check_at_rest(store, list(scenario.words))
        assert sorted(set(sent), key=sent.index) == list(scenario.replies)
        assert tuple(update.id for update in await dead(store)) == scenario.dead
        return len(store.log)

    operations = await check(1000, after=False)
    await asyncio.gather(*[check(nth, after=after) for nth in range(1, operations + 1) for after in (False, True)])


async def test_updates_survive_a_cancellation_at_any_step() -> None:
    """Cancelled at each turn of the event loop, as far as they reach."""
    store, times, sent = FaultStore(MemoryStore()), Times(), list[str]()
    words: list[str] = []
    async with desk(store, times=times, sent=sent) as one, desk(store, times=times, sent=sent) as other:
        for steps in range(400):
            pair = [f"{len(words) + 1:03}", f"{len(words) + 2:03}"]
            words += pair
            await one.accept(*map(post, pair))
            task = asyncio.create_task(one.drain())
            for _ in range(steps):
                await asyncio.sleep(0)
            finished = task.done()
            task.cancel()
            await asyncio.wait([task])
            head = await head_of(store)
            assert head is None or (head.lease is None and not head.hold)
            assert await other.drain() is None
            await check_at_rest(store, words)
            if finished:
                break
        else:
            raise AssertionError("it never ends")
    assert sorted(set(sent), key=sent.index) == numbered(words)
    assert len(sent) <= len(words) * 2
