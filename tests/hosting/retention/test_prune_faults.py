"""Every operation of a prune going wrong, on every store; and many conversations at once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.documents import all_names
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import StateStore
from tests.hosting.retention.faulty import FAULTS, STOPS, Stopped
from tests.hosting.retention.worker import prune_once
from tests.hosting.retention.written import GONE, KEPT, OLD, get_head, head_of, prune, put_head, write_everything
from tests.support.faults import Worker, spawning
from tests.support.places import StatePlace
from tests.support.stores import Apply, Fault, FaultStore, Operation, away, kill_after, kill_before

NewStore = Callable[[], FaultStore]
SPAWNING = spawning("tests.hosting.retention.worker")


async def operations_of_a_prune() -> int:
    store = FaultStore(MemoryStore())
    await write_everything(store)
    store.log.clear()
    await prune(store)
    return len(store.log)


async def check_done(store: StateStore) -> None:
    """Make sure that another prune brings a state to where it must be."""
    for key in KEPT:
        assert (await get_head(store, key)).deleted is None
    await prune(store)
    for key in GONE:
        assert (await get_head(store, key)).deleted is not None


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_operation_that_goes_wrong_does_not_matter(new_store: NewStore, fault: Fault) -> None:
    for nth in range(1, await operations_of_a_prune() + 1):
        store = new_store()
        written = await write_everything(store)
        store.plan(fault, nth=nth)
        await prune(store)
        store.clear()
        assert await written.names() == written.stays, nth


@pytest.mark.parametrize("fault", STOPS)
async def test_a_prune_that_is_stopped_anywhere_is_done_by_the_next(new_store: NewStore, fault: Fault) -> None:
    for nth in range(1, await operations_of_a_prune() + 1):
        store = new_store()
        written = await write_everything(store)
        store.plan(fault, nth=nth, times=None)
        with pytest.raises(Stopped):
            await prune(store, operations=1)
        store.clear()
        assert written.stays - {head_of("orphan")} <= await written.names()
        await check_done(store)
        assert await written.names() == written.stays, nth


@pytest.mark.parametrize("fault", [kill_before, kill_after])
async def test_a_process_that_is_killed_is_done_by_the_next(place: StatePlace, fault: Fault) -> None:
    """At every second operation; on object stores, where each costs a round trip, at every eighth."""
    count = await operations_of_a_prune()
    slots = asyncio.Semaphore(2)

    async def check(nth: int) -> None:
        path = place.below(str(nth))
        store = open_store(path)
        written = await write_everything(store)
        async with slots:
            with Worker(SPAWNING, prune_once, path, (fault, {"nth": nth})) as worker:
                assert await worker.end() == -signal.SIGKILL
        await check_done(store)
        assert await written.names() == written.stays, nth

    await asyncio.gather(*map(check, place.thinned(range(1, count + 1, 2), 4)))


async def test_a_store_that_stays_away_ends_a_prune_and_harms_nothing(store: FaultStore) -> None:
    written = await write_everything(store)
    store.plan(away, nth=10, times=None)
    with pytest.raises(StateUnavailable):
        await prune(store)
    store.clear()
    assert written.stays - {head_of("orphan")} <= await written.names()
    await check_done(store)
    assert await written.names() == written.stays


async def test_a_thousand_conversations_go_in_batches_and_few_at_once(new_store: NewStore) -> None:
    store = new_store()
    at_once = most = 0

    async def counted(operation: Operation, apply: Apply) -> Any:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0)
        try:
            return await apply()
        finally:
            at_once -= 1

    async def write(number: int) -> None:
        key = f"key {number}"
        await put_head(store.inner, key, when=OLD)
        await store.inner.put(f"k/{conversation_path(key)}/b/{3:012}-x", b"{}")

    for begin in range(0, 1000, 100):
        await asyncio.gather(*map(write, range(begin, begin + 100)))
    store.log.clear()
    store.plan(counted, times=None)
    pruned = await prune(store, batch=100, operations=7)
    assert (pruned.conversations, pruned.documents, pruned.seen) == (1000, 1000, 2000)
    assert most == 7
    names = await all_names(store.inner, "")
    assert len(names) == 1000 and all(name.endswith("/head") for name in names)
    pages = [operation for operation in store.log if operation.kind == "list" and operation.name == "k/"]
    assert len(pages) >= 10
