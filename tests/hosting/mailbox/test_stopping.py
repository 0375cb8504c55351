"""Drains that are stopped because a platform's time is over: what becomes of their update, and of the conversation."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from dataclasses import replace
from typing import Any

import pytest

from agent_framework_hosting import InboundUpdate, InvalidRequest, TurnConflict
from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.inbox import Sweeper
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.letters import Letters
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import StateStore
from tests.hosting.mailbox.desk import (
    BORN,
    Act,
    PostChannel,
    Times,
    check_at_rest,
    dead,
    desk,
    head_of,
    post,
    reply,
    settled,
    word_of,
)
from tests.hosting.protocol.diary import LONG
from tests.support.channels import until
from tests.support.stores import CountingStore, FaultStore, away


def hanging(begun: asyncio.Event, then: Act | None = None) -> Act:
    """Begin, wait until cancelled, and do something else then."""

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if then is None:
                raise
        if then is not None:
            await then(channel, update)

    return act


async def stopped(work: Awaitable[Any], begun: asyncio.Event) -> asyncio.Task[Any]:
    task = asyncio.ensure_future(work)
    await begun.wait()
    task.cancel()
    await asyncio.wait([task], timeout=5)
    return task


async def attempts(store: StateStore) -> list[int]:
    head = await head_of(store)
    assert head is not None and head.lease is None
    return [hold.attempts for hold in head.hold.values()]


@pytest.mark.parametrize("enough", [None, 1000.0])
async def test_an_attempt_that_is_stopped_early_does_not_count(store: FaultStore, enough: float | None) -> None:
    begun, times = asyncio.Event(), Times()
    async with desk(store, hanging(begun), times=times) as one:
        one.drains.enough = enough
        await one.accept(post("a"))
        assert (await stopped(one.drain(), begun)).cancelled()
        assert await attempts(store) == []
        one.channel.act = reply
        await one.drain()
        assert one.sent == ["1: a"]


async def test_an_attempt_that_had_enough_is_a_failure_and_the_last_of_these_is_the_end(store: FaultStore) -> None:
    times, limits = Times(), replace(LONG, update_attempts=3)
    async with desk(store, times=times, limits=limits) as one:
        one.drains.enough = 0.0
        await one.accept(post("a"), post("b"))
        for attempt in (1, 2, 3):
            begun = asyncio.Event()
            one.channel.act = hanging(begun)
            assert (await stopped(one.drain(), begun)).cancelled()
            if attempt < 3:
                assert await attempts(store) == [attempt]
                times.clock.advance(1000)
        [update] = await dead(store)
        assert (update.id, update.attempts) == ("a", 3)
        assert "longer time-out" in update.error
        one.channel.act = reply
        await one.drain()
        await check_at_rest(store, ["b"])


async def test_what_an_attempt_raises_when_it_is_stopped_is_no_failure_of_it(store: FaultStore) -> None:
    async def raises(channel: PostChannel, update: InboundUpdate) -> None:
        raise ValueError("connection closed")

    begun = asyncio.Event()
    async with desk(store, hanging(begun, raises), times=Times()) as one:
        await one.accept(post("a"), post("b"))
        assert (await stopped(one.drain(), begun)).cancelled()
        assert (one.channel.begun, await attempts(store)) == (["a"], [])


async def test_a_drain_ends_although_an_attempt_swallows_that_it_is_stopped(store: FaultStore) -> None:
    async def nothing(channel: PostChannel, update: InboundUpdate) -> None: ...

    begun = asyncio.Event()
    async with desk(store, hanging(begun, nothing), times=Times()) as one:
        await one.accept(post("a"), post("b"))
        assert (await stopped(one.drain(), begun)).cancelled()
        assert (one.channel.begun, await attempts(store)) == (["a"], [])


@pytest.mark.parametrize("enough", [None, 0.0])
async def test_the_conversation_of_a_drain_that_does_not_end_is_taken_away(
    store: FaultStore, enough: float | None
) -> None:
    begun, go, refused = asyncio.Event(), asyncio.Event(), list[Exception]()

    async def stays(channel: PostChannel, update: InboundUpdate) -> None:
        await go.wait()
        try:
            await reply(channel, update)
        except TurnConflict as error:
            refused.append(error)
            raise

    times = Times()
    async with desk(store, hanging(begun, stays), times=times) as one, desk(store, times=times) as other:
        one.drains.enough = enough
        await one.accept(post("a"))
        task = asyncio.ensure_future(one.drain())
        await begun.wait()
        task.cancel()
        await asyncio.sleep(0)
        await one.drains.let_go()
        assert not task.done()
        assert await attempts(store) == ([] if enough is None else [1])
        await other.finish()
        assert other.sent == ["1: a"]
        go.set()
        await asyncio.wait([task])
        assert (len(refused), one.sent) == (1, [])
        await check_at_rest(store, ["a"])


async def test_a_conversation_that_cannot_be_given_back_is_logged_and_keeps_no_other(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    begun = asyncio.Event()

    async def stays(channel: PostChannel, update: InboundUpdate) -> None:
        await asyncio.Event().wait()

    async with desk(store, hanging(begun, stays)) as one:
        await one.accept(post("a", key="x"), post("b", key="y"))
        tasks = [asyncio.ensure_future(one.drain(key)) for key in "xy"]
        await until(lambda: len(one.channel.begun) == 2)
        for task in tasks:
            task.cancel()
        await asyncio.sleep(0)
        store.plan(away, kind="put", name=f"{conversation_path('x')}/head", times=None)
        await one.drains.let_go()
        x, y = [await head_of(store, key) for key in "xy"]
        assert x is not None and x.lease is not None
        assert y is not None and y.lease is None
        assert "could not be given back" in caplog.text
        for task in tasks:
            task.cancel()
        await settled(*tasks)


# Sweeps


class Refusing:
    """An inbox that cannot be told of some keys."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys
        self.woken: list[str] = []
        self.running = self.most = 0

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0)
        self.running -= 1
        if isolation_key in self.keys:
            raise InvalidRequest("session", "too large")
        self.woken.append(isolation_key)


async def test_a_wake_that_fails_keeps_a_sweep_from_no_other() -> None:
    inbox = Refusing("k1", "k3")
    async with desk(MemoryStore()) as one:
        await one.accept(*[post("a", key=f"k{number}") for number in range(40)])
        with pytest.raises(InvalidRequest):
            await Sweeper(one.drains.keys, inbox).sweep()
    assert sorted(inbox.woken) == sorted(f"k{number}" for number in range(40) if number not in (1, 3))
    assert inbox.most == 16


async def test_a_sweep_of_a_thousand_conversations_reads_each_once_sixteen_at_a_time() -> None:
    store = CountingStore(MemoryStore())
    async with desk(store) as one:
        await asyncio.gather(*[one.accept(post("a", key=f"k{number}")) for number in range(1000)])
        store.reset()
        await one.updates.sweep()
    assert [sum(operation.kind == kind for operation in store.log) for kind in ("get", "list", "put")] == [1000, 2, 0]
    assert store.rounds == 2 + 63


async def test_the_survey_finds_the_oldest_of_all_that_wait_and_counts_what_was_set_aside() -> None:
    store, times = CountingStore(MemoryStore()), Times()

    async def fail(channel: PostChannel, update: InboundUpdate) -> None:
        raise InvalidRequest("input", word_of(update))

    async with desk(store, fail, times=times) as one:
        await one.accept(*[post("bad", key=f"dead{number}") for number in range(3)])
        for number in range(3):
            await one.drain(f"dead{number}")
        letters = Letters(store, wall=lambda: BORN + times.clock.time)
        found = await letters.survey()
        assert (found.oldest, found.set_aside) == (0.0, 3)
        await one.accept(post("a"))
        times.clock.advance(50)
        await asyncio.gather(*[one.accept(post("a", key=f"k{number}")) for number in range(300)])
        times.clock.advance(10)
        store.reset()
        found = await letters.survey()
        assert (found.oldest, found.set_aside) == (60.0, 3)
        assert store.rounds <= 4 + 19


async def test_a_sweep_without_a_store_says_so(store: FaultStore) -> None:
    async with desk(store) as one:
        store.plan(away, kind="list")
        with pytest.raises(StateUnavailable):
            await one.updates.sweep()
