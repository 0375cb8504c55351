"""Answers of the store that get lost at each write of a turn."""

from __future__ import annotations

import asyncio

import pytest

from agent_framework_hosting.errors import StateUnavailable, TurnConflict, TurnRepeated
from agent_framework_hosting.problems import problem_of
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.stored import StoredConversations
from tests.hosting.protocol.diary import LONG, Diary, hosted, read_diary, request, say, written
from tests.support.faults import ManualClock, then
from tests.support.stores import Fault, FaultStore, Operation, away, calling, lost_answer, lost_request, twice

KEY = "chat:1"
FAULTS = [lost_answer, lost_request, away, twice]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("write", [1, 2])
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_turn_survives_a_fault_at_any_write_of_its_head(
    store: FaultStore, fault: Fault, write: int, stream: bool
) -> None:
    async with hosted(store, agent := Diary()) as context:
        await say(context, KEY, "one")
        store.plan(fault, kind="put", name="head", nth=write)
        if stream:
            answer = (await (await context.run_stream(request(KEY, "two"))).get_final_response()).text
        else:
            answer = await say(context, KEY, "two")
        assert answer == "2: two"
        assert await say(context, KEY, "three") == "3: three"
    assert agent.heard == ["one", "two", "three"]
    assert await read_diary(store, KEY) == agent.heard


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_large_snapshot_survives_a_fault(store: FaultStore, fault: Fault) -> None:
    async with hosted(store, Diary(padding=140_000)) as context:
        store.plan(fault, kind="put", name="/b/")
        for n, word in enumerate(["one", "two"], 1):
            assert await say(context, KEY, word) == f"{n}: {word}"
    assert await read_diary(store, KEY) == ["one", "two"]


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fresh_conversation_survives_a_fault(store: FaultStore, fault: Fault) -> None:
    async with hosted(store, Diary()) as context:
        store.plan(fault, kind="put")
        assert await say(context, KEY, "one", fresh=True) == "1: one"
    assert await read_diary(store, KEY) == ["one"]


@pytest.mark.parametrize("reading_fails", [0, 2])
async def test_the_answer_of_a_commit_is_lost_and_others_went_on(store: FaultStore, reading_fails: int) -> None:
    async with hosted(store, Diary()) as context, hosted(store, Diary()) as other:
        await say(context, KEY, "one")

        async def go_on() -> None:
            assert await say(other, KEY, "three") == "3: three"
            assert await say(other, KEY, "four") == "4: four"
            # The first read finds that others have written, the next one in what.
            store.plan(away, kind="get", name="head", nth=2, times=reading_fails)

        store.plan(then(lost_answer, calling(after=go_on)), kind="put", name="head", nth=2)
        assert await say(context, KEY, "two") == "2: two"
        store.clear()
        assert await say(context, KEY, "five") == "5: five"
    assert await read_diary(store, KEY) == ["one", "two", "three", "four", "five"]


async def test_the_answer_of_a_commit_is_unknown_to_the_end(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        await say(context, KEY, "one")
        store.plan(lost_request, kind="put", name="head", nth=2, times=None)
        with pytest.raises(StateUnavailable) as failure:
            await say(context, KEY, "two")
        assert failure.value.started
        response = problem_of(failure.value, channel="test").response()
        assert (response.status_code, response.headers["x-should-retry"]) == (503, "false")
    assert await read_diary(store, KEY) == ["one"]


async def test_a_store_that_is_away_at_the_beginning_has_had_no_effect(store: FaultStore) -> None:
    async with hosted(store, agent := Diary()) as context:
        store.plan(away, times=None)
        with pytest.raises(StateUnavailable) as failure:
            await say(context, KEY, "one")
        assert not failure.value.started
        store.clear()
        assert await say(context, KEY, "two") == "1: two"
    assert agent.heard == ["two"]


async def test_a_turn_whose_large_snapshot_cannot_be_stored_gives_the_lease_back(store: FaultStore) -> None:
    async with hosted(store, Diary(padding=140_000)) as context, hosted(store, Diary()) as other:
        await say(context, KEY, "one")
        store.plan(away, kind="put", name="/b/", times=None)
        with pytest.raises(StateUnavailable) as failure:
            await say(context, KEY, "two")
        assert failure.value.started
        async with asyncio.timeout(5):
            assert await say(other, KEY, "three") == "2: three"
    assert await read_diary(store, KEY) == ["one", "three"]


async def test_the_renewal_of_a_long_turn_is_not_mistaken_for_a_foreign_write(store: FaultStore) -> None:
    """A renewal that is applied twice, or late, must not cost the turn its commit or keep its lease alive."""
    first = StoredConversations(store, LONG)
    turn = await first.begin(KEY)
    # What a renewal does whose answer this holder never hears.
    data, version = await written(store, turn.name)
    await store.put(turn.name, data.replace(b'"rev":"', b'"rev":"f'), if_version=version)
    await turn.commit(snapshot=b'{"n":1}', checkpoint=None)
    await turn.end()
    turn = await first.begin(KEY)
    data, version = await written(store, turn.name)
    await store.put(turn.name, data.replace(b'"rev":"', b'"rev":"f'), if_version=version)
    await turn.end()
    clock = ManualClock()
    second = StoredConversations(store, LONG, clock=clock, sleep=clock.sleep)
    turn = await second.begin(KEY)
    assert (turn.snapshot, clock.time) == (b'{"n":1}', 1000.0)
    await turn.end()
    for conversations in (first, second):
        await conversations.close()


async def test_a_repeat_elsewhere_is_not_mistaken_for_the_own_run(store: FaultStore) -> None:
    """A holder that lost its lease unawares finds its turn's id in the log, written by the repeat of the request."""
    clock = ManualClock()
    frozen, other = StoredConversations(store, LONG), StoredConversations(store, LONG, clock=clock, sleep=clock.sleep)
    turn = await frozen.begin(KEY, "t1")
    repeat = await other.begin(KEY, "t1")
    await repeat.commit(snapshot=b'{"of":"the repeat"}', checkpoint=None)
    await repeat.end()
    with pytest.raises(TurnConflict):
        await turn.commit(snapshot=b'{"of":"the frozen"}', checkpoint=None)
    await turn.end()
    assert await other.peek(KEY) == (b'{"of":"the repeat"}', None)
    with pytest.raises(TurnRepeated):
        await frozen.begin(KEY, "t1")
    for conversations in (frozen, other):
        await conversations.close()


@pytest.mark.parametrize("write", [1, 2])
async def test_a_cancelled_caller_leaves_a_whole_turn_or_none(store: FaultStore, write: int, padding: int) -> None:
    async with hosted(store, Diary(padding=padding)) as context:
        await say(context, KEY, "one")
        task: asyncio.Task[str]

        async def cancel() -> None:
            task.cancel()
            await asyncio.sleep(0)
            task.cancel()

        store.plan(calling(before=cancel), kind="put", name="head", nth=write)
        task = asyncio.create_task(say(context, KEY, "two"))
        with pytest.raises(asyncio.CancelledError):
            await task
        saved = ["one", "two"] if write == 2 else ["one"]
        assert await read_diary(store, KEY) == saved
        # The lease was given back: nobody waits.
        async with asyncio.timeout(5):
            assert await say(context, KEY, "three") == f"{len(saved) + 1}: three"


async def test_a_caller_that_is_cancelled_anywhere_leaves_a_whole_turn_or_none(store: FaultStore, padding: int) -> None:
    """Cancelled at each turn of the event loop or, where what it waits for takes time, at moments spread over that."""
    local = isinstance(store.inner, MemoryStore | DirectoryStore)
    moments, between = (200, 0.0) if local else (60, 0.0008)
    async with hosted(store, Diary(padding=padding)) as context:
        words: list[str] = []
        for steps in range(moments):
            word = f"w{steps}"
            task = asyncio.create_task(say(context, KEY, word))
            for _ in range(steps):
                await asyncio.sleep(between)
            finished = task.done()
            task.cancel()
            await asyncio.wait([task])
            found = await read_diary(store, KEY)
            assert found in (words, [*words, word])
            assert not (finished and found == words)
            words = found
            if finished:
                break
        assert await say(context, KEY, "last") == f"{len(words) + 1}: last"
        assert not [operation for operation in store.log if leased_forever(operation)]


def leased_forever(operation: Operation) -> bool:
    return operation.data is not None and b'"attempt":2' in operation.data
