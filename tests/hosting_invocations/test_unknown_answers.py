"""The channel on a store that is away, that does not say what became of a turn, or whose conversation is busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp

from agent_framework_hosting import HostedRunResult, HostLimits, isolation_key
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import Unknown
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting_invocations import InvocationsChannel
from tests.hosting.protocol.diary import Diary, hosted, read_diary
from tests.support.asgi import Connection, Reply, post_json
from tests.support.contexts import app_of
from tests.support.faults import ManualClock
from tests.support.stores import Apply, FaultStore, Gate, Operation, away

AUTH = {"ops": "ops-key-0123456789"}
KEY = isolation_key("invocations", "ops", "s")
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["once", "stream"])


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FaultStore:
    if request.param == "memory":
        return FaultStore(MemoryStore())
    return FaultStore(DirectoryStore(tmp_path_factory.mktemp("state")))


@asynccontextmanager
async def served(store: FaultStore, agent: Diary, **how: Any) -> AsyncIterator[ASGIApp]:
    """Serve the channel on a store. Waiting for a lease takes no time: the clock is moved instead."""
    clock = ManualClock()
    async with hosted(store, agent, clock=clock, sleep=clock.sleep) as context:
        yield app_of(InvocationsChannel(auth=AUTH, replay_wait=0.1, **how), context)


def fall_silent(store: FaultStore, *, applied: bool) -> None:
    """Let the commit of the next turn be the last that reaches the store, or the first that does not."""

    async def last(operation: Operation, apply: Apply) -> None:
        store.plan(away, times=None)
        if applied:
            await apply()
        raise Unknown(f"Planned: {operation.name}")

    store.plan(last, kind="put", name="head", nth=2)


async def invoke(app: ASGIApp, message: str, *, stream: bool = False, key: str | None = None) -> Reply:
    headers = {"authorization": "Bearer ops-key-0123456789"}
    if key is not None:
        headers["idempotency-key"] = key
    return await post_json(app, "/invocations", {"message": message, "session_id": "s", "stream": stream}, headers)


def check_unavailable(reply: Reply) -> None:
    """The body says what a caller may know, and nothing of what is inside."""
    assert reply.status == 503
    assert reply.json == {
        "error": {
            "code": "state_unavailable",
            "message": "The conversation's store does not answer. Try again later.",
        }
    }


@pytest.mark.parametrize(
    ("applied", "kept"), [(True, ["one", "two", "three"]), (False, ["one", "three"])], ids=["applied", "not-applied"]
)
async def test_an_answer_that_stays_unknown_is_a_503_that_stops_retries(
    store: FaultStore, applied: bool, kept: list[str]
) -> None:
    agent = Diary()
    async with served(store, agent) as app:
        assert (await invoke(app, "one")).json["response"] == "1: one"
        fall_silent(store, applied=applied)
        reply = await invoke(app, "two")
        check_unavailable(reply)
        assert reply.headers["x-should-retry"] == "false"
        assert "retry-after" not in reply.headers
        store.clear()
        assert (await invoke(app, "three")).json["response"] == f"{len(kept)}: three"
    assert await read_diary(store, KEY) == kept
    assert agent.heard == ["one", "two", "three"], "nobody ran the turn again"


async def test_a_stream_whose_answer_stays_unknown_ends_with_an_error_and_no_result(store: FaultStore) -> None:
    async with served(store, Diary()) as app:
        await invoke(app, "one")
        fall_silent(store, applied=False)
        reply = await invoke(app, "two", stream=True)
        assert reply.status == 200, "words had been sent"
        assert b"event: error" in reply.body and b"state_unavailable" in reply.body
        assert b"event: result" not in reply.body and b"Planned" not in reply.body
        store.clear()
        assert (await invoke(app, "three")).json["response"] == "2: three"
    assert await read_diary(store, KEY) == ["one", "three"]


async def test_a_repeat_of_what_stayed_unknown_is_the_same_turn(store: FaultStore) -> None:
    """A client that was told nothing asks with its key whether the turn counts: it is never in there twice."""
    agent = Diary()
    async with served(store, agent) as app:
        fall_silent(store, applied=True)
        check_unavailable(await invoke(app, "one", key="k1"))
        store.clear()
        again = await invoke(app, "one", key="k1")
        # It is saved, but its answer was never kept.
        assert (again.status, again.json["error"]["code"]) == (409, "turn_repeated")
        assert again.headers["x-should-retry"] == "false"
    assert agent.heard == await read_diary(store, KEY) == ["one"]


async def test_a_client_that_leaves_while_its_turn_is_saved_finds_the_answer_later(store: FaultStore) -> None:
    agent, gate = Diary(), Gate()
    body = msgspec.json.encode({"message": "one", "session_id": "s", "stream": True})
    headers = {"authorization": "Bearer ops-key-0123456789", "content-type": "application/json"}
    async with served(store, agent) as app:
        store.plan(gate.before, kind="put", name="head", nth=2)
        headers["idempotency-key"] = "k1"
        async with Connection(app, path="/invocations", headers=headers) as connection:
            connection.send(body)
            await gate.reached()
            connection.disconnect()
            await connection.until(lambda: connection.received == 2)
            gate.open()
            await connection.end()
            assert b"event: result" not in connection.body
        again = await invoke(app, "one", key="k1")
        assert (again.status, again.json["response"]) == (200, "1: one")
        assert again.headers["idempotent-replayed"] == "true"
    assert agent.heard == await read_diary(store, KEY) == ["one"]


@STREAM
@pytest.mark.parametrize("saving", [False, True], ids=["concluding", "saving"])
async def test_a_request_that_is_cancelled_while_its_hook_runs_is_answered_later(
    store: FaultStore, stream: bool, saving: bool
) -> None:
    """The server goes down, and cancels again and again: the hook of a saved turn is called once, and its work kept."""
    agent, calls = Diary(), list[str]()
    running, go_on = asyncio.Event(), asyncio.Event()

    async def hook(result: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
        calls.append("in")
        running.set()
        await go_on.wait()
        calls.append("out")
        return result

    body = {"message": "one", "session_id": "s", "stream": stream}
    headers = {"authorization": "Bearer ops-key-0123456789", "idempotency-key": "k1"}
    gate = Gate()
    async with served(store, agent, response_hook=hook) as app:
        if saving:
            store.plan(gate.before, kind="put", name="head", nth=2)
        request = asyncio.create_task(post_json(app, "/invocations", body, headers))
        if saving:
            await gate.reached()
            request.cancel()
            await asyncio.sleep(0)
            gate.open()
        await running.wait()
        for _ in range(3):
            request.cancel()
            await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await request
        again = await invoke(app, "one", key="k1")
        async with asyncio.timeout(10):
            while again.status == 409:  # Kept a moment after the request has ended.
                again = await invoke(app, "one", key="k1")
        assert (again.json["response"], again.headers["idempotent-replayed"]) == ("1: one", "true")
    assert agent.heard == await read_diary(store, KEY) == ["one"]
    assert calls == ["in", "out"]


@STREAM
async def test_a_store_that_is_away_before_the_turn_asks_to_come_again(store: FaultStore, stream: bool) -> None:
    agent = Diary()
    async with served(store, agent) as app:
        store.plan(away, times=None)
        reply = await invoke(app, "one", stream=stream)
        check_unavailable(reply)
        assert int(reply.headers["retry-after"]) > 0
        assert "x-should-retry" not in reply.headers
        assert agent.heard == []
        store.clear()
        assert (await invoke(app, "one")).json["response"] == "1: one"


@STREAM
async def test_a_conversation_that_stays_busy_asks_to_come_again(store: FaultStore, stream: bool) -> None:
    """Its holder, on another instance, has a lease that outlasts the time anybody waits."""
    long = HostLimits(lease=timedelta(seconds=60), turn_timeout=timedelta(seconds=70))
    elsewhere = StoredConversations(store, long)
    agent = Diary()
    async with served(store, agent) as app:
        turn = await elsewhere.begin(KEY)
        reply = await invoke(app, "one", stream=stream)
        assert (reply.status, reply.json["error"]["code"]) == (409, "turn_busy")
        assert int(reply.headers["retry-after"]) > 0
        assert "x-should-retry" not in reply.headers
        assert agent.heard == []
        await turn.end()
        assert (await invoke(app, "two")).json["response"] == "1: two"
    await elsewhere.close()
