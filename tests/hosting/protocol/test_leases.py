"""Who may run when: waiting, taking over, and stopping oneself, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import copy
import gc
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from agent_framework import AgentResponseUpdate, AgentSession, Message

from agent_framework_hosting import ChannelContext
from agent_framework_hosting.errors import InvalidRequest, TurnBusy, TurnConflict, TurnRepeated
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.head import decode_head, encode_head
from agent_framework_hosting.state.stored import StoredConversations
from tests.hosting.protocol.diary import LONG, Diary, hosted, read_diary, request, say, written
from tests.support.faults import ManualClock, brief_sleep
from tests.support.stores import FaultStore, Gate, away, calling
from tests.support.targets import ScriptedAgent, text_update

KEY = "chat:1"
LEASE = LONG.lease.total_seconds()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


Make = Callable[[], StoredConversations]


@pytest.fixture
async def make(store: FaultStore, clock: ManualClock) -> AsyncIterator[Make]:
    """Make instances on one store, with one clock."""
    made: list[StoredConversations] = []

    def make() -> StoredConversations:
        made.append(StoredConversations(store, LONG, clock=clock, sleep=clock.sleep))
        return made[-1]

    yield make
    for conversations in made:
        await conversations.close()


async def streamed(context: ChannelContext, key: str, word: str) -> str:
    stream = await context.run_stream(request(key, word))
    return (await stream.get_final_response()).text


async def head_of(store: FaultStore, name: str) -> Any:
    return decode_head(name, (await written(store, name))[0], KEY)


async def test_a_dead_holder_is_waited_for_as_long_as_its_lease(
    store: FaultStore, make: Make, clock: ManualClock
) -> None:
    await make().begin(KEY)  # and never ended
    began = clock.time
    turn = await make().begin(KEY)
    assert LEASE <= clock.time - began < LEASE + 1
    assert (await head_of(store, turn.name)).lease.attempt == 2
    await turn.end()
    turn = await make().begin(KEY)
    head = await head_of(store, turn.name)
    assert (head.epoch, head.lease.attempt) == (3, 1)
    await turn.end()


async def test_the_longer_of_two_leases_counts(store: FaultStore, clock: ManualClock) -> None:
    longer = StoredConversations(store, replace(LONG, lease=timedelta(seconds=14)), clock=clock)
    shorter = StoredConversations(store, replace(LONG, lease=timedelta(seconds=1)), clock=clock, sleep=clock.sleep)
    await longer.begin(KEY)
    turn = await shorter.begin(KEY)
    assert 14 <= clock.time - 1000 < 15
    await turn.end()
    for conversations in (longer, shorter):
        await conversations.close()


async def test_what_was_seen_is_remembered_for_callers_that_wait_too_little(
    store: FaultStore, make: Make, clock: ManualClock
) -> None:
    waiting = asyncio.Event()

    async def sleep(seconds: float) -> None:
        waiting.set()
        await asyncio.get_running_loop().create_future()

    await make().begin(KEY)
    waiter = StoredConversations(store, LONG, clock=clock, sleep=sleep)
    task = asyncio.create_task(waiter.begin(KEY))
    await waiting.wait()
    task.cancel()
    await asyncio.wait([task])
    clock.suspend(LEASE)  # the process was frozen between two invocations
    turn = await waiter.begin(KEY)  # without waiting again
    await turn.end()
    await waiter.close()


async def test_a_conversation_that_stays_busy_is_refused(store: FaultStore, make: Make, clock: ManualClock) -> None:
    holder, waiter = make(), make()
    turn = await holder.begin(KEY)
    name = turn.name

    async def renew() -> None:
        data, version = await written(store.inner, name)
        head = decode_head(name, data, KEY)
        await store.inner.put(name, encode_head(head.next()), if_version=version)

    store.plan(calling(before=renew), kind="get", name="head", times=None)
    with pytest.raises(TurnBusy) as refusal:
        await waiter.begin(KEY)
    assert abs(clock.time - 1000 - LONG.turn_timeout.total_seconds()) < 1
    assert refusal.value.retry_after > 0
    store.clear()


async def test_waiting_polls_without_reading_what_is_unchanged(
    store: FaultStore, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    held = await make().begin(KEY)
    _, version = await written(store.inner, held.name)
    store.log.clear()
    turn = await make().begin(KEY)
    first, *polls = [operation for operation in store.log if operation.kind == "get"]
    assert first.unless is None
    assert 5 < len(polls) < 40
    assert {poll.unless for poll in polls} == {version}
    assert len(store.names("put")) == 1
    await turn.end()
    assert not caplog.records


@pytest.mark.parametrize("passing", ["advance", "suspend"])
async def test_a_holder_that_was_away_too_long_stops_itself(
    store: FaultStore, clock: ManualClock, passing: str
) -> None:
    async def sleepy(word: str) -> None:
        getattr(clock, passing)(0 if word == "awake" else LEASE * 0.7)

    async with hosted(store, Diary(sleepy), clock=clock, sleep=clock.sleep) as context:
        await say(context, KEY, "awake")
        with pytest.raises(TurnConflict) as failure:
            await say(context, KEY, "asleep")
        assert failure.value.started
        stream = await context.run_stream(request(KEY, "asleep"))
        updates = aiter(stream)
        assert (await anext(updates)).text == "2:"
        with pytest.raises(TurnConflict):
            await anext(updates)
        await stream.aclose()
        now = clock.time
        assert await say(context, KEY, "awake") == "2: awake"
        assert clock.time == now  # the lease was given back each time
    assert await read_diary(store, KEY) == ["awake", "awake"]


class Tireless(ScriptedAgent):
    """Says one word after another without waiting for anything; each takes a seventh of a lease."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self.clock = clock
        self.said = 0

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        while True:
            self.clock.advance(LEASE / 7)
            self.said += 1
            yield text_update("on")


async def test_a_holder_that_never_waits_is_stopped_after_the_update_with_which_its_lease_was_lost(
    store: FaultStore, clock: ManualClock
) -> None:
    agent = Tireless(clock)
    async with hosted(store, agent, clock=clock, sleep=clock.sleep) as context:
        updates = aiter(await context.run_stream(request(KEY, "x")))
        for _ in range(4):
            await anext(updates)
        with pytest.raises(TurnConflict):
            await anext(updates)  # Two thirds of the lease are over.
    assert agent.said == 5


async def test_so_is_one_whose_updates_are_handed_out(store: FaultStore, clock: ManualClock) -> None:
    agent = Tireless(clock)
    heard: list[str] = []
    async with hosted(store, agent, clock=clock, sleep=clock.sleep) as context:
        stream = await context.run_stream(request(KEY, "x"))
        with pytest.raises(TurnConflict):
            await stream.feed(lambda update: heard.append(update.text) or False)
    assert (agent.said, heard) == (5, ["on"] * 4)


async def test_a_holder_whose_caller_was_away_too_long_goes_no_further(store: FaultStore, clock: ManualClock) -> None:
    agent = Tireless(clock)
    async with hosted(store, agent, clock=clock, sleep=clock.sleep) as context:
        stream = await context.run_stream(request(KEY, "x"))
        await anext(aiter(stream))
        await asyncio.sleep(0)
        clock.advance(LEASE)
        with pytest.raises(TurnConflict):
            await anext(aiter(stream))
    assert agent.said == 1


@pytest.mark.parametrize("stream", [False, True], ids=["once", "stream"])
async def test_a_holder_that_was_away_too_long_before_its_run_does_not_begin_it(
    store: FaultStore, clock: ManualClock, stream: bool
) -> None:
    agent = Diary()
    async with hosted(store, agent, clock=clock, sleep=clock.sleep) as context:
        store.plan(calling(after=lambda: clock.advance(LEASE)), kind="put")
        run = streamed if stream else say
        with pytest.raises(TurnConflict):
            await run(context, KEY, "late")
        gc.collect()  # What was made and never begun is told of by now.
    assert agent.heard == []


async def test_a_holder_that_was_taken_over_saves_and_sends_nothing(
    store: FaultStore, make: Make, clock: ManualClock
) -> None:
    first, second = make(), make()
    frozen = await first.begin(KEY, "frozen")
    turn = await second.begin(KEY, "next")  # takes over, in this clock's time
    with pytest.raises(TurnConflict):
        frozen.check()
    with pytest.raises(TurnConflict):
        await frozen.commit(snapshot=b'"frozen"', checkpoint=None)
    with pytest.raises(TurnConflict):
        frozen.watch(lambda: pytest.fail("a run was begun without the lease"))
    await frozen.end()
    turn.check()
    await turn.commit(snapshot=b'"next"', checkpoint=None)
    await turn.end()
    assert await second.peek(KEY) == (b'"next"', None)


async def test_two_clones_of_one_process_do_not_both_win(store: FaultStore, clock: ManualClock) -> None:
    """What a snapshotted process holds in memory and in its random generators is the same in each clone."""
    # The clock stands still: whoever loses waits for the other, however long a slow disk takes.
    clones = [
        StoredConversations(store, LONG, clock=clock, sleep=brief_sleep, jitter=random.Random(7).random)
        for _ in range(2)
    ]
    barrier = asyncio.Barrier(2)
    store.plan(calling(after=barrier.wait), kind="get", name="head", times=2)  # both see the conversation free

    async def take(conversations: StoredConversations) -> None:
        random.seed(7)
        turn = await conversations.begin(KEY)
        before = turn.snapshot or b""
        await asyncio.sleep(0)
        await turn.commit(snapshot=b'"' + before.strip(b'"') + b'+"', checkpoint=None)
        await turn.end()

    await asyncio.gather(*[take(clone) for clone in clones])
    data, _ = await written(store, f"k/{conversation_path(KEY)}/head")
    assert len(set(decode_head("head", data, KEY).log)) == 2
    assert await clones[0].peek(KEY) == (b'"++"', None)
    for clone in clones:
        await clone.close()


async def test_clones_that_hold_one_lease_save_one_turn(store: FaultStore, make: Make) -> None:
    """A process that is cloned in the middle of a turn: both clones hold the same token."""
    conversations = make()
    turn = await conversations.begin(KEY)
    clone = copy.copy(turn)
    await turn.commit(snapshot=b'"one"', checkpoint=None)
    with pytest.raises(TurnConflict):
        await clone.commit(snapshot=b'"two"', checkpoint=None)
    await turn.end()
    assert await conversations.peek(KEY) == (b'"one"', None)


async def test_turns_of_one_instance_go_in_the_order_they_came(store: FaultStore) -> None:
    async with hosted(store, agent := Diary()) as context:
        words = [f"w{n}" for n in range(20)]
        answers = await asyncio.gather(*[say(context, KEY, word) for word in words])
    assert answers == [f"{n}: {word}" for n, word in enumerate(words, 1)]
    assert await read_diary(store, KEY) == words == agent.heard


async def test_a_turn_that_has_ended_twice_frees_the_conversation_once(store: FaultStore, make: Make) -> None:
    conversations = make()
    first = await conversations.begin(KEY)
    waiting, third = [asyncio.create_task(conversations.begin(KEY)) for _ in range(2)]
    await asyncio.sleep(0)  # They line up on this instance; who looks into the store waits no longer.
    await first.end()
    second = await waiting
    store.log.clear()
    await first.end()
    meanwhile = await conversations.begin("another")
    await meanwhile.end()
    assert second.name not in store.names("get")
    assert not third.done()
    await second.end()
    await (await third).end()


async def test_a_repeat_waits_for_the_first_and_is_refused(store: FaultStore) -> None:
    running, gate = asyncio.Event(), asyncio.Event()

    async def between(word: str) -> None:
        running.set()
        await gate.wait()

    async with hosted(store, agent := Diary(between)) as context, hosted(store, other := Diary()) as elsewhere:
        first = asyncio.create_task(say(context, KEY, "one", turn="k1"))
        await running.wait()
        store.plan(calling(after=gate.set), kind="get", name="head", nth=3)
        repeats = [asyncio.create_task(say(where, KEY, "one", turn="k1")) for where in (context, elsewhere)]
        assert await first == "1: one"
        for repeat in repeats:
            with pytest.raises(TurnRepeated):
                await repeat
        assert await say(elsewhere, KEY, "one", turn="k2") == "2: one"
    assert (agent.heard, other.heard) == (["one"], ["one"])


async def test_the_last_turns_are_known_by_their_ids(make: Make) -> None:
    conversations = make()
    for n in range(70):
        turn = await conversations.begin(KEY, f"t{n}")
        await turn.commit(snapshot=b"0", checkpoint=None)
        await turn.end()
    for n in range(6, 70):
        with pytest.raises(TurnRepeated):
            await conversations.begin(KEY, f"t{n}")
    turn = await conversations.begin(KEY, "t")
    await turn.end()


async def test_an_idempotency_key_counts_for_its_conversation_only(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        assert await say(context, "a", "one", turn="k") == "1: one"
        assert await say(context, "b", "one", turn="k") == "1: one"
        with pytest.raises(InvalidRequest):
            await say(context, "a", "one", turn=1)  # type: ignore[arg-type]


async def test_a_child_starts_from_its_parent_and_leaves_it_alone(store: FaultStore, padding: int) -> None:
    async with hosted(store, Diary(padding=padding)) as context:
        await say(context, "parent", "one")
        for n in range(2):
            assert await say(context, f"child {n}", "two", parent="parent", fresh=True) == "2: two"
        with pytest.raises(InvalidRequest):
            await say(context, "orphan", "two", parent="nobody")
        assert await say(context, "orphan", "one") == "1: one"  # its lease was given back
    assert await read_diary(store, "parent") == ["one"]
    assert await read_diary(store, "child 1") == ["one", "two"]


async def test_a_parent_that_is_replaced_while_it_is_read_is_read_again(store: FaultStore) -> None:
    async with hosted(store, Diary(padding=140_000)) as context:
        await say(context, "parent", "one")
        gate = Gate()
        store.plan(gate.before, kind="get", name="/b/")
        task = asyncio.create_task(say(context, "child", "three", parent="parent", fresh=True))
        await gate.reached()
        [superseded] = [name for name in await store.inner.list("k/") if "/b/" in name]
        await say(context, "parent", "two")
        await store.inner.delete(superseded)
        gate.open()
        assert await task == "3: three"


async def test_a_deleted_conversation_is_not_brought_back_by_a_turn(store: FaultStore, make: Make) -> None:
    conversations = make()
    turn = await conversations.begin(KEY)
    await store.delete(turn.name)
    with pytest.raises(TurnConflict):
        await turn.commit(snapshot=b"1", checkpoint=None)
    await turn.end()
    with pytest.raises(InvalidRequest):
        await conversations.peek(KEY)


async def test_a_store_that_goes_away_keeps_nobody_out_for_long(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        task = asyncio.create_task(say(context, KEY, "one"))
        store.plan(away, kind="put", name="head", nth=2, times=3)
        assert await task == "1: one"
