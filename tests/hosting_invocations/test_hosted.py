"""The channel on the real host."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler
from starlette.applications import Starlette

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelContext,
    ChannelContribution,
    ChannelRequest,
    ChannelSession,
    HostedRunResult,
    HostLimits,
)
from agent_framework_hosting.state.store import StateStore
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.asgi import Connection, Reply, post_json
from tests.support.echo import EchoAgent
from tests.support.sse import Event, parse_events

PATH = "/invocations"
AUTH = {"ops": "ops-key-0123456789", "web": "web-key-0123456789"}
JSON = {"content-type": "application/json"}


@asynccontextmanager
async def started(target: Any, *, state_dir: Path | None = None, **how: Any) -> AsyncIterator[Starlette]:
    app = AgentFrameworkHost(target, channels=[InvocationsChannel(**how)], state_dir=state_dir).app
    async with app.router.lifespan_context(app):
        yield app


async def invoke(app: Starlette, caller: str | None = None, key: str | None = None, **body: Any) -> Reply:
    headers = {} if caller is None else {"authorization": f"Bearer {caller}-key-0123456789"}
    if key is not None:
        headers["idempotency-key"] = key
    return await post_json(app, PATH, body, headers)


@pytest.fixture(params=["memory", "directory"])
def state_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "directory" else None


async def test_callers_that_share_a_conversation_do_not_share_their_keys(state_dir: Path | None) -> None:
    def shared(request: ChannelRequest, **_: Any) -> ChannelRequest:
        return replace(request, session=ChannelSession("shared"))

    async with started(EchoAgent(), state_dir=state_dir, auth=AUTH, run_hook=shared) as app:
        assert (await invoke(app, "ops", "k1", message="one", session_id="s")).json["response"] == "1: one"
        assert (await invoke(app, "web", "k1", message="two", session_id="s")).json["response"] == "2: two"
        assert (await invoke(app, "ops", "k1", message="three", session_id="t")).json["response"] == "3: three"
        again = await invoke(app, "ops", "k1", message="one", session_id="s")
        assert (again.json["response"], again.headers["idempotent-replayed"]) == ("1: one", "true")


async def test_a_key_that_a_hook_puts_in_place_is_not_taken_for_a_fresh_one(tmp_path: Path) -> None:
    """Two new conversations led into one at once: neither may run without the lease."""

    def shared(request: ChannelRequest, **_: Any) -> ChannelRequest:
        assert request.session is not None
        request.session.isolation_key = "shared"
        return request

    async with started(EchoAgent(), state_dir=tmp_path, auth=AUTH, run_hook=shared) as app:
        replies = [await invoke(app, "ops", message="hello") for _ in range(2)]
        assert [reply.json["response"] for reply in replies] == ["1: hello", "2: hello"]


async def test_the_channel_answers_at_its_path_and_sends_nobody_elsewhere() -> None:
    async with started(EchoAgent(), allow_anonymous=True) as app:
        reply = await post_json(app, f"{PATH}/", {"message": "x"}, {"host": "evil.example"})
        assert (reply.status, "location" in reply.headers) == (404, False)


async def test_a_conversation_goes_on_under_the_id_it_was_given(state_dir: Path | None) -> None:
    async with started(EchoAgent(), state_dir=state_dir) as app:
        first = await invoke(app, message="hello")
        assert first.json["response"] == "1: hello"
        onward = await invoke(app, message="again", session_id=first.json["session_id"])
        assert onward.json == {"response": "2: again", "session_id": first.json["session_id"]}
        assert (await invoke(app, message="new")).json["response"] == "1: new"


async def test_a_conversation_goes_on_in_another_process(tmp_path: Path) -> None:
    async with started(EchoAgent(), state_dir=tmp_path) as app:
        session_id = (await invoke(app, message="hello")).json["session_id"]
    async with started(EchoAgent(), state_dir=tmp_path) as app:
        assert (await invoke(app, message="again", session_id=session_id)).json["response"] == "2: again"


async def test_callers_do_not_meet_under_one_session_id(state_dir: Path | None) -> None:
    async with started(EchoAgent(), state_dir=state_dir, auth=AUTH, allow_anonymous=True) as app:
        for caller in ("ops", "web", None):
            assert (await invoke(app, caller, message="hi", session_id="s")).json["response"] == "1: hi"
        assert (await invoke(app, "ops", message="hi", session_id="s")).json["response"] == "2: hi"


async def test_a_stream_is_a_turn_like_any_other(state_dir: Path | None) -> None:
    async with started(EchoAgent(), state_dir=state_dir) as app:
        reply = await invoke(app, message="hello there", stream=True)
        *chunks, result, done = parse_events(reply.body)
        assert [chunk.data for chunk in chunks] == ["1:", " hello", " there"]
        assert (result.type, done) == ("result", Event("[DONE]"))
        answer = msgspec.json.decode(result.data)
        assert answer["response"] == "1: hello there"
        onward = await invoke(app, message="again", session_id=answer["session_id"])
        assert onward.json["response"] == "2: again"


async def test_a_client_that_goes_away_leaves_no_trace(state_dir: Path | None) -> None:
    agent = EchoAgent()
    async with started(agent, state_dir=state_dir, allow_anonymous=True) as app:
        await invoke(app, message="hello", session_id="s")
        async with Connection(app, path=PATH, headers=JSON) as connection:
            connection.send(msgspec.json.encode({"message": "wait", "session_id": "s", "stream": True}))
            await connection.until_body(b"2:")
            await agent.waiting.wait()
            connection.disconnect()
            await connection.end()
        assert agent.cancelled
        assert (await invoke(app, message="again", session_id="s")).json["response"] == "2: again"


async def test_a_repeat_is_the_same_turn(state_dir: Path | None) -> None:
    agent = EchoAgent()
    async with started(agent, state_dir=state_dir, auth=AUTH) as app:
        first = await invoke(app, "ops", "k1", message="hello")
        again = await invoke(app, "ops", "k1", message="hello")
        streamed = await invoke(app, "ops", "k1", message="hello", stream=True)
        assert (first.status, again.body, agent.runs) == (200, first.body, 1)
        assert again.headers["idempotent-replayed"] == streamed.headers["idempotent-replayed"] == "true"
        assert msgspec.json.decode(parse_events(streamed.body)[-2].data) == first.json
        onward = await invoke(app, "ops", "k2", message="hello", session_id=first.json["session_id"])
        assert onward.json["response"] == "2: hello"


async def test_repeats_at_the_same_time_are_one_turn(state_dir: Path | None) -> None:
    agent = EchoAgent()
    async with started(agent, state_dir=state_dir, auth=AUTH) as app:
        replies = await asyncio.gather(*[invoke(app, "ops", "k1", message="hello") for _ in range(5)])
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) == agent.runs == 1


async def test_a_failing_agent_tells_nothing_and_leaves_no_trace(
    state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(EchoAgent(), state_dir=state_dir, allow_anonymous=True) as app:
        for stream in (False, True):
            with caplog.at_level(logging.ERROR, "agent_framework.hosting"):
                reply = await invoke(app, message="fail", session_id="s", stream=stream)
            assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
            assert b"secret" not in reply.body
        assert "the agent's own secret" in caplog.text
        assert (await invoke(app, message="hi", session_id="s")).json["response"] == "1: hi"


async def test_hooks_change_what_goes_in_and_comes_out() -> None:
    def run_hook(request: ChannelRequest, *, target: Any, protocol_request: Any) -> ChannelRequest:
        assert protocol_request == {"message": "hello"}
        request.input = "changed"
        return request

    def response_hook(hosted: HostedRunResult[Any], **context: Any) -> HostedRunResult[Any]:
        return hosted.replace(result=hosted.result.text.upper())

    async with started(EchoAgent(), run_hook=run_hook, response_hook=response_hook) as app:
        reply = await invoke(app, message="hello")
        assert reply.json["response"] == "1: CHANGED"
        assert reply.json["session_id"].startswith("ses_")


class Total(Executor):
    @handler
    async def add(self, numbers: dict[str, list[int]], context: WorkflowContext[Any, dict[str, int]]) -> None:
        await context.yield_output({"total": sum(numbers["numbers"])})


def workflow() -> Workflow:
    return WorkflowBuilder(name="total", start_executor=Total("total")).build()


@pytest.mark.parametrize("target", [workflow, workflow()], ids=["factory", "workflow"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_workflow_takes_and_gives_json(target: Any, stream: bool) -> None:
    async with started(target) as app:
        reply = await invoke(app, message={"numbers": [1, 2]}, stream=stream)
        body = msgspec.json.decode(parse_events(reply.body)[-2].data) if stream else reply.json
        assert body["response"] == {"total": 3}


async def test_answers_to_what_is_not_pending_are_refused(state_dir: Path | None) -> None:
    async with started(EchoAgent(), state_dir=state_dir, allow_anonymous=True) as app:
        reply = await invoke(app, responses={"p1": True}, session_id="s")
        assert (reply.status, reply.json["error"]["field"]) == (422, "responses.p1")


class Watched(InvocationsChannel):
    """Shows the documents that it keeps."""

    documents: StateStore

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.documents = context.documents
        return super().contribute(context)


@pytest.mark.parametrize("session", [None, "s"], ids=["a-conversation-each", "one-conversation"])
async def test_in_memory_the_answers_of_many_keys_do_not_pile_up(session: str | None) -> None:
    channel = Watched(auth=AUTH)
    app = AgentFrameworkHost(EchoAgent(), channels=[channel], limits=HostLimits(memory_sessions=20)).app
    chosen = {} if session is None else {"session_id": session}
    async with app.router.lifespan_context(app):
        replies = [await invoke(app, "ops", f"k{number}", message="hello", **chosen) for number in range(100)]
        assert {reply.status for reply in replies} == {200}
        assert len(await channel.documents.list("", limit=1000)) == 20
        again = await invoke(app, "ops", "k99", message="hello", **chosen)
        assert (again.headers["idempotent-replayed"], again.body) == ("true", replies[-1].body)
