"""What the operator's hooks see and change, in what is answered, streamed and kept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentResponse, AgentResponseUpdate, Content, Message
from starlette.applications import Starlette
from starlette.exceptions import HTTPException

from agent_framework_hosting import AgentFrameworkHost, ChannelRequest, HostedRunResult, InvalidRequest
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.asgi import Reply, call, post_json
from tests.support.open_responses import check_response, check_stream
from tests.support.response_streams import accumulated, decoded
from tests.support.responses_server import AUTH, OPS, check_error, running
from tests.support.targets import ScriptedAgent

AS_OPS = {"authorization": f"Bearer {OPS}"}
STREAM = pytest.mark.parametrize("stream", [False, True])
WHERE = pytest.mark.parametrize("where", ["alone", "previous", "conversation"])


@asynccontextmanager
async def serving(agent: Any, state_dir: Path | None = None, **how: Any) -> AsyncIterator[Starlette]:
    channel = ResponsesChannel(auth=AUTH, **how)
    async with running(AgentFrameworkHost(agent, channels=[channel], state_dir=state_dir).app) as app:
        yield app


async def post(app: Starlette, text: str = "hi", **how: Any) -> Reply:
    return await post_json(app, "/responses", {"input": text, **how}, AS_OPS)


async def ask(app: Starlette, path: str) -> Any:
    reply = await call(app, "GET", path, headers=AS_OPS)
    assert reply.status == 200, reply.body
    return reply.json


async def place(app: Starlette, where: str) -> dict[str, str]:
    if where == "previous":
        return {"previous_response_id": (await post(app)).json["id"]}
    if where == "conversation":
        return {"conversation": (await post_json(app, "/conversations", {}, AS_OPS)).json["id"]}
    return {}


def response_of(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    if reply.headers["content-type"] != "text/event-stream":
        check_response(reply.json)
        return reply.json
    return decoded(reply.body)[-1]["response"]


def texts(response: Any) -> list[str]:
    return [part["text"] for item in response["output"] if item["type"] == "message" for part in item["content"]]


@STREAM
async def test_the_run_hook_gets_the_decoded_body_and_decides_what_is_run(stream: bool) -> None:
    seen: list[Any] = []

    async def hook(request: ChannelRequest, *, target: Any, protocol_request: Any) -> ChannelRequest:
        seen.append((request, target, protocol_request))
        return replace(request, input="something else")

    agent = ScriptedAgent()
    body = {"input": "hi", "metadata": {"a": "b"}, "model": "m", "stream": stream}
    async with serving(agent, run_hook=hook) as app:
        made = response_of(await post_json(app, "/responses", body, AS_OPS))
        assert texts(await ask(app, f"/responses/{made['id']}")) == texts(made) == ["1: something else"]
        items = (await ask(app, f"/responses/{made['id']}/input_items"))["data"]
        assert [item["content"][0]["text"] for item in items] == ["hi"]
    ((request, target, protocol_request),) = seen
    assert (target, protocol_request) == (agent, body)
    assert (request.channel, request.operation, request.stream) == ("responses", "responses.create", stream)
    assert request.attributes["response_id"] == made["id"]
    assert (request.identity.channel, request.identity.native_id) == ("responses", "ops")


@STREAM
@pytest.mark.parametrize(
    ("error", "status", "param"),
    [
        (InvalidRequest("input", "Say something else."), 400, "input"),
        (HTTPException(402, "Pay first."), 402, None),
        (ValueError("secret"), 500, None),
    ],
)
async def test_the_run_hook_refuses(error: Exception, status: int, param: str | None, stream: bool) -> None:
    def hook(request: ChannelRequest, **_: Any) -> ChannelRequest:
        raise error

    agent = ScriptedAgent()
    async with serving(agent, run_hook=hook) as app:
        reply = await post(app, stream=stream)
    assert (reply.status, reply.json["error"]["param"]) == (status, param)
    check_error(status, reply.json)
    assert b"secret" not in reply.body
    assert not agent.heard


def shouted(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
    hosted.result = AgentResponse(messages=[Message("assistant", [hosted.result.text.upper()], message_id="m")])
    return hosted


def more(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
    messages = [Message("assistant", [text], message_id=text) for text in (hosted.result.text, "and more")]
    return HostedRunResult(AgentResponse(messages=messages), session=hosted.session, saved=False)


def nothing(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
    return HostedRunResult(AgentResponse(messages=[]))


@STREAM
@WHERE
@pytest.mark.parametrize(("hook", "expected"), [(shouted, ["HI"]), (more, ["hi", "and more"]), (nothing, [])])
async def test_what_the_response_hook_gives_is_answered_and_kept(
    state_dir: Path | None, hook: Any, expected: list[str], where: str, stream: bool
) -> None:
    agent = ScriptedAgent(lambda messages, session: messages[-1].text)
    async with serving(agent, state_dir, response_hook=hook) as app:
        on = await place(app, where)
        made = response_of(await post(app, stream=stream, **on))
        assert texts(made) == expected
        assert await ask(app, f"/responses/{made['id']}") == made
        assert made["status"] == "completed"
        ids = [item["id"] for item in made["output"]]
        assert len({*ids}) == len(ids)
        # It can be continued from.
        again = response_of(await post(app, "you", previous_response_id=made["id"]))
        assert again["previous_response_id"] == made["id"]


@WHERE
async def test_streamed_ids_are_the_ones_that_are_kept(state_dir: Path | None, where: str) -> None:
    agent = ScriptedAgent(lambda messages, session: ["a", "b"])
    async with serving(agent, state_dir) as app:
        events = decoded((await post(app, stream=True, **(await place(app, where)))).body)
        check_stream(events)
        kept = await ask(app, f"/responses/{events[0]['response']['id']}")
    assert kept == events[-1]["response"]
    assert [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"] == [
        item["id"] for item in kept["output"]
    ]
    assert accumulated(events).output_text == "ab"


async def test_hooked_streams_keep_the_ids_they_began_with(state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir, response_hook=shouted) as app:
        events = decoded((await post(app, stream=True)).body)
        kept = await ask(app, f"/responses/{events[0]['response']['id']}")
    added = [event["item"]["id"] for event in events if event["type"] == "response.output_item.added"]
    assert [item["id"] for item in kept["output"]] == added
    assert "".join(event["delta"] for event in events if event["type"].endswith("text.delta")) == "1: hi"
    assert texts(events[-1]["response"]) == texts(kept) == ["1: HI"]


def masked(update: AgentResponseUpdate) -> AgentResponseUpdate | None:
    if update.text == "drop":
        return None
    return AgentResponseUpdate(
        contents=[Content.from_text(update.text.replace("secret", "***"))], role="assistant", message_id="m"
    )


async def test_the_update_hook_changes_what_is_streamed(state_dir: Path | None) -> None:
    agent = ScriptedAgent(lambda messages, session: ["a ", "drop", "secret"])
    async with serving(agent, state_dir, stream_update_hook=masked) as app:
        events = decoded((await post(app, stream=True)).body)
        assert "".join(event["delta"] for event in events if event["type"].endswith("text.delta")) == "a ***"
        ending = events[-1]
        assert ending["type"] == "response.completed"
        assert await ask(app, f"/responses/{ending['response']['id']}") == ending["response"]
        # The result is the response hook's to change.
        assert texts(ending["response"]) == ["a dropsecret"]


@STREAM
@WHERE
async def test_a_response_hook_that_fails(state_dir: Path | None, where: str, stream: bool) -> None:
    failing = False

    def hook(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
        if failing:
            raise ValueError("the hook's own secret")
        return hosted

    agent = ScriptedAgent()
    async with serving(agent, state_dir, response_hook=hook) as app:
        on = await place(app, where)
        runs, failing = len(agent.heard), True
        reply = await post(app, stream=stream, **on)
        assert b"secret" not in reply.body
        if stream:
            events = decoded(reply.body)
            assert events[-1]["type"] == "response.failed"
            made = events[0]["response"]["id"]
            assert (await call(app, "GET", f"/responses/{made}", headers=AS_OPS)).status == 404
        else:
            assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
        assert len(agent.heard) == runs + 1
