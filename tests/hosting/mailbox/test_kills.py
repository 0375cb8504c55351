"""Processes that are killed at every operation of an update; then another one goes on."""

from __future__ import annotations

import asyncio
import signal
from dataclasses import replace
from typing import Any

import pytest

from agent_framework_hosting.state.store import StateStore
from tests.hosting.mailbox.desk import Times, check_at_rest, dead, desk, head_of, post
from tests.hosting.mailbox.worker import work
from tests.hosting.protocol.diary import LARGE, LONG, SHORT, Diary, read_diary
from tests.support.faults import Worker, spawning
from tests.support.places import StatePlace
from tests.support.stores import Fault, kill_after, kill_before

SPAWNING = spawning("tests.hosting.mailbox.worker")


async def killed(
    place: StatePlace, key: str, words: list[str], how: dict[str, Any], fault: Fault, **where: Any
) -> tuple[int, list[str]]:
    """Kill a process at one of its operations (no renewal is one); give its exit code and what it said before."""
    with Worker(SPAWNING, work, place.state_dir, key, words, {**how, "limits": LONG}, (fault, where)) as worker:
        return await worker.end(), worker.said()


async def elsewhere(store: StateStore, key: str, *again: str, padding: int = 0) -> list[str]:
    """Let another instance process what waits, and what the platform sends again; give its replies."""
    async with desk(store, target=Diary(padding=padding), limits=SHORT, times=Times()) as other:
        await other.accept(*[post(word, key=key) for word in again])
        await other.finish(key)
        return other.sent


MODES: dict[str, tuple[list[str], dict[str, Any], list[str], list[str]]] = {
    "chain": (["a", "b", "c"], {}, ["a", "b", "c"], ["1: a", "2: b", "3: c"]),
    "large": (["a", "b"], {"padding": LARGE}, ["a", "b"], ["1: a", "2: b"]),
}


@pytest.mark.parametrize("mode", MODES)
async def test_updates_of_a_process_that_is_killed_anywhere_are_each_done_once(place: StatePlace, mode: str) -> None:
    words, how, history, replies = MODES[mode]
    store, gate = place.store(), asyncio.Semaphore(4)

    async def check(fault: Fault, nth: int) -> bool:
        key = f"{fault.__name__} {nth}"
        async with gate:
            code, said = await killed(place, key, words, how, fault, nth=nth)
        if code == 0:
            assert said[-1] == "empty"
        else:
            assert code == -signal.SIGKILL
        again = [word for word in words if f"accepted {word}" not in said]
        assert again == words[len(words) - len(again) :]
        sent = [line for line in said if ":" in line] + await elsewhere(store, key, *again, **how)
        assert sorted(set(sent), key=sent.index) == replies
        assert len(sent) <= len(replies) + 1
        await check_at_rest(store, history, key)
        return code == 0

    for fault in (kill_before, kill_after):
        for first in range(1, 100, 6):
            ended = await asyncio.gather(*[check(fault, nth) for nth in range(first, first + 6)])
            if all(ended):
                break
            assert first < 60


ACCEPTED = {"accept": False}


@pytest.fixture
async def waiting(place: StatePlace) -> StateStore:
    """A store with one accepted update."""
    store = place.store()
    async with desk(store) as worker:
        await worker.accept(post("a"))
    return store


async def killed_at_work(place: StatePlace, fault: Fault, **where: Any) -> list[str]:
    code, said = await killed(place, "chat:1", ["a"], ACCEPTED, fault, **where)
    assert code == -signal.SIGKILL
    return said


async def test_killed_before_it_has_the_lease_it_leaves_the_update_where_it_is(
    place: StatePlace, waiting: StateStore
) -> None:
    assert await killed_at_work(place, kill_before, kind="put", name="head") == []
    assert await head_of(waiting) is None
    assert len(await waiting.list("in/")) == 1
    assert await elsewhere(waiting, "chat:1") == ["1: a"]
    await check_at_rest(waiting, ["a"])


async def test_killed_between_lease_and_commit_it_has_used_up_an_attempt(
    place: StatePlace, waiting: StateStore
) -> None:
    assert await killed_at_work(place, kill_before, kind="put", name="head", nth=2) == []
    head = await head_of(waiting)
    assert head is not None and head.lease is not None
    assert [hold.attempts for hold in head.hold.values()] == [1]
    assert await read_diary(waiting, "chat:1") == []
    async with desk(waiting, limits=SHORT, times=Times()) as other:
        attempts: list[int] = []

        async def count(channel: Any, update: Any) -> None:
            found = await head_of(waiting)
            assert found is not None
            attempts.extend(hold.attempts for hold in found.hold.values())

        other.channel.act = count
        await other.finish()
    assert attempts == [2]


async def test_killed_after_the_commit_and_before_the_reply_others_reply_without_running(
    place: StatePlace, waiting: StateStore
) -> None:
    assert await killed_at_work(place, kill_after, kind="put", name="head", nth=2) == []
    agent = Diary()
    async with desk(waiting, target=agent, limits=SHORT, times=Times()) as other:
        await other.finish()
        assert other.sent == ["1: a"]
    assert agent.heard == []
    await check_at_rest(waiting, ["a"])


async def test_killed_after_the_reply_and_before_it_is_done_the_reply_repeats_and_the_history_does_not(
    place: StatePlace, waiting: StateStore
) -> None:
    assert await killed_at_work(place, kill_before, kind="put", name="head", nth=3) == ["1: a"]
    assert await elsewhere(waiting, "chat:1") == ["1: a"]
    await check_at_rest(waiting, ["a"])


async def test_killed_after_a_large_snapshot_it_leaves_an_orphan_and_nothing_else(
    place: StatePlace, waiting: StateStore
) -> None:
    code, said = await killed(
        place, "chat:1", ["a"], {**ACCEPTED, "padding": LARGE}, kill_after, kind="put", name="/b/"
    )
    assert (code, said) == (-signal.SIGKILL, [])
    assert await elsewhere(waiting, "chat:1", padding=LARGE) == ["1: a"]
    await check_at_rest(waiting, ["a"])


async def test_an_update_that_always_kills_the_process_is_set_aside_and_the_next_one_processed(
    place: StatePlace,
) -> None:
    store, how = place.store(), {"limits": replace(SHORT, update_attempts=2), "accept": False}
    async with desk(store) as worker:
        await worker.accept(post("die"), post("fine"))
    for _ in range(2):
        with Worker(SPAWNING, work, place.state_dir, "chat:1", [], how) as worker:
            assert await worker.end() == -signal.SIGKILL
            assert worker.said() == ["dying"]
    with Worker(SPAWNING, work, place.state_dir, "chat:1", [], how) as worker:
        assert await worker.end() == 0
        assert worker.said() == ["1: fine", "empty"]
    [update] = await dead(store)
    assert (update.id, update.attempts) == ("die", 2)
    assert "process ended" in update.error
    await check_at_rest(store, ["fine"])
