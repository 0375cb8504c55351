"""Processes that are killed at every operation of a turn; then another one goes on."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting.state.directory import DirectoryStore
from tests.hosting.protocol.diary import LARGE, SHORT, Diary, hosted, read_diary, say
from tests.hosting.protocol.worker import take_turn
from tests.support.faults import Worker, spawning
from tests.support.stores import Fault, FaultStore, kill_after, kill_before

SPAWNING = spawning("tests.hosting.protocol.worker")
MODES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "once": ({}, ["get", "put", "put"]),
    "stream": ({"stream": True}, ["get", "put", "put"]),
    "large": ({"padding": LARGE}, ["get", "put", "get", "put", "put"]),
    "fresh": ({"fresh": True}, ["put"]),
    "reset": ({"reset": True}, ["get", "put", "put", "put"]),
}


async def killed(path: str, key: str, mode: str, fault: Fault, nth: int) -> tuple[int, list[Any]]:
    """Kill a process at the nth operation of its turn; give its exit code and what it said before."""
    how, _ = MODES[mode]
    with ExitStack() as stack:
        worker = stack.enter_context(Worker(SPAWNING, take_turn, path, key, "killed", how, (fault, {"nth": nth})))
        code = await worker.end()
        said: list[Any] = []
        while not worker.silent():
            try:
                said.append(await worker.heard())
            except EOFError:
                break
        return code, said


@pytest.mark.parametrize("mode", MODES)
async def test_a_turn_that_is_killed_is_whole_or_has_never_been(tmp_path: Path, mode: str) -> None:
    how, kinds = MODES[mode]
    path = str(tmp_path)
    store = FaultStore(DirectoryStore(path))
    cases = [(fault, nth) for nth in range(1, len(kinds) + 2) for fault in (kill_before, kill_after)]
    padding = how.get("padding", 0)

    async def check(fault: Fault, nth: int) -> None:
        key = f"{fault.__name__} {nth}"
        before = [] if mode == "fresh" else ["before"]
        if before:
            await say(context, key, "before")
        code, said = await killed(path, key, mode, fault, nth)
        completed = nth > len(kinds)
        assert code == (0 if completed else -signal.SIGKILL)
        assert (said[-1:] == [f"{len(before) + 1}: killed"] or said == ["reset"]) == completed
        saved = completed or (nth == len(kinds) and fault is kill_after)
        after = [] if saved and mode == "reset" else [*before, "killed"] if saved else before
        assert await read_diary(store, key) == after
        assert await say(context, key, "next") == f"{len(after) + 1}: next"
        assert await read_diary(store, key) == [*after, "next"]

    async with hosted(store, Diary(padding=padding), SHORT) as context:
        await asyncio.gather(*[check(*case) for case in cases])


async def test_a_killed_turn_is_counted_as_an_attempt_and_its_snapshot_is_left_behind(tmp_path: Path) -> None:
    path = str(tmp_path)
    store = FaultStore(DirectoryStore(path))
    async with hosted(store, Diary(padding=LARGE), SHORT) as context:
        await say(context, "k", "before")
        await killed(path, "k", "large", kill_before, 5)
        assert len([name for name in await store.list("k/") if "/b/" in name]) == 2
        await say(context, "k", "next")
    leases = [operation.data for operation in store.log if operation.data and b'"attempt":2' in operation.data]
    assert len(leases) == 1
    assert await read_diary(store, "k") == ["before", "next"]


async def test_a_process_that_dies_in_the_middle_of_its_run_leaves_no_trace(tmp_path: Path) -> None:
    path = str(tmp_path)
    store = DirectoryStore(path)
    async with hosted(store, Diary(), SHORT) as context:
        await say(context, "k", "before")
        with Worker(SPAWNING, take_turn, path, "k", "hold", {"turn": "t1"}) as worker:
            assert await worker.heard() == "holding"
            worker.kill()
            assert await worker.end() == -signal.SIGKILL
        assert await say(context, "k", "hold", turn="t1") == "2: hold"  # the client's retry
    assert await read_diary(store, "k") == ["before", "hold"]
