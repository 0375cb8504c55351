"""Deleting a conversation, and all that is somebody's."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import Callable
from typing import Any

import pytest

from agent_framework_hosting import isolation_key
from agent_framework_hosting.errors import StateDamaged, StateUnavailable, TurnConflict
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.belonging import Candidate, Finder, Found
from agent_framework_hosting.state.deletion import Deleted, Deleter
from agent_framework_hosting.state.documents import all_names
from agent_framework_hosting.state.head import Checkpoint
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.people import person
from agent_framework_hosting.state.store import StateStore
from tests.hosting.protocol.diary import LARGE, SHORT, Diary, hosted, read_diary, say
from tests.hosting.retention.faulty import FAULTS, STOPS, Stopped
from tests.hosting.retention.worker import delete_once
from tests.hosting.retention.written import (
    LEASE,
    NOW,
    OLD,
    YOUNG,
    archive,
    change_head,
    document,
    get_head,
    head_of,
    no_sleep,
    prune,
    put_head,
)
from tests.support.faults import Worker, spawning
from tests.support.places import StatePlace
from tests.support.stores import Fault, FaultStore, away, calling, kill_after, kill_before, lost_answer

NewStore = Callable[[], FaultStore]
SPAWNING = spawning("tests.hosting.retention.worker")
KEY = isolation_key("chat", "ada", "tea")
ODD = ["", "..", "../../etc/passwd", "a/b", "nul\0l", "🦊", "x" * 2000, "Case", "case", "-dash", " spaced ", "%", ":"]


def owner_of(native_id: str) -> str:
    return hashlib.sha256(isolation_key(native_id).encode()).hexdigest()


async def write(store: StateStore, key: str, **fields: Any) -> set[str]:
    """Write a conversation with everything that one can have, and give the names."""
    path = conversation_path(key)
    documents = {
        f"k/{path}/b/000000000003-x": b"{}",
        f"k/{path}/b/000000000002-x": b"{}",
        f"k/{path}/c/0/000000000003-x": b"{}",
        f"k/{path}/s/0/000000000001": archive(key, YOUNG),
        f"in/{path}/0001.u1": document(key=key),
        f"in/{path}/0002.u2": document(key=key),
        f"dead/{path}/0000.u0": document(OLD, key=key),
    }
    if key.startswith("chat:"):
        owner = hashlib.sha256(key.split(":")[1].encode()).hexdigest()
        documents[f"d/chat/{owner}/{path[3:]}"] = document(YOUNG, conversation=key)
    for name, data in documents.items():
        await store.put(name, data)
    await put_head(store, key, **{"when": YOUNG, "log": (f"t{key[:20]}:x",), **fields})
    return {*documents, head_of(key)}


async def find(store: StateStore, key: str) -> Candidate | None:
    return await Finder([store]).find(conversation_path(key), key)


async def found(store: StateStore, key: str) -> Candidate:
    candidate = await find(store, key)
    assert candidate is not None
    return candidate


def deleter(*stores: StateStore, **how: Any) -> Deleter:
    return Deleter(stores, **{"clock": lambda: NOW, "sleep": no_sleep, **how})


async def delete(store: StateStore, key: str) -> Deleted:
    at_work = deleter(store)
    deleted = await at_work.delete([await found(store, key)])
    await at_work.delete_rest(deleted)
    return deleted


async def operations_of_a_deletion() -> int:
    store = FaultStore(MemoryStore())
    await write(store, KEY, lease=LEASE)
    store.log.clear()
    await delete(store, KEY)
    return len(store.log)


async def test_a_conversation_goes_with_all_that_belongs_to_it_and_nothing_else(store: FaultStore) -> None:
    other = await write(store, isolation_key("chat", "ada", "coffee"))
    names = await write(store, KEY)
    deleted = await delete(store, KEY)
    assert set(await all_names(store, "")) == {*other, head_of(KEY)}
    assert (deleted.conversations, deleted.documents) == (1, len(names) - 1)
    tombstone = await get_head(store, KEY)
    assert (tombstone.deleted, tombstone.epoch, tombstone.key, tombstone.people) == (NOW, 4, "", ())
    assert tombstone.done == {"u0": NOW, "u1": NOW, "u2": NOW}


@pytest.mark.parametrize("key", ODD, ids=lambda key: ascii(key[:20]))
async def test_any_text_is_a_key(new_store: NewStore, key: str) -> None:
    store = new_store()
    everything: set[str] = set()
    for odd in ODD:
        everything |= await write(store, odd)
    await delete(store, key)
    left = set(await all_names(store, ""))
    gone = everything - left
    assert gone and all(conversation_path(key)[3:] in name for name in gone)
    assert {name for name in left if conversation_path(key)[3:] in name} == {head_of(key)}


async def test_checkpoints_in_a_place_of_their_own_go_too(store: FaultStore) -> None:
    checkpoints = MemoryStore()
    path = conversation_path(KEY)
    await put_head(store, KEY, checkpoint=Checkpoint(f"k/{path}/c/0/000000000003-x"))
    await checkpoints.put(f"k/{path}/c/0/000000000003-x", b"{}")
    await checkpoints.put(f"k/{conversation_path('other')}/c/0/000000000003-x", b"{}")
    candidate = await Finder([store, checkpoints]).find(path, KEY)
    assert candidate is not None
    assert (await deleter(store, checkpoints).delete([candidate])).foreign == []
    assert await all_names(checkpoints, "") == [f"k/{conversation_path('other')}/c/0/000000000003-x"]


async def test_checkpoints_in_a_storage_of_the_users_own_are_named(store: FaultStore) -> None:
    await put_head(store, KEY, checkpoint=Checkpoint("2f9a"))
    assert (await delete(store, KEY)).foreign == ["2f9a"]


async def test_what_is_not_stored_is_not_found(store: FaultStore) -> None:
    await write(store, KEY)
    assert await find(store, isolation_key("chat", "ada")) is None
    await delete(store, KEY)
    assert await find(store, KEY) is None


async def test_updates_alone_are_a_conversation(store: FaultStore) -> None:
    await store.put(f"in/{conversation_path(KEY)}/0001.u1", document(key=KEY))
    await delete(store, KEY)
    assert await all_names(store, "") == [head_of(KEY)]
    assert (await get_head(store, KEY)).done == {"u1": NOW}


async def test_a_running_turn_cannot_be_saved_after_a_deletion(store: FaultStore) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()

    async def between(word: str) -> None:
        if word == "held":
            entered.set()
            await go_on.wait()

    async with hosted(store, Diary(between, padding=LARGE), SHORT) as context:
        await say(context, KEY, "before")
        turn = asyncio.create_task(say(context, KEY, "held"))
        await entered.wait()
        at_work = deleter(store)
        deleted = await at_work.delete([await found(store, KEY)])
        assert list(deleted.interrupted) == [conversation_path(KEY)]
        go_on.set()
        with pytest.raises(TurnConflict):
            await turn
        assert await read_diary(store, KEY) == []
        await at_work.delete_rest(deleted)
        assert [name for name in await all_names(store, "") if name != head_of(KEY)] == []
        assert await say(context, KEY, "anew") == "1: anew"
    assert await read_diary(store, KEY) == ["anew"]


async def test_what_an_interrupted_turn_writes_late_goes_with_the_next_prune(store: FaultStore) -> None:
    await write(store, KEY, lease=LEASE)
    await delete(store, KEY)
    orphan = f"k/{conversation_path(KEY)}/b/000000000003-late"
    await store.put(orphan, b"{}")
    async with hosted(store, Diary(padding=LARGE)) as context:
        await say(context, KEY, "anew")
    await prune(store)
    assert orphan not in await all_names(store, "")
    assert await read_diary(store, KEY) == ["anew"]


async def test_without_a_running_turn_nobody_waits(store: FaultStore) -> None:
    async def fail(seconds: float) -> None:
        pytest.fail("there is nothing to wait for")

    await write(store, KEY)
    at_work = deleter(store, sleep=fail)
    await at_work.delete_rest(await at_work.delete([await found(store, KEY)]))


async def test_a_turn_that_renews_its_lease_does_not_escape(store: FaultStore) -> None:
    await write(store, KEY, lease=LEASE)

    async def renew() -> None:
        await change_head(store.inner, KEY)

    candidate = await found(store, KEY)
    for _ in range(3):
        store.plan(calling(before=renew), kind="put", name="head")
    await deleter(store).delete([candidate])
    assert (await get_head(store, KEY)).deleted == NOW


async def test_an_update_that_comes_after_the_tombstone_stays(store: FaultStore) -> None:
    await write(store, KEY)
    name = f"in/{conversation_path(KEY)}/0003.u3"

    async def accept() -> None:
        await store.inner.put(name, document(key=KEY))

    store.plan(calling(after=accept), kind="put", name="head")
    await delete(store, KEY)
    assert await all_names(store, "in/") == [name]
    assert "u3" not in (await get_head(store, KEY)).done
    await delete(store, KEY)  # It is a conversation by now.
    assert await all_names(store, "in/") == []


async def test_what_was_begun_anew_while_an_answer_was_lost_stays(store: FaultStore) -> None:
    await write(store, KEY)
    candidate = await found(store, KEY)

    async def begin_anew() -> None:
        garbage = (await get_head(store.inner, KEY)).garbage
        async with hosted(store.inner, Diary(padding=LARGE)) as context:
            assert await say(context, KEY, "anew") == "1: anew"
        await change_head(store.inner, KEY, garbage=garbage)  # What that turn has not removed itself.

    async def lost(*operation: Any) -> Any:
        await operation[1]()
        await begin_anew()
        return await lost_answer(operation[0], no_answer)

    async def no_answer() -> None:
        return None

    store.plan(lost, kind="put", name="head")
    with pytest.raises(TurnConflict, match="begun anew"):
        await deleter(store).delete([candidate])
    assert await read_diary(store, KEY) == ["anew"]
    await prune(store)
    left = [name for name in await all_names(store, "k/") if name != head_of(KEY)]
    assert len(left) == 1 and "/b/" in left[0], "snapshots, checkpoints and archives of before went with the prune"
    assert await read_diary(store, KEY) == ["anew"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_one_operation_that_goes_wrong_does_not_matter(new_store: NewStore, fault: Fault) -> None:
    for nth in range(1, await operations_of_a_deletion() + 1):
        store = new_store()
        await write(store, KEY, lease=LEASE)
        store.plan(fault, nth=nth)
        await delete(store, KEY)
        assert await all_names(store, "") == [head_of(KEY)], nth
        assert (await get_head(store, KEY)).deleted == NOW


@pytest.mark.parametrize("fault", STOPS)
async def test_a_deletion_that_is_stopped_anywhere_is_done_by_the_next(new_store: NewStore, fault: Fault) -> None:
    for nth in range(1, await operations_of_a_deletion() + 1):
        store = new_store()
        await write(store, KEY, lease=LEASE)
        store.plan(fault, nth=nth, times=None)
        with pytest.raises(Stopped):
            await delete(store, KEY)
        store.clear()
        if await find(store, KEY) is not None:
            await delete(store, KEY)
        assert await all_names(store, "") == [head_of(KEY)], nth
        assert (await get_head(store, KEY)).deleted == NOW


@pytest.mark.parametrize("fault", [kill_before, kill_after])
async def test_a_process_that_is_killed_is_done_by_the_next(place: StatePlace, fault: Fault) -> None:
    slots = asyncio.Semaphore(2)

    async def check(nth: int) -> None:
        path = place.below(str(nth))
        store = open_store(path)
        await write(store, KEY, lease=LEASE)
        async with slots:
            with Worker(SPAWNING, delete_once, path, KEY, (fault, {"nth": nth})) as worker:
                assert await worker.end() == -signal.SIGKILL
        if await find(store, KEY) is not None:
            await delete(store, KEY)
        assert await all_names(store, "") == [head_of(KEY)], nth

    await asyncio.gather(*map(check, range(1, await operations_of_a_deletion() + 1)))


async def test_a_store_that_stays_away_is_reported(store: FaultStore) -> None:
    await write(store, KEY)
    candidate = await found(store, KEY)
    store.plan(away, kind="delete", nth=2, times=None)
    with pytest.raises(StateUnavailable):
        await deleter(store).delete([candidate])
    store.clear()
    await delete(store, KEY)
    assert await all_names(store, "") == [head_of(KEY)]


async def test_a_damaged_head_is_named_and_kept(store: FaultStore) -> None:
    await store.put(head_of(KEY), b"damaged")
    with pytest.raises(StateDamaged, match="damaged"):
        await find(store, KEY)


async def find_person(store: StateStore, channel: str = "chat", native_id: str = "ada") -> Found:
    return await Finder([store]).find_person(channel, native_id)


async def test_all_that_is_somebodys_is_found_and_nothing_else(store: FaultStore) -> None:
    ada, bob = person("chat", "ada"), person("chat", "bob")
    await put_head(store, isolation_key("chat", "ada", "tea"), when=YOUNG)
    await put_head(store, isolation_key("chat", "ada"), when=YOUNG, people=(ada,))
    await put_head(store, "group", when=YOUNG, people=(bob, ada))
    await put_head(store, isolation_key("chat", "adam"), people=(person("chat", "adam"),))
    await put_head(store, isolation_key("other", "ada", "tea"), people=(person("other", "ada"),))
    await put_head(store, "bob's", people=(bob,))
    await store.put(f"in/{conversation_path('room')}/1.u1", document(key="room", identity=identity("chat", "ada")))
    await store.put(f"in/{conversation_path('hall')}/1.u1", document(key="hall", identity=identity("chat", "bob")))
    await store.put(f"dead/{conversation_path('attic')}/1.u1", document(key="attic", identity=identity("chat", "ada")))
    await store.put(f"d/chat/{owner_of('ada')}/1", document())
    await store.put(f"d/chat/{owner_of('bob')}/1", document())
    found = await find_person(store)
    shared = {candidate.key: candidate.shared for candidate in found.conversations}
    assert shared == {"chat:ada:tea": False, "chat:ada": False, "group": True, "room": False, "attic": False}
    assert found.documents == [f"d/chat/{owner_of('ada')}/1"]
    await deleter(store).delete(found.conversations, found.documents)
    assert await find_person(store) == Found()
    assert len((await find_person(store, native_id="bob")).conversations) == 2


def identity(channel: str, native_id: str) -> dict[str, Any]:
    return {"channel": channel, "native_id": native_id, "attributes": {}}


@pytest.mark.parametrize(
    "native_id", ["a:b", "Ada Lovelace", "🦊", "nul\0l", "../..", "x" * 2000], ids=lambda text: ascii(text[:20])
)
async def test_an_identity_may_be_any_text(store: FaultStore, native_id: str) -> None:
    key = isolation_key("chat", native_id, "tea")
    await put_head(store, key)
    await store.put(f"d/chat/{owner_of(native_id)}/1", document())
    await put_head(store, isolation_key("chat", native_id + "x", "tea"))
    found = await find_person(store, native_id=native_id)
    assert [candidate.key for candidate in found.conversations] == [key]
    assert len(found.documents) == 1


async def test_no_two_identities_have_one_name() -> None:
    pairs = [("a", "b"), ("a:b", ""), ("", "a:b"), ("a", ":b"), ("a:", "b"), ("1:a", "b")]
    names = {person(*pair) for pair in pairs}
    assert len(names) == len(pairs) and all(len(name) == 32 for name in names)


async def test_what_cannot_be_read_may_be_somebodys(store: FaultStore) -> None:
    await store.put(head_of("k"), b"damaged")
    await store.put(f"in/{conversation_path('other')}/1.u1", b"damaged")
    found = await find_person(store)
    assert set(found.damaged) == {head_of("k"), f"in/{conversation_path('other')}/1.u1"}
    assert found.conversations == []
