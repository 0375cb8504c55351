from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp

from agent_framework_hosting.channels import Channel
from agent_framework_hosting.errors import (
    ConfigurationError,
    InvalidRequest,
    SessionTooLarge,
    StateUnavailable,
    TurnBusy,
    TurnConflict,
)
from agent_framework_hosting.limits import HostLimits
from agent_framework_hosting.requests import ChannelIdentity, ChannelRequest, HostedRunResult, PendingRequest
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.asgi import Connection, Reply, call, post_json
from tests.support.contexts import FakeContext, Respond, ScriptedStream, agent_result, app_of, update
from tests.support.echo import EchoAgent
from tests.support.sse import Event, parse_events

PATH = "/invocations"
OPS = {"authorization": "Bearer ops-key-0123456789"}
AUTH = {"ops": "ops-key-0123456789", "web": "web-key-0123456789"}
MINE = "ses_" + "m" * 32
JSON = {"content-type": "application/json"}


def channel(**how: Any) -> InvocationsChannel:
    return InvocationsChannel(**{"mint": lambda: MINE, **how})


def serve(context: FakeContext | None = None, **how: Any) -> ASGIApp:
    return app_of(channel(**how), context or FakeContext())


async def invoke(app: ASGIApp, headers: dict[str, str] | None = None, **body: Any) -> Reply:
    return await post_json(app, PATH, body, headers)


def failing(error: Exception) -> Respond:
    async def respond(request: ChannelRequest) -> HostedRunResult[Any]:
        raise error

    return respond


def test_it_is_a_channel_and_says_whether_it_is_open() -> None:
    context: Any = FakeContext()
    assert isinstance(channel(), Channel)
    assert (channel().name, channel().path) == ("invocations", "/invocations")
    assert not channel().contribute(context).authenticated
    assert channel(auth=AUTH).contribute(context).authenticated
    assert channel(allow_anonymous=True).contribute(context).authenticated
    with pytest.raises(ConfigurationError):
        channel(auth={"ops": "short"})


async def test_a_message_is_answered() -> None:
    context = FakeContext()
    reply = await invoke(serve(context, auth=AUTH), OPS, message="hi", session_id="a:b")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {"response": "you said hi", "session_id": "a:b"}
    request = context.requests[0]
    assert (request.channel, request.operation, request.input) == ("invocations", "invoke", "hi")
    assert (request.stream, request.responses, request.attributes) == (False, None, {"session_id": "a:b"})
    assert request.session is not None
    assert (request.session.isolation_key, request.session.fresh) == ("invocations:ops:a%3Ab", False)
    assert request.identity is not None
    assert (request.identity.channel, request.identity.native_id) == ("invocations", "ops")


async def test_responses_and_hooks_reach_the_host() -> None:
    hooks = {name: object() for name in ("run_hook", "response_hook")}
    context = FakeContext()
    await invoke(serve(context, **hooks), responses={"p1": {"approved": True}}, session_id=MINE)
    assert (context.requests[0].input, context.requests[0].responses) == (None, {"p1": {"approved": True}})
    assert context.extras[0] == {
        **hooks,
        "protocol_request": {"responses": {"p1": {"approved": True}}, "session_id": MINE},
        "channel_name": "invocations",
        "on_saved": None,
    }


async def test_what_is_pending_is_listed() -> None:
    async def respond(request: ChannelRequest) -> HostedRunResult[Any]:
        return agent_result("", pending=[PendingRequest("p1", "tool_approval", {"name": "refund"}, None)])

    reply = await invoke(serve(FakeContext(respond)), message="refund me")
    assert reply.json == {
        "response": "",
        "session_id": MINE,
        "pending": [{"id": "p1", "kind": "tool_approval", "data": {"name": "refund"}, "response_schema": None}],
    }


async def test_a_new_conversation_gets_an_id_as_soon_as_there_is_something_to_continue() -> None:
    saved = True

    async def respond(request: ChannelRequest) -> HostedRunResult[Any]:
        return agent_result("hi", saved=saved)

    context = FakeContext(respond)
    app = serve(context)
    assert (await invoke(app, message="hi")).json["session_id"] == MINE
    assert context.requests[0].session is not None
    assert context.requests[0].session.fresh
    assert context.requests[0].identity is None
    saved = False
    assert (await invoke(app, message="hi")).json["session_id"] is None
    assert (await invoke(app, message="hi", session_id=MINE)).json["session_id"] == MINE


async def test_minted_ids_differ() -> None:
    app = app_of(InvocationsChannel(), FakeContext())
    ids = {(await invoke(app, message="hi")).json["session_id"] for _ in range(20)}
    assert len(ids) == 20


async def test_an_anonymous_caller_may_choose_an_id_only_where_that_was_asked_for() -> None:
    reply = await invoke(serve(), message="hi", session_id="guessable")
    assert (reply.status, reply.json["error"]["field"]) == (422, "session_id")
    assert (await invoke(serve(allow_anonymous=True), message="hi", session_id="guessable")).status == 200


async def test_callers_are_checked_before_the_body_is_read() -> None:
    context = FakeContext()
    async with Connection(serve(context, auth=AUTH), path=PATH, headers=JSON) as connection:
        reply = await connection.end()
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert connection.received == 0
    assert reply.json["error"]["code"] == "unauthenticated"
    assert not context.requests


async def test_anonymous_beside_known_callers() -> None:
    context = FakeContext()
    app = serve(context, auth=AUTH, allow_anonymous=True)
    assert (await invoke(app, message="hi", session_id="s")).status == 200
    assert (await invoke(app, OPS, message="hi", session_id="s")).status == 200
    assert (await invoke(app, {"authorization": "Bearer wrong"}, message="hi")).status == 401
    keys = [request.session.isolation_key for request in context.requests if request.session is not None]
    assert keys == ["invocations::s", "invocations:ops:s"]


async def test_the_platform_s_own_identity_is_passed_on() -> None:
    context = FakeContext()
    ada = ChannelIdentity("easy-auth", "ada", {"tenant": "t"})
    await invoke(serve(context, auth=lambda request: ada), message="hi")
    assert context.requests[0].identity is ada


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", JSON, 400, "invalid_body"),
        (b"", JSON, 400, "invalid_body"),
        (b"[" * 100_000, JSON, 400, "invalid_body"),
        (b'{"message": "\xff"}', JSON, 400, "invalid_body"),
        (b'{"message": "hi"}', {}, 415, "unsupported_media_type"),
        (b'{"message": "hi"}', {"content-type": "text/plain"}, 415, "unsupported_media_type"),
        (b'{"message": "' + b"x" * 1000 + b'"}', JSON, 413, "body_too_large"),
        (b"7", JSON, 422, "invalid_request"),
        (b'{"message": "hi", "mesage": "hi"}', JSON, 422, "invalid_request"),
    ],
)
async def test_bad_bodies(body: bytes, headers: dict[str, str], status: int, code: str) -> None:
    context = FakeContext()
    context.limits = HostLimits(body_bytes=200_000 if body[:1] == b"[" else 500)
    reply = await call(serve(context), path=PATH, body=body, headers=headers)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)
    assert not context.requests


async def test_other_methods_are_not_allowed() -> None:
    assert (await call(serve(), "GET", PATH)).status == 405


async def test_an_agent_takes_text_and_a_workflow_any_json() -> None:
    agent = FakeContext(target=EchoAgent())
    for message in ("", {"a": 1}, 7, ["hi"]):
        reply = await invoke(serve(agent), message=message)
        assert (reply.status, reply.json["error"]["field"]) == (422, "message")
    workflow = FakeContext(target=object())
    assert (await invoke(serve(workflow), message={"a": 1})).status == 200
    assert workflow.requests[0].input == {"a": 1}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (InvalidRequest("options", "no"), 422, {}),
        (TurnBusy("busy", retry_after=2), 409, {"retry-after": "2"}),
        (TurnConflict("lost"), 409, {}),
        (SessionTooLarge("long"), 413, {}),
        (StateUnavailable("away"), 503, {"retry-after": "5"}),
        (ValueError("secret"), 500, {"x-should-retry": "false"}),
    ],
)
async def test_failures_before_the_first_byte(
    error: Exception, status: int, headers: dict[str, str], stream: bool
) -> None:
    context = FakeContext(failing(error))
    context.stream = error
    reply = await invoke(serve(context), message="hi", stream=stream)
    assert reply.status == status
    assert headers.items() <= reply.headers.items()
    assert b"secret" not in reply.body


async def test_a_stream_ends_with_what_the_one_shot_answer_would_be() -> None:
    context = FakeContext()
    pending = [PendingRequest("p1", "tool_approval", {"name": "refund"}, None)]
    context.stream = ScriptedStream(
        [update("a\r\nb"), update(""), update("\n"), update("c")], agent_result("a\r\nb\nc", pending=pending)
    )
    hook = object()
    reply = await invoke(serve(context, stream_update_hook=hook), message="hi", stream=True)
    *chunks, result, done = parse_events(reply.body)
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")
    assert chunks == [Event("a\nb"), Event("\n"), Event("c")]
    assert (result.type, done) == ("result", Event("[DONE]"))
    assert msgspec.json.decode(result.data) == {
        "response": "a\r\nb\nc",
        "session_id": MINE,
        "pending": [{"id": "p1", "kind": "tool_approval", "data": {"name": "refund"}, "response_schema": None}],
    }
    assert context.requests[0].stream
    assert context.extras[0]["stream_update_hook"] is hook
    assert context.stream.closed == 1


@pytest.mark.parametrize("where", ["run", "save"])
async def test_a_failure_in_the_middle_of_a_stream_is_its_last_event(where: str) -> None:
    context = FakeContext()
    error = ValueError("secret")
    context.stream = (
        ScriptedStream([update("a"), error], agent_result(""))
        if where == "run"
        else ScriptedStream([update("a")], error)
    )
    reply = await invoke(serve(context), message="hi", stream=True)
    first, last = parse_events(reply.body)
    assert (reply.status, first, last.type) == (200, Event("a"), "error")
    assert msgspec.json.decode(last.data)["error"]["code"] == "target_failed"
    assert b"secret" not in reply.body
    assert context.stream.closed == 1


async def test_a_failing_first_update_is_an_ordinary_error() -> None:
    context = FakeContext()
    context.stream = ScriptedStream([ValueError("x")], agent_result(""))
    reply = await invoke(serve(context), message="hi", stream=True)
    assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
    assert context.stream.closed == 1


async def test_a_client_that_goes_away_ends_the_run() -> None:
    context = FakeContext()
    context.stream = ScriptedStream([update("a"), asyncio.Event()], agent_result(""))
    body = msgspec.json.encode({"message": "hi", "stream": True})
    async with Connection(serve(context), path=PATH, headers=JSON) as connection:
        connection.send(body)
        await connection.until_body(b"data: a")
        await context.stream.waiting.wait()
        connection.disconnect()
        await connection.end()
    assert context.stream.cancelled
    assert context.stream.closed == 1


async def test_a_silent_stream_is_kept_alive() -> None:
    context = FakeContext()
    gate = asyncio.Event()
    context.stream = ScriptedStream([gate, update("a")], agent_result("a"))
    async with Connection(serve(context, keep_alive=0.005), path=PATH, headers=JSON) as connection:
        connection.send(msgspec.json.encode({"message": "hi", "stream": True}))
        await connection.until_body(b": keep-alive")
        gate.set()
        reply = await connection.end()
    assert [event.type for event in parse_events(reply.body)] == ["message", "result", "message"]


async def test_an_output_that_cannot_be_told_is_a_failure_of_the_target(caplog: pytest.LogCaptureFixture) -> None:
    async def respond(request: ChannelRequest) -> HostedRunResult[Any]:
        return HostedRunResult(object(), saved=True)

    with caplog.at_level(logging.ERROR, "agent_framework.hosting"):
        reply = await invoke(serve(FakeContext(respond)), message="hi")
    assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
    assert "no JSON form" in caplog.text
