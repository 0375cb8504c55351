"""Processes that are killed at every operation of a turn; then another one goes on."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from agent_framework_hosting import ChannelContext
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.diary import LARGE, LONG, SHORT, Diary, hosted, read_diary, say
from tests.hosting.protocol.modes import MODES, Mode
from tests.hosting.protocol.worker import take_turn
from tests.support.faults import ManualClock, Worker, spawning
from tests.support.places import StatePlace
from tests.support.stores import Fault, FaultStore, kill_after, kill_before

SPAWNING = spawning("tests.hosting.protocol.worker")


async def killed(
    path: str, key: str, how: dict[str, Any], fault: Fault, nth: int, word: str = "killed"
) -> tuple[int, list[Any]]:
    """Kill a process at the nth operation of its turn (no renewal is one); give its exit code and what it said."""
    with Worker(SPAWNING, take_turn, path, key, word, {**how, "limits": LONG}, (fault, {"nth": nth})) as worker:
        return await worker.end(), worker.said()


def elsewhere(store: StateStore, target: Any) -> AbstractAsyncContextManager[ChannelContext]:
    """Go on with nothing but what is stored, and without waiting: the clock moves on instead."""
    clock = ManualClock()
    return hosted(store, target, SHORT, clock=clock, sleep=clock.sleep)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_a_turn_that_is_killed_is_whole_or_has_never_been(place: StatePlace, mode: Mode) -> None:
    path, store = place.state_dir, FaultStore(place.store())
    cases = [(fault, nth) for nth in range(1, mode.operations + 2) for fault in (kill_before, kill_after)]

    async def check(fault: Fault, nth: int) -> None:
        key = f"{fault.__name__} {nth}"
        how = await mode.begin(context, key)
        words = list(mode.before)
        code, said = await killed(path, key, how, fault, nth, mode.word)
        completed = nth > mode.operations
        assert code == (0 if completed else -signal.SIGKILL)
        saved = completed or (nth == mode.operations and fault is kill_after)
        answered = mode.answer(words)
        told = said[len(answered) :]
        assert said[: len(answered)] == (answered if completed else answered[:-1] if nth == mode.operations else [])
        assert bool(told) == (completed and mode.asks)
        words = mode.after(words) if saved else words
        assert await mode.read(store, key) == words
        async with elsewhere(store, mode.target()) as anew:
            assert await mode.say(anew, key, "next") == f"{len(words) + 1}: next"
            assert await mode.read(store, key) == [*words, "next"]
            await mode.check_questions(anew, store, key, saved=saved, told=told)

    async with hosted(store, mode.target(), LONG) as context:
        await asyncio.gather(*[check(*case) for case in cases])


async def test_a_killed_turn_is_counted_as_an_attempt_and_its_snapshot_is_left_behind(place: StatePlace) -> None:
    path, store = place.state_dir, FaultStore(place.store())
    async with hosted(store, Diary(padding=LARGE), SHORT) as context:
        await say(context, "k", "before")
    await killed(path, "k", {"padding": LARGE}, kill_before, 5)
    assert len([name for name in await store.list("k/") if "/b/" in name]) == 2
    async with elsewhere(store, Diary(padding=LARGE)) as context:
        await say(context, "k", "next")
    leases = [operation.data for operation in store.log if operation.data and b'"attempt":2' in operation.data]
    assert len(leases) == 1
    assert await read_diary(store, "k") == ["before", "next"]


async def test_a_process_that_dies_in_the_middle_of_its_run_leaves_no_trace(place: StatePlace) -> None:
    path, store = place.state_dir, place.store()
    async with hosted(store, Diary(), SHORT) as context:
        await say(context, "k", "before")
    with Worker(SPAWNING, take_turn, path, "k", "hold", {"turn": "t1"}) as worker:
        assert await worker.heard() == "holding"
        worker.kill()
        assert await worker.end() == -signal.SIGKILL
    async with elsewhere(store, Diary()) as context:
        assert await say(context, "k", "hold", turn="t1") == "2: hold"  # the client's retry
    assert await read_diary(store, "k") == ["before", "hold"]
