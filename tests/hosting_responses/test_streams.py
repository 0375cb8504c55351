"""Streams of the channel on a host: how they fail, what is kept of them, and what a repeat gets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import AgentSession, Message
from starlette.applications import Starlette

from agent_framework_hosting import AgentFrameworkHost, ChannelRequest, HostLimits
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.settle import ATTEMPTS
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.asgi import Connection, Reply, call, post_json
from tests.support.echo import EchoAgent
from tests.support.open_responses import check_response, check_stream
from tests.support.response_streams import decoded
from tests.support.responses_server import AUTH, OPS, WEB, running, store_app
from tests.support.stores import FaultStore, away
from tests.support.targets import ScriptedAgent, count

AS_OPS = {"authorization": f"Bearer {OPS}"}
AS_WEB = {"authorization": f"Bearer {WEB}"}
JSON = {"content-type": "application/json"}
BRIEF = HostLimits(lease=timedelta(seconds=1.5), turn_timeout=timedelta(seconds=4.5))
NEVER = "resp_" + "0" * 48


@asynccontextmanager
async def serving(agent: Any, state_dir: Path | None = None, **how: Any) -> AsyncIterator[Starlette]:
    channel = ResponsesChannel(**{"auth": AUTH, **how})
    async with running(AgentFrameworkHost(agent, channels=[channel], state_dir=state_dir).app) as app:
        yield app


async def post(app: Starlette, text: str = "hi", headers: dict[str, str] = AS_OPS, **how: Any) -> Reply:
    return await post_json(app, "/responses", {"input": text, **how}, headers)


async def show(app: Starlette, id: str, headers: dict[str, str] = AS_OPS) -> Reply:
    return await call(app, "GET", f"/responses/{id}", headers=headers)


def events_of(reply: Reply) -> list[Any]:
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    events = decoded(reply.body)
    check_stream(events)
    return events


def output(response: Any) -> str:
    return response["output"][0]["content"][0]["text"]


def fail(request: ChannelRequest, **_: Any) -> ChannelRequest:
    raise ValueError("the hook's own secret")


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_stored_is_what_was_answered_also_half_a_character(state_dir: Path | None, stream: bool) -> None:
    async def act(messages: list[Message], session: AgentSession | None) -> list[str]:
        return ["half \ud83d", " of a pair"]

    async with serving(ScriptedAgent(act), state_dir) as app:
        reply = await post(app, stream=stream)
        answered = events_of(reply)[-1]["response"] if stream else msgspec.json.decode(reply.body)
        assert answered["status"] == "completed"
        text = "".join(part["text"] for part in answered["output"][0]["content"])
        assert text == "half \ufffd of a pair"
        assert msgspec.json.decode((await show(app, answered["id"])).body) == answered


@pytest.mark.parametrize(
    ("how", "body", "status", "code"),
    [
        ({}, {"previous_response_id": NEVER}, 400, "previous_response_not_found"),
        ({}, {"conversation": "conv_" + "0" * 48}, 404, "not_found"),
        ({}, {"temperature": 1}, 400, "invalid_request"),
        ({"run_hook": fail}, {}, 500, "target_failed"),
    ],
)
async def test_a_failure_before_the_first_byte_is_an_ordinary_error(
    how: dict[str, Any], body: dict[str, Any], status: int, code: str
) -> None:
    agent = EchoAgent()
    async with serving(agent, **how) as app:
        reply = await post(app, stream=True, **body)
    assert (reply.status, reply.headers["content-type"]) == (status, "application/json")
    assert reply.json["error"]["code"] == code
    assert b"secret" not in reply.body
    assert not agent.runs


async def after_some(messages: list[Message], session: AgentSession | None) -> Any:
    if messages[-1].text != "fail":
        return count(messages, session)

    def words() -> Any:
        yield "some "
        raise ValueError("the agent's own secret")

    return words()


async def test_a_failure_after_the_first_byte_ends_the_stream(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(after_some), state_dir) as app:
        first = (await post(app)).json
        events = events_of(await post(app, "fail", stream=True, previous_response_id=first["id"]))
        last = events[-1]
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["response"]["error"]["code"] == "server_error"
        assert output(last["response"]) == "some "
        assert last["response"]["output"][0]["status"] == "incomplete"
        assert "secret" not in str(events)
        assert (await show(app, last["response"]["id"])).status == 404
        assert output((await post(app, "you", previous_response_id=first["id"])).json) == "2: you"


@pytest.mark.parametrize("within", [False, True], ids=["previous_response_id", "conversation"])
async def test_a_client_that_goes_away_ends_the_run(state_dir: Path | None, within: bool) -> None:
    agent = EchoAgent()
    async with serving(agent, state_dir) as app:
        if within:
            on = {"conversation": (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]}
            await post(app, **on)
        else:
            on = {"previous_response_id": (await post(app)).json["id"]}
        async with Connection(app, path="/responses", headers={**JSON, **AS_OPS}) as connection:
            connection.send(msgspec.json.encode({"input": "wait", "stream": True, **on}))
            await connection.until_body(b"output_text.delta")
            await agent.waiting.wait()
            connection.disconnect()
            await connection.end()
        assert agent.cancelled
        assert b"response.completed" not in connection.body
        begun = msgspec.json.decode(connection.body.partition(b"data: ")[2].partition(b"\n")[0])
        assert (await show(app, begun["response"]["id"])).status == 404
        assert output((await post(app, "you", **on)).json) == "2: you"


@pytest.mark.parametrize("stream", [False, True])
async def test_what_is_deleted_during_a_turn_stays_deleted(state_dir: Path | None, stream: bool) -> None:
    agent = EchoAgent()
    async with serving(agent, state_dir) as app:
        conversation = (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]
        running_turn = asyncio.create_task(post(app, "wait", conversation=conversation, stream=stream))
        await agent.waiting.wait()
        path = f"/conversations/{conversation}"
        assert (await call(app, "DELETE", path, headers=AS_OPS)).status == 200
        agent.gate.set()
        reply = await running_turn
        if stream:
            assert events_of(reply)[-1]["type"] == "response.failed"
        else:
            assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
        assert (await call(app, "GET", path, headers=AS_OPS)).status == 404
        assert (await post(app, conversation=conversation)).status == 404


async def test_a_silent_stream_is_kept_alive() -> None:
    agent = EchoAgent()
    async with (
        serving(agent, keep_alive=0.005) as app,
        Connection(app, path="/responses", headers={**JSON, **AS_OPS}) as connection,
    ):
        connection.send(msgspec.json.encode({"input": "wait", "stream": True}))
        await connection.until_body(b": keep-alive")
        agent.gate.set()
        assert output(events_of(await connection.end())[-1]["response"]) == "1: wait"


@pytest.mark.parametrize("within", [False, True], ids=["by itself", "conversation"])
async def test_only_what_is_saved_is_completed(within: bool) -> None:
    agent, store = EchoAgent(), FaultStore(MemoryStore())
    async with running(store_app(agent, store, ResponsesChannel(auth=AUTH), BRIEF)) as app:
        on: dict[str, Any] = {}
        if within:
            on["conversation"] = (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]
        # In a conversation the lease is written before the run.
        store.plan(away, kind="put", nth=1 + within, times=ATTEMPTS)
        events = events_of(await post(app, stream=True, **on))
        assert [event["type"] for event in events[-2:]] == ["response.output_item.done", "response.failed"]
        failed = events[-1]["response"]
        assert (output(failed), failed["completed_at"]) == ("1: hi", None)
        assert failed["error"]["code"] == "server_error"
        assert (await show(app, failed["id"])).status == 404
        # The lease is left to age out: whether that write will still arrive nobody knows.
        assert output((await post(app, "you", **on)).json) == "1: you"


async def keyed(app: Starlette, key: str, headers: dict[str, str] = AS_OPS, **how: Any) -> Reply:
    return await post(app, headers={**headers, "idempotency-key": key}, **how)


@pytest.mark.parametrize("first", [False, True], ids=["first JSON", "first stream"])
@pytest.mark.parametrize("again", [False, True], ids=["then JSON", "then stream"])
@pytest.mark.parametrize("where", ["alone", "previous", "conversation"])
async def test_a_repeat_gets_the_same_response(state_dir: Path | None, first: bool, again: bool, where: str) -> None:
    agent = EchoAgent()
    async with serving(agent, state_dir) as app:
        on: dict[str, Any] = {}
        if where == "previous":
            on["previous_response_id"] = (await post(app)).json["id"]
        if where == "conversation":
            on["conversation"] = (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]
        runs = agent.runs
        made = response_of(await keyed(app, "k", stream=first, **on))
        repeat = await keyed(app, "k", stream=first, **on)
        assert response_of(repeat) == made
        assert agent.runs == runs + 1
        # Another way to be answered is another body.
        other = await keyed(app, "k", stream=again, **on)
        if first == again:
            assert response_of(other) == made
        else:
            assert (other.status, other.json["error"]["param"]) == (400, "Idempotency-Key")
        assert response_of(await keyed(app, "l", stream=again, **on))["id"] != made["id"]
        assert agent.runs == runs + 2
        assert (await show(app, made["id"])).json == made


def response_of(reply: Reply) -> Any:
    if reply.headers["content-type"] == "text/event-stream":
        return events_of(reply)[-1]["response"]
    assert reply.status == 200, reply.body
    check_response(reply.json)
    return reply.json


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_is_for_one_request_of_one_caller(state_dir: Path | None, stream: bool) -> None:
    agent = EchoAgent()
    async with serving(agent, state_dir) as app:
        made = response_of(await keyed(app, "k", text="hi", stream=stream))
        reply = await keyed(app, "k", text="you", stream=stream)
        assert (reply.status, reply.json["error"]["param"]) == (400, "Idempotency-Key")
        assert agent.runs == 1
        other = response_of(await keyed(app, "k", AS_WEB, text="hi", stream=stream))
        assert (other["id"] == made["id"], agent.runs) == (False, 2)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_of_nobody_needs_a_conversation(state_dir: Path | None, stream: bool) -> None:
    agent = EchoAgent()
    async with serving(agent, state_dir, allow_anonymous=True) as app:
        reply = await keyed(app, "k", {}, stream=stream)
        assert (reply.status, reply.json["error"]["param"]) == (400, "Idempotency-Key")
        assert not agent.runs
        first = (await post(app, headers={})).json["id"]
        made = [response_of(await keyed(app, "k", {}, stream=stream, previous_response_id=first)) for _ in range(2)]
        assert made[0] == made[1]
        assert agent.runs == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_a_key_without_anything_kept_is_refused(stream: bool) -> None:
    agent = EchoAgent()
    async with serving(agent) as app:
        reply = await keyed(app, "k", stream=stream, store=False)
    assert (reply.status, reply.json["error"]["param"]) == (400, "Idempotency-Key")
    assert not agent.runs


@pytest.mark.parametrize("stream", [False, True])
async def test_a_repeat_while_the_first_is_under_way_waits_for_it(state_dir: Path | None, stream: bool) -> None:
    agent = EchoAgent()
    async with serving(agent, state_dir) as app:
        first = asyncio.create_task(keyed(app, "k", text="wait", stream=stream))
        await agent.waiting.wait()
        second = asyncio.create_task(keyed(app, "k", text="wait", stream=stream))
        agent.gate.set()
        assert response_of(await first) == response_of(await second)
        assert agent.runs == 1
