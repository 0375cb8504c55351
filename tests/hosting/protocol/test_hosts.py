"""Whole hosts under load: several processes, many conversations, a store that goes away."""

from __future__ import annotations

import asyncio
import threading
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from agent_framework_hosting import AgentFrameworkHost, HostLimits
from agent_framework_hosting.errors import HostingError, StateUnavailable, TurnConflict
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import Diary, hosted, read_diary, say
from tests.hosting.protocol.worker import post_turns
from tests.support.faults import Worker, spawning
from tests.support.places import StatePlace
from tests.support.stores import FaultStore, away

SPAWNING = spawning("tests.hosting.protocol.worker")
KEY = "chat:1"


def sessions(place: StatePlace) -> StateStore:
    """Where a host keeps its conversations there."""
    return open_store(place.below("sessions"))


async def test_processes_share_a_conversation(place: StatePlace) -> None:
    names, count = "abcd", 10
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(SPAWNING, post_turns, place.state_dir, KEY, name, count)) for name in names
        ]
        for worker in workers:
            assert await worker.heard() == "ready"
        for worker in workers:
            worker.tell("go")
        answers = [answer for worker in workers for answer in await worker.heard()]
        for worker in workers:
            assert await worker.end() == 0
    diary = await read_diary(sessions(place), KEY)
    assert sorted(diary) == sorted(f"{name}{n}" for name in names for n in range(count))
    for name in names:
        assert [word for word in diary if word[0] == name] == [f"{name}{n}" for n in range(count)]
    assert sorted(answers) == sorted((200, f"{n}: {word}") for n, word in enumerate(diary, 1))


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "directory"])
async def test_a_hundred_requests_at_once_keep_ten_histories(tmp_path: Path, durable: bool) -> None:
    host = AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=tmp_path if durable else None)
    async with started(host) as app:
        replies = await asyncio.gather(*[post_turn(app, f"k{n % 10}", f"w{n}") for n in range(100)])
        assert [reply.json for reply in replies] == [f"{n // 10 + 1}: w{n}" for n in range(100)]
        for k in range(10):
            assert (await post_turn(app, f"k{k}", "last")).json == "11: last"
    if durable:
        store = DirectoryStore(tmp_path / "sessions" / "v1")
        for k in range(10):
            assert await read_diary(store, f"k{k}") == [f"w{n}" for n in range(k, 100, 10)] + ["last"]


async def test_two_turns_of_one_conversation_one_of_them_retried(place: StatePlace) -> None:
    """Two clients on two instances; one loses its answer each time and asks again."""
    async with (
        started(AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=place.state_dir)) as first,
        started(AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=place.state_dir)) as second,
    ):
        replies = await asyncio.gather(
            post_turn(first, KEY, "retried", turn="k1"),
            post_turn(second, KEY, "retried", turn="k1"),
            post_turn(second, KEY, "other"),
            post_turn(first, KEY, "retried", turn="k1"),
        )
        assert sorted(reply.status for reply in replies) == [200, 200, 409, 409]
        for reply in replies:
            if reply.status == 409:
                assert reply.json["error"]["code"] == "turn_repeated"
                assert reply.headers["x-should-retry"] == "false"
    assert sorted(await read_diary(sessions(place), KEY)) == ["other", "retried"]


async def test_a_store_that_is_away_under_load_loses_nothing_acknowledged(store: FaultStore) -> None:
    holding = asyncio.Event()
    held: list[str] = []

    async def between(word: str) -> None:
        if word == "hold":
            held.append(word)
            if len(held) == 5:
                holding.set()
            await asyncio.get_running_loop().create_future()

    limits = HostLimits(lease=timedelta(seconds=0.6), turn_timeout=timedelta(seconds=20))
    acknowledged: dict[str, list[str]] = {f"k{n}": [] for n in range(5)}

    async def client(key: str, word: str) -> type[HostingError] | None:
        try:
            await say(context, key, word)
        except (StateUnavailable, TurnConflict) as error:
            return type(error)
        acknowledged[key].append(word)
        return None

    async with hosted(store, Diary(between), limits) as context:
        for key in acknowledged:
            await client(key, "one")
        holders = [asyncio.create_task(client(key, "hold")) for key in acknowledged]
        await holding.wait()
        store.plan(away, times=None)
        others = [asyncio.create_task(client("elsewhere", f"w{n}")) for n in range(3)]
        async with asyncio.timeout(30):
            assert await asyncio.gather(*holders) == [TurnConflict] * 5
            assert await asyncio.gather(*others) == [StateUnavailable] * 3
        store.clear()
        for key, words in acknowledged.items():
            assert await read_diary(store, key) == words == ["one"]
        await asyncio.gather(*[client(key, "two") for key in acknowledged])
        for key, words in acknowledged.items():
            assert await read_diary(store, key) == words == ["one", "two"]


@pytest.mark.parametrize("durable", [False, True], ids=["memory", "directory"])
async def test_a_host_leaves_no_thread_of_its_own_behind(tmp_path: Path, durable: bool) -> None:
    host = AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=tmp_path if durable else None)
    async with started(host) as app:
        assert (await post_turn(app, KEY, "one")).status == 200
        assert durable == any(thread.name == "hosting-lease-renewal" for thread in threading.enumerate())
    # The file threads are the process's own, and shared by all its stores.
    names = {thread.name for thread in threading.enumerate() if thread.name.startswith("hosting-")}
    assert all(name.startswith("hosting-state") for name in names)
