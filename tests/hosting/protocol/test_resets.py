"""Conversations that begin anew, that grow too large, or cannot be read."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest
from agent_framework import AgentSession

from agent_framework_hosting import HostLimits
from agent_framework_hosting.errors import SessionTooLarge, StateDamaged, TurnConflict
from agent_framework_hosting.state.archives import decode_archive
from agent_framework_hosting.state.sessions import decode_session
from tests.hosting.protocol.diary import LARGE, LONG, Diary, hosted, read_diary, say, written
from tests.support.stores import PATIENCE, FaultStore, away, calling, lost_answer, lost_request

KEY = "chat:1"


async def archive(store: FaultStore, name: str) -> bytes:
    found = decode_archive((await written(store.inner, name))[0])
    assert found is not None
    assert found.key == KEY
    return found.content


async def archived(store: FaultStore) -> list[list[str]]:
    """The histories of the sessions that were put aside."""
    names = [name for name in await store.inner.list("k/") if "/s/" in name]
    sessions = [decode_session(name, await archive(store, name), KEY).session for name in names]
    return sorted(session.state["diary"] for session in sessions)


async def test_a_reset_archives_the_session_and_begins_another(store: FaultStore, padding: int) -> None:
    ids: list[str] = []

    class Named(Diary):
        def create_session(self, *, session_id: str | None = None) -> AgentSession:
            ids.append(session_id or "")
            return super().create_session(session_id=session_id)

    async with hosted(store, Named(padding=padding)) as context:
        await context.reset_session(KEY)  # of a conversation that has not begun
        for word in ("one", "two", "three"):
            assert await say(context, KEY, word) == f"1: {word}"
            await context.reset_session(KEY)
            assert await read_diary(store, KEY) == []
    assert await archived(store) == [["one"], ["three"], ["two"]]
    assert len(set(ids)) == 3
    assert all(name.startswith(f"{KEY}#") and len(name) == len(KEY) + 9 for name in ids)


async def test_a_reset_waits_for_the_turn_under_way(store: FaultStore) -> None:
    running, go_on, polled = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def between(word: str) -> None:
        running.set()
        await go_on.wait()

    async with hosted(store, Diary(between)) as context, hosted(store, Diary()) as other:
        turn = asyncio.create_task(say(context, KEY, "one"))
        await running.wait()
        store.plan(calling(after=polled.set), kind="get", name="head", nth=2)
        resets = [asyncio.create_task(where.reset_session(KEY)) for where in (context, other)]
        async with asyncio.timeout(PATIENCE):
            await polled.wait()  # The other instance looks again; on this one nobody needs to look.
        assert not any(reset.done() for reset in resets)
        assert await archived(store) == []
        go_on.set()
        assert await turn == "1: one"
        await asyncio.gather(*resets)
    assert await read_diary(store, KEY) == []
    assert await archived(store) == [["one"]]


async def test_a_reset_inside_a_turn_counts_when_the_turn_is_saved(store: FaultStore, padding: int) -> None:
    async def between(word: str) -> None:
        if word != "keep":
            await context.reset_session(KEY)
            await context.reset_session("another")
        if word == "fail":
            raise ValueError(word)

    async with hosted(store, Diary(between, padding=padding)) as context:
        await say(context, KEY, "keep")
        with pytest.raises(ValueError, match="fail"):
            await say(context, KEY, "fail")
        assert await read_diary(store, KEY) == ["keep"]
        assert await say(context, KEY, "reset") == "2: reset"
        assert await say(context, KEY, "keep") == "1: keep"
    assert await archived(store) == [["keep", "reset"]]


@pytest.mark.parametrize("fault", [lost_answer, lost_request, away])
@pytest.mark.parametrize("name", ["/s/", "head"])
async def test_a_reset_survives_faults(store: FaultStore, fault: Any, name: str) -> None:
    async with hosted(store, Diary()) as context:
        await say(context, KEY, "one")
        store.plan(fault, kind="put", name=name, nth=2 if name == "head" else 1)
        await context.reset_session(KEY)
        assert await say(context, KEY, "two") == "1: two"
    assert await archived(store) == [["one"]]


async def test_a_conversation_that_grew_too_large_is_refused_until_it_is_reset(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    limits = replace(LONG, session_bytes=2000)
    async with hosted(store, agent := Diary(padding=1750), limits) as context:
        await say(context, KEY, "one")
        assert not caplog.records
        with caplog.at_level(logging.WARNING):
            await say(context, KEY, "two")
        [warning] = caplog.records
        assert "of 2000 bytes" in warning.getMessage()
        agent.padding = 2000
        await say(context, KEY, "three")
        with pytest.raises(SessionTooLarge, match="2000") as refusal:
            await say(context, KEY, "four")
        assert not refusal.value.started
        with pytest.raises(SessionTooLarge):
            await say(context, "child", "four", parent=KEY, fresh=True)
        assert agent.heard == ["one", "two", "three"]
        await context.reset_session(KEY)
        assert await say(context, KEY, "five") == "1: five"
    assert await archived(store) == [["one", "two", "three"]]


async def test_a_large_conversation_that_is_waited_for_is_warned_about_once(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    running, polled = asyncio.Event(), asyncio.Event()

    async def between(word: str) -> None:
        if word == "wait":
            store.plan(calling(after=polled.set), kind="get", nth=4)
            running.set()
            await polled.wait()

    limits = replace(LONG, session_bytes=2000)
    agent = Diary(between, padding=1750)
    async with hosted(store, agent, limits) as context, hosted(store, agent, limits) as other:
        await say(context, KEY, "one")
        turn = asyncio.create_task(say(context, KEY, "wait"))
        await running.wait()
        await say(other, KEY, "two")
        await turn
    assert len([record for record in caplog.records if "of 2000 bytes" in record.getMessage()]) == 2


@pytest.mark.parametrize("damage", ["missing", "changed"])
async def test_a_large_session_that_cannot_be_read_is_kept_until_a_reset(store: FaultStore, damage: str) -> None:
    async with hosted(store, agent := Diary(padding=LARGE)) as context:
        await say(context, KEY, "one")
        [name] = [name for name in await store.inner.list("k/") if "/b/" in name]
        if damage == "missing":
            await store.inner.delete(name)
        else:
            await store.inner.put(name, b"rubbish")
        for _ in range(2):  # the lease is given back
            with pytest.raises(StateDamaged) as failure:
                await say(context, KEY, "two")
            assert (failure.value.name, failure.value.started) == (name, False)
        with pytest.raises(StateDamaged):
            await say(context, "child", "two", parent=KEY, fresh=True)
        await context.reset_session(KEY)
        assert await say(context, KEY, "three") == "1: three"
    assert agent.heard == ["one", "three"]
    names = [name for name in await store.inner.list("k/") if "/s/" in name]
    assert [await archive(store, name) for name in names] == ([] if damage == "missing" else [b"rubbish"])


NO_FORMAT = b'{"key":"chat:1","rev":"r","epoch":1,"session":"chat:1"}'
NEWER = b'{"format":1,"key":"chat:1","rev":"r","epoch":1,"session":"chat:1","later":null}'
NO_TEXT = b'{"format":1,"key":"chat:1","rev":"\xff","epoch":1,"session":"chat:1"}'


@pytest.mark.parametrize("data", [b"rubbish", b"", b'{"format":2}', b'{"format":1}', NO_FORMAT, NO_TEXT, NEWER])
async def test_a_head_that_cannot_be_read_is_kept(store: FaultStore, data: bytes) -> None:
    async with hosted(store, Diary()) as context:
        await say(context, KEY, "one")
        [name] = await store.inner.list("k/")
        await store.inner.put(name, data)
        with pytest.raises(StateDamaged) as failure:
            await say(context, KEY, "two")
        assert failure.value.name == name
        with pytest.raises(StateDamaged):
            await context.reset_session(KEY)
        assert (await written(store.inner, name))[0] == data


async def test_a_head_that_is_damaged_during_a_turn_is_kept(store: FaultStore) -> None:
    async def damage(word: str) -> None:
        [name] = await store.inner.list("k/")
        await store.inner.put(name, b"rubbish")

    async with hosted(store, Diary(damage), HostLimits()) as context:
        with pytest.raises((StateDamaged, TurnConflict)):
            await say(context, KEY, "one")
        [name] = await store.inner.list("k/")
        assert (await written(store.inner, name))[0] == b"rubbish"


async def test_the_head_of_another_conversation_is_refused(store: FaultStore) -> None:
    async with hosted(store, Diary()) as context:
        await say(context, KEY, "one")
        await say(context, "another", "one")
        first, second = await store.inner.list("k/")
        await store.inner.put(first, (await written(store.inner, second))[0])
        turns = (say(context, KEY, "two"), say(context, "another", "two"))
        refused = [end for end in await asyncio.gather(*turns, return_exceptions=True) if isinstance(end, Exception)]
        assert [type(error) for error in refused] == [StateDamaged] and "another conversation" in str(refused[0])
