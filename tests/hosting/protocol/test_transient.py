"""Conversations of a host without `state_dir`."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from pathlib import Path

import pytest
from agent_framework import WorkflowCheckpoint

from agent_framework_hosting import AgentFrameworkHost, HostLimits
from agent_framework_hosting.errors import InvalidRequest, SessionTooLarge, TurnBusy, TurnConflict, TurnRepeated
from agent_framework_hosting.state.checkpoints import TransientCheckpoints
from agent_framework_hosting.state.conversations import reset
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.transient import TransientConversations
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.questions import asking

KEY = "chat:1"


async def take(
    conversations: TransientConversations, key: str, data: bytes, turn_id: str | None = None
) -> bytes | None:
    """Take a turn that replaces a conversation, and give what was there."""
    turn = await conversations.begin(key, turn_id)
    await turn.commit(snapshot=data, checkpoint=None)
    await turn.end()
    return turn.snapshot


async def steps(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@pytest.fixture
def conversations() -> TransientConversations:
    return TransientConversations(HostLimits(memory_sessions=3))


async def test_a_turn_is_kept_when_it_is_committed(conversations: TransientConversations) -> None:
    assert await take(conversations, KEY, b"1") is None
    turn = await conversations.begin(KEY)
    await turn.end()
    assert await take(conversations, KEY, b"2") == b"1"


async def test_the_least_recently_used_conversation_goes(conversations: TransientConversations) -> None:
    for key in ("a", "b", "c", "a", "d"):
        await take(conversations, key, key.encode())
    with pytest.raises(InvalidRequest):
        await conversations.peek("b")
    for key in ("a", "c", "d"):
        assert await conversations.peek(key) == (key.encode(), None)


async def test_conversations_in_use_stay_above_the_bound(conversations: TransientConversations) -> None:
    turns = [await conversations.begin(f"k{n}") for n in range(6)]
    again = asyncio.create_task(conversations.begin("k5"))
    await steps()
    assert not again.done()
    for n, turn in enumerate(turns):
        await turn.commit(snapshot=b"%d" % n, checkpoint=None)
        await turn.end()
    turn = await again
    assert turn.snapshot == b"5"
    await turn.end()
    await take(conversations, "new", b"new")
    for key in ("k4", "k5", "new"):
        await conversations.peek(key)
    for n in range(4):
        with pytest.raises(InvalidRequest):
            await conversations.peek(f"k{n}")


async def test_what_came_to_nothing_takes_no_place(conversations: TransientConversations) -> None:
    for key in ("a", "b", "c"):
        await take(conversations, key, b"1")
    for n in range(3):
        turn = await conversations.begin(f"never {n}")
        await turn.end()
        with pytest.raises(InvalidRequest):
            await conversations.begin(f"orphan {n}", parent="nobody")
    assert await take(conversations, "c", b"2") == b"1"


async def test_turns_go_in_the_order_they_came_and_wait_in_bounded_time() -> None:
    # Only a limit of seconds is valid: the waiting itself is real.
    conversations = TransientConversations(
        HostLimits(lease=timedelta(seconds=0.01), turn_timeout=timedelta(seconds=2.02))
    )
    first = await conversations.begin(KEY)
    order: list[int] = []

    async def wait(n: int) -> None:
        turn = await conversations.begin(KEY)
        order.append(n)
        await turn.end()

    waiting = [asyncio.create_task(wait(n)) for n in range(5)]
    await steps()
    waiting[2].cancel()
    await steps()
    await first.end()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert order == [0, 1, 3, 4]

    # Who comes when the lock is free but promised to another waits in bounded time as well.
    first = await conversations.begin(KEY)
    second = asyncio.create_task(conversations.begin(KEY))
    await steps()
    await first.end()
    async with asyncio.timeout(20):
        with pytest.raises(TurnBusy):
            await conversations.begin(KEY)
    await (await second).end()
    await wait(5)


async def test_a_reset_waits_and_begins_anew(conversations: TransientConversations) -> None:
    turn = await conversations.begin(KEY)
    resetting = asyncio.create_task(reset(conversations, KEY))
    await steps()
    assert not resetting.done()
    await turn.commit(snapshot=b"1", checkpoint=WorkflowCheckpoint("w", "hash"))
    await turn.end()
    await resetting
    turn = await conversations.begin(KEY)
    assert (turn.snapshot, turn.checkpoint) == (None, None)
    assert turn.session.startswith(f"{KEY}#") and len(turn.session) == len(KEY) + 9
    turn.reset_requested = True
    await turn.commit(snapshot=b"2", checkpoint=None)
    await turn.end()
    assert (await conversations.peek(KEY)) == (None, None)


async def test_a_repeat_is_refused_and_no_other_turn(conversations: TransientConversations) -> None:
    await take(conversations, KEY, b"1", "t1")
    with pytest.raises(TurnRepeated):
        await conversations.begin(KEY, "t1")
    assert await take(conversations, KEY, b"2", "t2") == b"1"
    turn = await conversations.begin(KEY, "t3")
    await turn.end()
    assert await take(conversations, KEY, b"3", "t3") == b"2"


async def test_checkpoints_that_alone_are_stored_never_get_in_each_others_way(tmp_path: Path) -> None:
    """A process that knows nothing of the one before it begins the same conversation anew, with the same turns."""
    for _ in range(2):
        host = AgentFrameworkHost(asking(), channels=[TurnChannel()], state_dir={"checkpoints": tmp_path})
        async with started(host) as app:
            replies = [await post_turn(app, KEY, word, turn=word) for word in ("one", "two")]
            assert [reply.json for reply in replies] == ["1: one", "2: two"]
    assert len(await DirectoryStore(tmp_path / "v1").list("k/")) == 4


async def test_a_child_starts_from_its_parent(conversations: TransientConversations) -> None:
    await take(conversations, "parent", b"1")
    turn = await conversations.begin("child", parent="parent")
    assert (turn.snapshot, turn.stored_key) == (b"1", "parent")
    await turn.commit(snapshot=b"2", checkpoint=None)
    await turn.end()
    assert await conversations.peek("parent") == (b"1", None)
    assert await conversations.peek("child") == (b"2", None)


async def test_sizes_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    conversations = TransientConversations(HostLimits(session_bytes=10))
    with caplog.at_level(logging.WARNING):
        await take(conversations, KEY, b"x" * 8)
        await take(conversations, KEY, b"x" * 9)
        assert not caplog.records
        await take(conversations, KEY, b"x" * 11)
        assert len(caplog.records) == 1
    with pytest.raises(SessionTooLarge):
        await conversations.begin(KEY)
    with pytest.raises(SessionTooLarge):
        await conversations.begin("child", parent=KEY)
    conversations.keeper = TransientCheckpoints()
    turn = await conversations.begin("workflow")
    await turn.commit(snapshot=b"x", checkpoint=WorkflowCheckpoint("w", "hash"))
    await turn.end()
    with pytest.raises(SessionTooLarge):
        await conversations.begin("workflow")
    await reset(conversations, KEY)
    assert await take(conversations, KEY, b"1") is None


async def test_a_key_that_is_no_text_is_refused(conversations: TransientConversations) -> None:
    with pytest.raises(InvalidRequest):
        await conversations.begin("\ud800")


async def test_of_two_turns_under_one_fresh_key_one_is_saved() -> None:
    conversations = TransientConversations(HostLimits())
    first = await conversations.begin(KEY, fresh=True)
    await first.commit(snapshot=b"1", checkpoint=None)
    await first.end()
    second = await conversations.begin(KEY, fresh=True)
    with pytest.raises(TurnConflict):
        await second.commit(snapshot=b"2", checkpoint=None)
    await second.end()
    assert await conversations.peek(KEY) == (b"1", None)
