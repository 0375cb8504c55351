"""Pruners and deleters that are stopped (SIGSTOP) anywhere, and continued when others have gone on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.belonging import Finder
from agent_framework_hosting.state.deletion import Deleter
from agent_framework_hosting.state.documents import all_names
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.diary import LARGE, SHORT, Diary, hosted, read_diary, say
from tests.hosting.retention.worker import delete_once, prune_once
from tests.hosting.retention.written import LEASE, NOW, OLD, change_head, document, no_sleep, prune
from tests.support.faults import ManualClock, Worker, freeze_after, freeze_before, spawning
from tests.support.places import StatePlace
from tests.support.stores import Fault, FaultStore

SPAWNING = spawning("tests.hosting.retention.worker")
KEY = "chat:ada:tea"


async def live(store: StateStore, key: str, word: str, *, padding: int = LARGE) -> str:
    """Take a turn, from a dead holder too, without waiting for it."""
    clock = ManualClock()
    async with hosted(store, Diary(padding=padding), SHORT, clock=clock, sleep=clock.sleep) as context:
        return await say(context, key, word)


async def write_idle(store: StateStore) -> None:
    """Write conversations that a prune has a decision on: idle ones, one with garbage, one left by its dead holder."""
    for key in ("idle", "garbage", "dead holder"):
        await live(store, key, "before")
        await live(store, key, "again")
    await change_head(store, "idle", when=OLD)
    await change_head(store, "garbage", when=NOW)
    await change_head(store, "dead holder", when=OLD, lease=LEASE)


async def operations(store: FaultStore, work: Any) -> int:
    store.log.clear()
    await work
    return len(store.log)


async def go_on(store: StateStore, key: str) -> list[str]:
    """Use a conversation, from which a prune may have removed what was before, and give its words."""
    answer = await live(store, key, "live")
    words = {"3: live": ["before", "again", "live"], "1: live": ["live"]}[answer]
    assert await read_diary(store, key) == words
    return words


@pytest.mark.parametrize("fault", [freeze_before, freeze_after])
async def test_a_pruner_that_was_frozen_removes_nothing_that_is_live_by_then(place: StatePlace, fault: Fault) -> None:
    """At every operation; on object stores, where each costs a round trip, at every third."""
    probe = FaultStore(open_store(place.below("probe")))
    await write_idle(probe)
    count = await operations(probe, prune(probe, operations=1))
    slots = asyncio.Semaphore(2)
    keys = ("idle", "garbage", "dead holder")

    async def check(nth: int) -> None:
        path = place.below(str(nth))
        store = open_store(path)
        await write_idle(store)
        async with slots:
            with Worker(SPAWNING, prune_once, path, (fault, {"nth": nth})) as worker:
                await worker.frozen()
                words = {key: await go_on(store, key) for key in keys}
                update = f"in/{conversation_path('idle')}/0001.u1"
                await store.put(update, document(key="idle"))
                worker.resume()
                assert await worker.end() == 0
            for key in keys:
                assert await read_diary(store, key) == words[key], (nth, key)
                assert await live(store, key, "next") == f"{len(words[key]) + 1}: next"
            assert await all_names(store, "in/") == [update]

    await asyncio.gather(*map(check, place.thinned(range(1, count + 1), 3)))


async def write_one(store: StateStore) -> None:
    await live(store, KEY, "before")
    await live(store, KEY, "again")
    await store.put(f"in/{conversation_path(KEY)}/0001.before", document(key=KEY))


async def delete(store: StateStore) -> None:
    found = await Finder([store], operations=1).find(conversation_path(KEY), KEY)
    if found is not None:
        deleter = Deleter([store], operations=1, clock=lambda: NOW, sleep=no_sleep)
        await deleter.delete_rest(await deleter.delete([found]))


@pytest.mark.parametrize("deleted", [True, False], ids=["deleted by another", "continued"])
async def test_a_deleter_that_was_frozen_removes_nothing_that_has_begun_since(place: StatePlace, deleted: bool) -> None:
    """Whether another one has deleted the conversation meanwhile, or it went on."""
    probe = FaultStore(open_store(place.below("probe")))
    await write_one(probe)
    count = await operations(probe, delete(probe))
    slots = asyncio.Semaphore(2)
    ends: set[Any] = set()

    async def check(nth: int) -> None:
        path = place.below(str(nth))
        store = open_store(path)
        await write_one(store)
        async with slots:
            with Worker(SPAWNING, delete_once, path, KEY, (freeze_before, {"nth": nth})) as worker:
                await worker.frozen()
                if deleted:
                    await delete(store)
                answer = await live(store, KEY, "live")
                update = f"in/{conversation_path(KEY)}/0002.after"
                await store.put(update, document(key=KEY))
                worker.resume()
                assert await worker.end() == 0
                said = worker.said()
        ends.add(said[0] if isinstance(said[0], str) else "done")
        words = await read_diary(store, KEY)
        if answer == "1: live":  # It was begun anew, so it stays, with what has come since.
            assert words == ["live"], nth
            assert update in await all_names(store, "in/"), nth
        else:  # It is still the conversation that was to be deleted.
            assert words == [] and await all_names(store, "in/") == [], nth
        assert (await live(store, KEY, "next")).endswith(f"{len(words) + 1}: next")

    await asyncio.gather(*map(check, range(2, count + 1)))
    assert ends == ({"done", "TurnConflict"} if deleted else {"done"})
