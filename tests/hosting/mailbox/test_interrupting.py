"""What becomes of an accepted update, as others see it, and how they end an attempt at one."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_framework_hosting import InboundUpdate
from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.state.memory import MemoryStore
from tests.hosting.mailbox.desk import PostChannel, Times, desk, post, reply, serving
from tests.hosting.protocol.diary import SHORT
from tests.support.channels import until
from tests.support.stores import FaultStore, away, lost_answer, lost_request, twice


class Held:
    """A channel's `act` that waits in its first attempts, and then replies."""

    def __init__(self, attempts: int = 1) -> None:
        self.attempts = attempts
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.seen: list[int] = []
        self.stopped = 0

    async def __call__(self, channel: PostChannel, update: InboundUpdate) -> None:
        self.seen.append(update.attempt)
        if len(self.seen) <= self.attempts:
            self.reached.set()
            try:
                await self.go.wait()
            except asyncio.CancelledError:
                self.stopped += 1
                raise
            finally:
                self.reached.clear()
        await reply(channel, update)


async def test_an_update_waits_is_worked_on_and_is_over() -> None:
    store, act = MemoryStore(), Held()
    async with desk(store, act) as worker, desk(store) as other:
        assert await other.updates.standing(post("a")) is None
        await worker.accept(post("a"), post("b"))
        assert [await other.updates.standing(post(word)) for word in "abc"] == ["waiting", "waiting", None]
        work = asyncio.create_task(worker.drain())
        await act.reached.wait()
        assert [await other.updates.standing(post(word)) for word in "ab"] == ["working", "waiting"]
        act.go.set()
        await work
        assert [await other.updates.standing(post(word)) for word in "ab"] == [None, None]


async def test_a_failed_update_waits_and_one_that_is_set_aside_does_not() -> None:
    async def fail(channel: PostChannel, update: InboundUpdate) -> None:
        raise ValueError("no")

    async with desk(MemoryStore(), fail, times=Times()) as worker:
        await worker.accept(post("a"))
        await worker.drain()
        assert await worker.updates.standing(post("a")) == "waiting"
        await worker.finish()
        assert await worker.updates.standing(post("a")) is None


async def test_an_interrupted_attempt_stops_does_not_count_and_is_made_again() -> None:
    store, act = FaultStore(MemoryStore()), Held()
    async with desk(store, act, limits=SHORT) as worker, desk(store) as other:
        await worker.accept(post("a"))
        work = asyncio.create_task(worker.drain())
        await act.reached.wait()
        await other.updates.interrupt(post("b"))  # Not what is worked on.
        assert act.stopped == 0
        await other.updates.interrupt(post("a"))
        async with asyncio.timeout(10):
            await work
        assert (act.stopped, act.seen, worker.sent) == (1, [1, 1], ["1: a"])
        puts = len(store.names("put"))
        await other.updates.interrupt(post("a"))
        assert len(store.names("put")) == puts


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
async def test_an_interruption_through_a_failing_store(fault: Any) -> None:
    for nth in (1, 2, 3):
        store, act = FaultStore(MemoryStore()), Held()
        async with desk(store.inner, act, limits=SHORT) as worker, desk(store) as other:
            await worker.accept(post("a"))
            work = asyncio.create_task(worker.drain())
            await act.reached.wait()
            store.plan(fault, nth=nth)
            try:
                await other.updates.interrupt(post("a"))
            except StateUnavailable:
                store.clear()
                await other.updates.interrupt(post("a"))
            async with asyncio.timeout(10):
                await work
            assert worker.sent == ["1: a"]


async def test_in_memory() -> None:
    act = Held()
    async with serving(act) as channel:
        assert await channel.context.standing(post("a")) is None
        await channel.context.accept(post("a"))
        await channel.context.accept(post("b"))
        async with asyncio.timeout(10):
            await act.reached.wait()
            assert [await channel.context.standing(post(word)) for word in "ab"] == ["working", "waiting"]
            await channel.context.interrupt(post("b"))
            assert act.stopped == 0
            await channel.context.interrupt(post("a"))
            await until(lambda: channel.sent == ["1: a", "2: b"])
        assert (act.stopped, act.seen) == (1, [1, 1, 1])
