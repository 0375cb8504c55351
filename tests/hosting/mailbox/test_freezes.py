"""Processes that are stopped (SIGSTOP) in the middle of an update for longer than their lease, and continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from agent_framework_hosting.state.store import StateStore
from tests.hosting.mailbox.desk import Desk, check_at_rest, desk
from tests.hosting.mailbox.worker import emptied, work
from tests.hosting.protocol.diary import SHORT, Diary, read_diary
from tests.support.faults import (
    PATIENCE,
    Worker,
    brief_sleep,
    freeze_after,
    freeze_and_lose_answer,
    freeze_before,
    spawning,
)
from tests.support.places import StatePlace
from tests.support.stores import Fault

SPAWNING = spawning("tests.hosting.mailbox.worker")
KEY = "chat:1"


@asynccontextmanager
async def frozen(
    place: StatePlace, words: list[str], fault: Fault, *, key: str = KEY, **where: Any
) -> AsyncGenerator[Worker]:
    """A process that accepted updates and was stopped at one of its operations."""
    with Worker(SPAWNING, work, place.state_dir, key, words, {}, (fault, where)) as worker:
        await worker.frozen()
        yield worker


async def resumed(worker: Worker) -> list[str]:
    """Let a process go on to its end, and give all that it says from then on."""
    worker.said()
    worker.resume()
    assert await worker.end() == 0
    *said, last = worker.said()
    assert last == "empty"
    return said


@asynccontextmanager
async def other(store: StateStore, agent: Diary | None = None) -> AsyncGenerator[Desk]:
    """Another instance, for which real time passes: a holder that was frozen must notice how much did."""
    async with desk(store, target=agent, limits=SHORT, sleep=brief_sleep) as instance:
        yield instance


async def take_over(store: StateStore, key: str = KEY, agent: Diary | None = None) -> list[str]:
    async with other(store, agent) as instance, asyncio.timeout(PATIENCE):
        await emptied(instance, key)
        return instance.sent


async def test_frozen_before_the_commit_it_saves_and_sends_nothing_more(place: StatePlace) -> None:
    store = place.store()
    async with frozen(place, ["a"], freeze_before, kind="put", name="head", nth=2) as worker:
        assert await take_over(store) == ["1: a"]
        assert await resumed(worker) == []
    await check_at_rest(store, ["a"])


async def test_frozen_while_the_answer_of_the_commit_is_on_its_way_the_new_holder_replies(place: StatePlace) -> None:
    store = place.store()

    async def check(fault: Fault) -> None:
        key, agent = fault.__name__, Diary()
        async with frozen(place, ["a"], fault, key=key, kind="put", name="head", nth=2) as worker:
            assert await read_diary(store, key) == ["a"]
            assert await take_over(store, key, agent) == ["1: a"]
            assert agent.heard == []
            assert await resumed(worker) == []
        await check_at_rest(store, ["a"], key)

    await asyncio.gather(*map(check, [freeze_after, freeze_and_lose_answer]))


async def test_frozen_on_its_way_to_the_next_update_it_leaves_that_to_the_new_holder(place: StatePlace) -> None:
    store = place.store()

    async def check(fault: Fault) -> None:
        key = fault.__name__
        async with frozen(place, ["a", "b"], fault, key=key, kind="put", name="head", nth=3) as worker:
            assert worker.said() == ["accepted a", "accepted b", "1: a"]
            assert await take_over(store, key) == (["1: a", "2: b"] if fault is freeze_before else ["2: b"])
            assert await resumed(worker) == []
        await check_at_rest(store, ["a", "b"], key)

    await asyncio.gather(*map(check, [freeze_before, freeze_after, freeze_and_lose_answer]))


async def test_a_run_that_was_frozen_neither_saves_nor_replies_once_it_was_taken_over(place: StatePlace) -> None:
    store = place.store()
    with Worker(SPAWNING, work, place.state_dir, KEY, ["hold"], {}) as worker:
        assert [await worker.heard() for _ in range(2)] == ["accepted hold", "holding"]
        await worker.freeze()
        assert await take_over(store) == ["1: hold"]
        worker.tell("go on")
        assert await resumed(worker) == []
    await check_at_rest(store, ["hold"])


async def test_updates_of_a_process_that_is_frozen_anywhere_are_each_done_once(place: StatePlace) -> None:
    store, gate = place.store(), asyncio.Semaphore(4)

    async def check(fault: Fault, nth: int) -> None:
        key = f"{fault.__name__} {nth}"
        async with gate:
            with Worker(SPAWNING, work, place.state_dir, key, ["a", "b"], {}, (fault, {"nth": nth})) as worker:
                await worker.frozen()
                before = worker.said()
                sent = await take_over(store, key)
                worker.resume()
                assert await worker.end() == 0
                said = [*before, *worker.said()]
        sent = sorted([line for line in said if ":" in line] + sent)
        assert {"1: a", "2: b"} == set(sent)
        assert len(sent) <= 3
        await check_at_rest(store, ["a", "b"], key)

    await asyncio.gather(*[check(fault, nth) for nth in range(7, 15) for fault in (freeze_before, freeze_after)])
