"""Accepting: what it costs, what it promises while the store fails, and how much is taken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agent_framework_hosting import HostLimits, InboundUpdate
from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.state.held import REMEMBERED
from agent_framework_hosting.state.memory import MemoryStore
from tests.hosting.mailbox.desk import (
    KEY,
    PostChannel,
    Times,
    check_at_rest,
    desk,
    head_of,
    numbered,
    post,
    reply,
    serving,
    word_of,
)
from tests.hosting.mailbox.worker import serve
from tests.hosting.protocol.diary import LARGE, LONG, SHORT, Diary, read_diary, say
from tests.support.faults import Worker, eventually, spawning
from tests.support.places import StatePlace
from tests.support.stores import CountingStore, Fault, FaultStore, Gate, away, calling, lost_answer, lost_request

SPAWNING = spawning("tests.hosting.mailbox.worker")


class Meter:
    """Counts the round trips before a run, between its end and the reply, and in all."""

    def __init__(self, *, padding: int = 0) -> None:
        self.store = CountingStore(MemoryStore())
        self.target = Diary(self.running, padding=padding)
        self.before: list[int] = []
        self.after: list[int] = []

    async def running(self, word: str) -> None:
        self.before.append(self.store.rounds)
        self.store.reset()

    async def reply(self, channel: PostChannel, update: InboundUpdate) -> None:
        await channel.run(update)
        self.after.append(self.store.rounds)
        self.store.reset()


async def test_accepting_is_one_round_trip() -> None:
    store = CountingStore(MemoryStore())
    async with desk(store) as one:
        for update in (post("a"), post("b"), post("a")):
            store.reset()
            await one.accept(update)
            assert (store.rounds, store.operations) == (1, 3)
        await one.drain()
        store.reset()
        await one.accept(post("b"))
        assert store.rounds == 1


@pytest.mark.parametrize(("padding", "rounds"), [(0, (2, 1)), (LARGE, (2, 2))], ids=["inline", "large"])
async def test_round_trips_of_an_update(padding: int, rounds: tuple[int, int]) -> None:
    meter = Meter(padding=padding)
    async with desk(meter.store, meter.reply, target=meter.target) as one:
        for word in "abc":
            await one.accept(post(word))
            meter.store.reset()
            await one.drain()
        assert list(zip(meter.before, meter.after, strict=True)) == [rounds] * 3


async def test_operations_of_a_chain_of_updates() -> None:
    meter = Meter()
    async with desk(meter.store, meter.reply, target=meter.target) as one:
        await one.accept(*[post(f"w{number}") for number in range(10)])
        meter.store.reset()
        await one.drain()
        # Each after the first: the list of what waits, and the write that concludes one and begins the next. Beside
        # the third nobody waits: it removes the document of what is done.
        assert meter.before == [2, *[3] * 9]
        assert meter.after == [1] * 10
    inner = meter.store.inner
    assert await read_diary(inner, KEY) == [f"w{number}" for number in range(10)]
    head = await head_of(inner)
    assert head is not None and head.epoch == 1


async def test_nobody_waits_for_the_removal_of_what_is_done(store: FaultStore) -> None:
    gate = Gate()
    async with desk(store) as one:
        await one.accept(post("a"), post("b"))
        store.plan(gate.before, kind="delete")
        drain = asyncio.create_task(one.drain())
        await eventually(lambda: one.sent == ["1: a", "2: b"], "the next update waits")
        gate.open()
        assert await drain is None
    await check_at_rest(store, ["a", "b"])


@pytest.mark.parametrize("count", [1, 2, 10])
async def test_writes_of_a_chain_of_updates(count: int) -> None:
    store = FaultStore(MemoryStore())
    async with desk(store) as one:
        await one.accept(*[post(f"w{number}") for number in range(count)])
        store.log.clear()
        await one.drain()
    assert len(store.names("put")) == 1 + 2 * count
    assert len(store.names("delete")) == count
    assert len(store.names("list")) == 2 + count
    assert len(store.names("get")) == 2 + count


@pytest.mark.parametrize("fault", [away, lost_request, lost_answer])
async def test_what_was_not_kept_is_not_acknowledged(fault: Fault) -> None:
    store = FaultStore(MemoryStore())
    async with desk(store) as one:
        store.plan(fault, times=None)
        with pytest.raises(StateUnavailable):
            await one.accept(post("a"))


@pytest.mark.parametrize("kind", ["get", "list"])
async def test_what_was_kept_is_acknowledged_although_nothing_can_be_read(store: FaultStore, kind: str) -> None:
    async with desk(store) as one:
        store.plan(away, kind=kind)
        assert await one.accept(post("a")) == [True]
        store.clear()
        await one.drain()
        assert one.sent == ["1: a"]


class Broken:
    """An inbox that cannot be told."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        self.woken.append(isolation_key)
        raise OSError("the queue is away")


async def test_a_wake_that_fails_does_not_undo_the_acknowledgement(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    inbox = Broken()
    async with serving(state_dir=tmp_path, inbox=inbox) as channel:
        assert await channel.context.accept(post("a"))
        assert inbox.woken == [KEY]
        assert "a sweep will find it" in caplog.text
    async with serving(state_dir=tmp_path) as channel:
        await eventually(lambda: channel.sent == ["1: a"], "the sweep did not find it")


class Recording:
    """An inbox that notes what the store held when it was woken."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.seen: list[int] = []

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        self.seen.append(len([path for path in self.place.rglob("*") if "in" in path.parts and path.is_file()]))


async def test_nobody_is_woken_before_the_update_is_kept_and_also_for_a_repeat(tmp_path: Path) -> None:
    inbox = Recording(tmp_path)
    async with serving(state_dir=tmp_path, inbox=inbox) as channel:
        for _ in range(2):
            await channel.context.accept(post("a"))
    assert len(inbox.seen) == 2
    assert all(inbox.seen)


async def test_a_mailbox_is_bounded(store: FaultStore) -> None:
    limits = replace(LONG, mailbox_updates=5)
    async with desk(store, limits=limits) as one:
        taken: list[str] = []
        with pytest.raises(StateUnavailable, match="mailbox_updates"):
            while True:
                await one.accept(post(f"{len(taken)}"))
                taken.append(f"{len(taken)}")
        assert 5 <= len(taken) <= 7  # It is found out by what is accepted beyond the bound.
        with pytest.raises(StateUnavailable, match="mailbox_updates"):
            await one.accept(post("more"))
        assert await one.accept(post("3")) == [True]  # A repeat adds nothing.
        assert await one.accept(post("elsewhere", key="other")) == [True]
        await one.drain()
        assert await one.accept(post("more", order="9")) == [True]
        await one.drain()
        assert one.sent == numbered([*taken, "more"])
    assert len(await store.list("in/")) == 1


async def test_a_mailbox_in_memory_is_bounded() -> None:
    held = asyncio.Event()

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        await held.wait()
        await reply(channel, update)

    async with serving(act, limits=replace(LONG, mailbox_updates=2, memory_sessions=2)) as channel:
        accept = channel.context.accept
        assert await accept(post("a")) and await accept(post("b"))
        with pytest.raises(StateUnavailable):
            await accept(post("c"))
        assert await accept(post("b"))
        assert await accept(post("x", key="x"))
        with pytest.raises(StateUnavailable):
            await accept(post("y", key="y"))
        held.set()
        await eventually(lambda: len(channel.sent) == 3, "not processed")
        assert sorted(channel.sent) == ["1: a", "1: x", "2: b"]


async def test_a_repeat_a_day_later_is_known_and_one_much_later_is_not(store: FaultStore) -> None:
    times = Times()
    async with desk(store, times=times) as one, desk(store, times=times) as other:
        await one.accept(post("a"))
        await one.finish()
        times.clock.advance(86_400)
        await other.accept(post("b"))
        await other.finish()
        assert await other.accept(post("a")) == [False]
        await other.finish()
        times.clock.advance(REMEMBERED)
        await other.accept(post("c"))
        await other.finish()
        head = await head_of(store)
        assert head is not None and len(head.done) == 1
        assert one.sent + other.sent == ["1: a", "2: b", "3: c"]
    await check_at_rest(store, ["a", "b", "c"])


async def test_what_is_done_stays_known_while_its_document_is_there(store: FaultStore) -> None:
    times = Times()
    async with desk(store, times=times) as one:
        store.plan(away, kind="delete", times=None)
        await one.accept(post("a"))
        assert await one.drain() is None
        for word in "bcd":
            times.clock.advance(REMEMBERED + 1)
            await one.accept(post(word))
            assert await one.drain() is None
        assert one.sent == ["1: a", "2: b", "3: c", "4: d"]
        store.clear()
        await one.drain()
    await check_at_rest(store, ["a", "b", "c", "d"])


async def test_an_update_that_is_accepted_while_the_lease_is_given_back_is_processed(store: FaultStore) -> None:
    async with desk(store) as one, desk(store) as other:

        async def accept() -> None:
            await other.accept(post("b"))

        await one.accept(post("a"))
        # The list that finds no next update, and the write that gives the lease back.
        store.plan(calling(after=accept), kind="list", nth=2)
        assert await one.drain() is None
        assert one.sent == ["1: a", "2: b"]
    await check_at_rest(store, ["a", "b"])


async def test_an_http_turn_comes_between_a_reply_and_its_repeat(store: FaultStore) -> None:
    times, failed = Times(), list[str]()

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        await reply(channel, update)
        if not failed:
            failed.append(word_of(update))
            raise ValueError("no")

    async with desk(store, act, times=times) as one:
        await one.accept(post("a"), post("b"))
        await one.drain()
        assert await say(one.channel.context, KEY, "http") == "2: http"
        await one.finish()
        assert one.sent == ["1: a", "1: a", "3: b"]
    await check_at_rest(store, ["a", "http", "b"])


async def test_the_backlog_before_a_repeated_reply_may_be_long(store: FaultStore) -> None:
    """More updates than a page, all of them earlier by their order, arrive before the reply is sent again."""
    times, failed = Times(), list[str]()

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        await reply(channel, update)
        if not failed:
            failed.append(word_of(update))
            raise ValueError("no")

    words = [f"{number}" for number in range(120)]
    async with desk(store, act, target=(agent := Diary()), times=times) as one:
        await one.accept(post("999"))
        await one.drain()
        await one.accept(*map(post, words))
        await one.finish()
        assert one.sent[:3] == ["1: 999", "1: 999", "2: 0"]
    assert agent.heard == ["999", *words]
    await check_at_rest(store, ["999", *words])


async def test_updates_of_a_process_that_died_are_found_by_the_next_one(place: StatePlace) -> None:
    words = ["hold one", "hold two"]
    with Worker(SPAWNING, serve, place.state_dir, *words) as worker:
        assert [await worker.heard() for _ in words] == ["holding", "holding"]
        worker.kill()
        await worker.end()
    async with serving(state_dir=place.state_dir, limits=SHORT) as channel:
        await eventually(lambda: len(channel.sent) == 2, "the sweep did not find them")
        assert sorted(channel.sent) == ["1: hold one", "1: hold two"]


async def test_a_store_that_is_away_under_load_loses_nothing_acknowledged(store: FaultStore) -> None:
    keys = [f"k{number}" for number in range(5)]
    limits = HostLimits(lease=timedelta(seconds=0.6), turn_timeout=timedelta(seconds=20))
    acknowledged: dict[str, list[str]] = {key: [] for key in keys}
    back = asyncio.Event()

    async def platform(key: str) -> None:
        for number in range(6):
            update = post(f"{number}", key=key)
            try:
                await one.accept(update)
            except StateUnavailable:
                await back.wait()
                await one.accept(update)
            acknowledged[key].append(f"{number}")

    async def work(key: str) -> None:
        while True:
            try:
                delay = await one.drain(key)
            except StateUnavailable:
                delay = 0.05
            if delay is None and len(acknowledged[key]) == 6:
                return
            await asyncio.sleep(min(delay or 0.01, 0.05))

    async with desk(store, limits=limits, jitter=lambda: 0.0) as one, asyncio.timeout(60), asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(platform(key))
            group.create_task(work(key))
        await eventually(lambda: len(one.sent) > 3, "nothing is processed")
        store.plan(away, times=None)
        await asyncio.sleep(1.0)  # as long as a lease lasts and more
        store.clear()
        back.set()
    for key in keys:
        await check_at_rest(store, [f"{number}" for number in range(6)], key)
