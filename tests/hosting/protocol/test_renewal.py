"""Leases that are renewed while their turns run: the only tests of the protocol that real time passes in."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, patch

import pytest

from agent_framework_hosting import HostLimits
from agent_framework_hosting.errors import StateUnavailable, TurnConflict
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.renewal_thread import RenewalThread
from agent_framework_hosting.state.stored import StoredConversations
from tests.hosting.protocol.diary import Diary, hosted, read_diary, request, say, written
from tests.support.stores import Fault, FaultStore, Gate, away, calling, lost_answer, lost_request, twice

KEY = "chat:1"
PATIENCE = 20
SHORT = HostLimits(lease=timedelta(seconds=1), turn_timeout=timedelta(seconds=PATIENCE))
RENEWALS = 2


def renewal(store: FaultStore, fault: Fault, *, nth: int = 1, times: int | None = 1) -> None:
    """Plan a fault for the nth renewal of the next turn."""
    store.plan(fault, kind="put", name="head", nth=1 + nth, times=times)


def renewals(store: FaultStore) -> threading.Event:
    """An event that comes with the second renewal of the next turn; other plans come first."""
    seen = threading.Event()
    renewal(store, calling(after=seen.set), nth=RENEWALS)
    return seen


async def for_ever(word: str) -> None:
    await asyncio.get_running_loop().create_future()


def steal(store: FaultStore) -> Callable[[], Awaitable[None]]:
    """Take over as somebody would who saw the lease unchanged for long."""

    async def steal() -> None:
        [name] = await store.inner.list("k/")
        data, version = await written(store.inner, name)
        await store.inner.put(name, data.replace(b'"token":"', b'"token":"f'), if_version=version)

    return steal


async def test_a_blocked_event_loop_does_not_lose_its_lease(store: FaultStore) -> None:
    seen = renewals(store)

    async def block(word: str) -> None:
        assert seen.wait(PATIENCE)

    async with hosted(store, Diary(block), SHORT) as context:
        assert await say(context, KEY, "one") == "1: one"
    assert await read_diary(store, KEY) == ["one"]


@pytest.mark.parametrize("fault", [lost_answer, lost_request, away, twice])
async def test_a_renewal_that_fails_once_costs_nothing(store: FaultStore, fault: Fault) -> None:
    renewal(store, fault)
    seen = renewals(store)

    async def between(word: str) -> None:
        await asyncio.to_thread(seen.wait, PATIENCE)

    async with hosted(store, Diary(between), SHORT) as context:
        assert await say(context, KEY, "one") == "1: one"
        assert await say(context, KEY, "two") == "2: two"
    assert await read_diary(store, KEY) == ["one", "two"]


async def test_a_lease_that_only_seems_renewed_is_renewed_again(store: FaultStore) -> None:
    """An earlier write whose answer was lost is found: others may have seen it long ago, and take over soon."""
    times: list[float] = []
    again = threading.Event()

    async def touch() -> None:
        [name] = await store.inner.list("k/")
        data, version = await written(store.inner, name)
        await store.inner.put(name, data.replace(b'"rev":"', b'"rev":"f'), if_version=version)
        times.append(time.monotonic())

    def note() -> None:
        times.append(time.monotonic())
        again.set()

    renewal(store, calling(before=touch))
    renewal(store, calling(after=note))
    lease = timedelta(seconds=3)

    async def between(word: str) -> None:
        await asyncio.to_thread(again.wait, PATIENCE)

    async with hosted(store, Diary(between), HostLimits(lease=lease)) as context:
        assert await say(context, KEY, "one") == "1: one"
    assert times[1] - times[0] < lease.total_seconds() / 3


@pytest.mark.parametrize("stream", [False, True])
async def test_a_stolen_lease_stops_the_run(store: FaultStore, stream: bool) -> None:
    renewal(store, calling(before=steal(store)))
    async with hosted(store, Diary(for_ever), SHORT) as context:
        async with asyncio.timeout(PATIENCE):
            if stream:
                hosted_stream = await context.run_stream(request(KEY, "one"))
                updates = aiter(hosted_stream)
                assert (await anext(updates)).text == "1:"
                with pytest.raises(TurnConflict):
                    await anext(updates)
                with pytest.raises(StopAsyncIteration):
                    await anext(updates)
                await hosted_stream.aclose()
            else:
                with pytest.raises(TurnConflict):
                    await say(context, KEY, "one")
    assert await read_diary(store, KEY) == []


async def test_a_store_that_hangs_does_not_keep_a_holder_from_stopping(store: FaultStore) -> None:
    gate = Gate()
    renewal(store, gate.before)
    async with hosted(store, Diary(for_ever), SHORT) as context:
        async with asyncio.timeout(PATIENCE / 4):
            with pytest.raises(TurnConflict):
                await say(context, KEY, "one")
        gate.open()
    assert await read_diary(store, KEY) == []


async def test_a_run_that_does_not_mind_being_stopped_saves_nothing(store: FaultStore) -> None:
    async def stubborn(word: str) -> None:
        try:
            await for_ever(word)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            assert task is not None
            task.uncancel()

    renewal(store, calling(before=steal(store)))
    async with hosted(store, Diary(stubborn), SHORT) as context:
        with pytest.raises(TurnConflict):
            await say(context, KEY, "one")
    assert await read_diary(store, KEY) == []


async def test_a_caller_that_leaves_while_the_lease_is_lost_is_simply_cancelled(store: FaultStore) -> None:
    stopping = asyncio.Event()

    async def slow_to_stop(word: str) -> None:
        try:
            await for_ever(word)
        finally:
            stopping.set()
            await for_ever(word)

    renewal(store, calling(before=steal(store)))
    async with hosted(store, Diary(slow_to_stop), SHORT) as context:
        task = asyncio.create_task(say(context, KEY, "one"))
        async with asyncio.timeout(PATIENCE):
            await stopping.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert await read_diary(store, KEY) == []


async def test_a_commit_waits_for_the_renewal_under_way(store: FaultStore) -> None:
    gate = Gate()
    renewal(store, gate.before)
    async with hosted(store, Diary(lambda word: gate.reached()), HostLimits(lease=timedelta(seconds=2))) as context:
        task = asyncio.create_task(say(context, KEY, "one"))
        await gate.reached()
        for _ in range(20):
            await asyncio.sleep(0)
        gate.open()
        assert await task == "1: one"
    puts = [operation for operation in store.log if operation.kind == "put"]
    assert len(puts) == 3  # lease, renewal, commit: none in vain
    assert await read_diary(store, KEY) == ["one"]


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "hosting-lease-renewal"]


@pytest.fixture
async def conversations() -> AsyncIterator[StoredConversations]:
    conversations = StoredConversations(MemoryStore(), SHORT)
    yield conversations
    await conversations.close()


async def test_no_thread_is_left_behind(conversations: StoredConversations) -> None:
    await conversations.close()
    for _ in range(2):
        assert not threads()
        turn = await conversations.begin(KEY)
        assert len(threads()) == 1
        await turn.end()
        await conversations.close()
        await conversations.close()
    assert not threads()


async def test_a_thread_that_could_not_start_is_tried_again_by_the_next_turn() -> None:
    failures = [RuntimeError("can't start new thread"), OSError(24, "Too many open files")]

    def make(**how: Any) -> threading.Thread:
        if failures:
            raise failures.pop()
        return threading.Thread(**how)

    store = MemoryStore()
    conversations = StoredConversations(store, SHORT, thread=RenewalThread(make))
    for _ in range(2):
        with pytest.raises(StateUnavailable, match="nothing to renew a lease with"):
            await conversations.begin(KEY)
    turn = await conversations.begin(KEY)  # at once: no lease was left behind
    assert len(threads()) == 1
    await turn.end()
    await conversations.close()


async def test_short_turns_do_not_wake_the_thread_and_a_long_one_among_them_is_renewed() -> None:
    """The thread is woken for the first of many turns, and comes by itself for the one that lasts."""
    wakes: list[Mock] = []

    def make(*, args: tuple[asyncio.AbstractEventLoop, Any], **how: Any) -> threading.Thread:
        [loop, _] = args
        wakes.append(patch.object(loop, "call_soon_threadsafe", wraps=loop.call_soon_threadsafe).start())
        return threading.Thread(args=args, **how)

    store = FaultStore(MemoryStore())
    seen = threading.Event()
    limits = HostLimits(lease=timedelta(seconds=3))
    conversations = StoredConversations(store, limits, thread=RenewalThread(make))
    for number in range(50):
        await (await conversations.begin(f"short:{number}")).end()
    assert [wake.call_count for wake in wakes] == [1]
    store.plan(calling(after=seen.set), kind="put", name="head", nth=2)
    turn = await conversations.begin(KEY)
    for number in range(50):
        await (await conversations.begin(f"short:{number}")).end()
    assert await asyncio.to_thread(seen.wait, PATIENCE)
    turn.check()
    assert [wake.call_count for wake in wakes] == [1]
    await turn.end()
    await conversations.close()


async def test_a_host_that_stops_in_the_middle_of_a_renewal_does_not_hang_its_turns() -> None:
    gate = Gate()
    store = FaultStore(MemoryStore())
    renewal(store, gate.before)
    conversations = StoredConversations(store, HostLimits(lease=timedelta(seconds=3)))
    turn = await conversations.begin(KEY)
    await gate.reached()
    async with asyncio.timeout(PATIENCE):
        await conversations.close()
        assert not threads()
        await turn.commit(snapshot=b"1", checkpoint=None)
        await turn.end()
    gate.open()
    assert await conversations.peek(KEY) == (b"1", None)


SCRIPT = """
import asyncio, os, sys, threading
from datetime import timedelta
from agent_framework_hosting import HostLimits
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.renewal_thread import RenewalThread
from tests.support.stores import FaultStore, calling

limits = HostLimits(lease=timedelta(seconds=0.6), turn_timeout=timedelta(seconds=20))
store = FaultStore(MemoryStore())
conversations = StoredConversations(store, limits)

async def renewed(key):
    seen = threading.Event()
    store.plan(calling(after=seen.set), kind="put", nth=2)
    turn = await conversations.begin(key)
    assert seen.wait(20)
    turn.check()
    await turn.commit(snapshot=b"1", checkpoint=None)
    await turn.end()
"""
FORK = """
asyncio.run(renewed("before the fork"))
child = os.fork()
asyncio.run(renewed("after the fork"))
if child == 0:
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
"""
EXIT = """
asyncio.run(conversations.begin("never ended"))
"""


@pytest.mark.parametrize("what", [FORK, EXIT], ids=["fork", "exit"])
def test_a_process_may_fork_and_end_as_it_likes(what: str) -> None:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT + what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
