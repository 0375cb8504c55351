"""Processes that are stopped (SIGSTOP) for longer than their lease, and continued."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import SHORT, Diary, hosted, read_diary, say
from tests.hosting.protocol.worker import counting, post_workflow_turn, take_turn
from tests.support.faults import Worker, freeze_after, freeze_and_lose_answer, freeze_before, spawning
from tests.support.stores import Fault

SPAWNING = spawning("tests.hosting.protocol.worker")
KEY = "chat:1"
COMMIT = {"kind": "put", "name": "head", "nth": 2}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path)


@pytest.fixture
def store(path: str) -> StateStore:
    return DirectoryStore(path)


@pytest.mark.parametrize("how", [{}, {"stream": True}], ids=["once", "stream"])
async def test_a_frozen_run_neither_saves_nor_sends_once_it_was_taken_over(
    store: StateStore, path: str, how: dict[str, Any]
) -> None:
    async with hosted(store, Diary(), SHORT) as context:
        await say(context, KEY, "one")
        with Worker(SPAWNING, take_turn, path, KEY, "hold", how) as worker:
            if how:
                assert await worker.heard() == "2:"
            assert await worker.heard() == "holding"
            await worker.freeze()
            assert await say(context, KEY, "two") == "2: two"
            worker.tell("go on")
            worker.resume()
            assert await worker.heard() == "TurnConflict"
            assert await worker.end() == 0
            assert await say(context, KEY, "three") == "3: three"
    assert await read_diary(store, KEY) == ["one", "two", "three"]


async def test_a_run_that_was_frozen_stops_itself_although_nobody_came(store: StateStore, path: str) -> None:
    with Worker(SPAWNING, take_turn, path, KEY, "hold", {"stream": True}) as worker:
        assert [await worker.heard() for _ in range(2)] == ["1:", "holding"]
        await worker.freeze()
        # Somebody looks at the lease for longer than it lasts; what is taken over is another conversation's.
        async with hosted(store, Diary(), SHORT) as context:
            with Worker(SPAWNING, take_turn, path, "other", "hold", {}) as other:
                assert await other.heard() == "holding"
                await other.freeze()
                await say(context, "other", "one")
        worker.tell("go on")
        worker.resume()
        assert await worker.heard() == "TurnConflict"
        assert await worker.end() == 0
    assert await read_diary(store, KEY) == []


@pytest.mark.parametrize("turn", [None, "t1"], ids=["", "repeated"])
async def test_a_commit_that_was_frozen_before_it_was_written_does_not_count(
    store: StateStore, path: str, turn: str | None
) -> None:
    """Also where the client's retry, with the same idempotency key, ran elsewhere: that answer is the saved one."""
    how = {} if turn is None else {"turn": turn}
    async with hosted(store, Diary(), SHORT) as context:
        with Worker(SPAWNING, take_turn, path, KEY, "frozen", how, (freeze_before, COMMIT)) as worker:
            await worker.frozen()
            assert await say(context, KEY, "one", turn=turn) == "1: one"
            worker.resume()
            assert await worker.heard() == "TurnConflict"
            assert await worker.end() == 0
    assert await read_diary(store, KEY) == ["one"]


@pytest.mark.parametrize("fault", [freeze_after, freeze_and_lose_answer])
async def test_a_commit_whose_answer_came_late_is_saved(store: StateStore, path: str, fault: Fault) -> None:
    async with hosted(store, Diary(), SHORT) as context:
        with Worker(SPAWNING, take_turn, path, KEY, "frozen", {"turn": "t1"}, (fault, COMMIT)) as worker:
            await worker.frozen()
            assert await say(context, KEY, "two") == "2: two"
            assert await say(context, KEY, "three") == "3: three"
            worker.resume()
            assert await worker.heard() == "1: frozen"
            assert await worker.end() == 0
    assert await read_diary(store, KEY) == ["frozen", "two", "three"]


async def test_the_checkpoint_of_a_frozen_workflow_does_not_count(path: str) -> None:
    host = AgentFrameworkHost(counting(), channels=[TurnChannel()], state_dir=path, limits=SHORT)
    async with started(host) as app:

        async def count(word: str) -> Any:
            return (await post_turn(app, KEY, word)).json

        assert await count("one") == "1: one"
        with Worker(SPAWNING, post_workflow_turn, path, KEY) as worker:
            assert await worker.heard() == "holding"
            await worker.freeze()
            assert await count("two") == "2: two"
            worker.tell("go on")
            worker.resume()
            assert await worker.heard() == 409
            assert await worker.end() == 0
        assert await count("three") == "3: three"
