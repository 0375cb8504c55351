"""Conversations wherever a host keeps them: odd keys, and sessions of 20 MB."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.errors import ConfigurationError, SessionTooLarge
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import LONG, Diary, hosted, say
from tests.support.places import OBJECT_PLACES, PLACES, make_place
from tests.support.stores import CountingStore, FaultStore

KEY = "chat:1"
ODD_KEYS = [
    "a/b/c",
    "a/b",
    "a",
    "A",
    "/a",
    "../a",
    "..",
    ".",
    "a\0b",
    "a\nb",
    "a b?c=d&e#f",
    "a%2Fb",
    "\N{PILE OF POO}\N{VARIATION SELECTOR-16}",
    "é",
    "e\N{COMBINING ACUTE ACCENT}",
    "straße",
    "STRASSE",
    "x" * 2000,
    "x" * 1999,
    "X" * 2000,
    "\N{GRINNING FACE}" * 2000,
    "con",
    '"',
    "'; --",
]
MANY_BYTES = 20_000_000


@pytest.mark.parametrize("kind", PLACES)
async def test_odd_keys_are_conversations_of_their_own(kind: str, request: pytest.FixtureRequest) -> None:
    place = make_place(kind, request)
    for round_ in (1, 2):  # The second on another instance.
        host = AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=place.state_dir)
        async with started(host) as app:
            for number, key in enumerate(ODD_KEYS):
                reply = await post_turn(app, key, f"word{number}")
                assert (reply.status, reply.json) == (200, f"{round_}: word{number}"), key


async def test_a_session_of_20_mb_is_read_once_and_written_once(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    counted = CountingStore(store)
    agent = Diary(padding=MANY_BYTES)
    async with hosted(counted, agent, replace(LONG, session_bytes=32 * 2**20)) as context:
        await say(context, KEY, "one")
        counted.reset()
        assert await say(context, KEY, "two") == "2: two"
        taken = list(counted.log)
        rounds = counted.rounds
        assert await say(context, KEY, "three") == "3: three"
    kinds = Counter(operation.kind for operation in taken if operation.kind != "delete")
    assert kinds == {"get": 2, "put": 3}  # The head and the session; the lease, the session and the head.
    reads = [operation.name for operation in taken if operation.kind == "get"]
    assert len(set(reads)) == 2
    assert rounds == 4
    assert not caplog.records


async def test_a_session_of_20_mb_is_warned_of_and_refused_where_limits_are_lower(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Diary(padding=MANY_BYTES)
    async with hosted(store, agent, replace(LONG, session_bytes=MANY_BYTES * 12 // 10)) as context:
        await say(context, KEY, "one")
        assert not caplog.records
        await say(context, KEY, "two")
    [record] = caplog.records
    assert f"of {MANY_BYTES * 12 // 10} bytes; at the bound it is refused" in record.getMessage()
    async with hosted(store, agent, replace(LONG, session_bytes=MANY_BYTES)) as context:
        store.log.clear()
        with pytest.raises(SessionTooLarge, match=r"Reset it, start a new one"):
            await say(context, KEY, "three")
        assert [operation.kind for operation in store.log] == ["get"]  # Of the head, not of the session.
    assert agent.heard == ["one", "two"]
    async with hosted(store, agent, replace(LONG, session_bytes=32 * 2**20)) as context:
        assert await say(context, KEY, "four") == "3: four"


@pytest.mark.parametrize("kind", OBJECT_PLACES)
async def test_a_host_does_not_start_without_its_bucket(kind: str, request: pytest.FixtureRequest) -> None:
    scheme = make_place(kind, request).state_dir.partition("://")[0]
    host = AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=f"{scheme}://nowhere/bot")
    with pytest.raises(ConfigurationError, match=r"there is no (bucket|container) nowhere. Create it"):
        async with started(host):
            pass
