"""Targets that end in ways which mean something else to a host, a server or a framework."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import AgentResponseUpdate, Executor, WorkflowBuilder, WorkflowContext, handler
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request

from agent_framework_hosting import AgentFrameworkHost, ChannelIdentity, ChannelRequest
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.asgi import Connection, Reply, post_json
from tests.support.ends import CAUSES, ENDS, SECRET, EndingAgent
from tests.support.sse import parse_events
from tests.support.targets import ScriptedAgent

PATH = "/invocations"
JSON = {"content-type": "application/json"}
LOGGER = "agent_framework.hosting"
streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@asynccontextmanager
async def started(target: Any, *, state_dir: Path | None = None, **how: Any) -> AsyncIterator[Starlette]:
    channel = InvocationsChannel(**{"allow_anonymous": True, **how})
    app = AgentFrameworkHost(target, channels=[channel], state_dir=state_dir).app
    async with app.router.lifespan_context(app):
        yield app


async def invoke(app: Starlette, message: str, *, stream: bool = False, **headers: str) -> Reply:
    return await post_json(app, PATH, {"message": message, "session_id": "s", "stream": stream}, headers)


@pytest.fixture(params=["memory", "directory"])
def state_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path if request.param == "directory" else None


def failure(reply: Reply, *, begun: bool) -> Any:
    """Give the error of a reply that failed; in a stream that has begun it is the last event."""
    if not begun:
        assert (reply.status, reply.headers["x-should-retry"]) == (500, "false")
        return reply.json["error"]
    last = parse_events(reply.body)[-1]
    assert (reply.status, last.type) == (200, "error")
    return msgspec.json.decode(last.data)["error"]


@streamed
@pytest.mark.parametrize("when", ["early", "late"])
@pytest.mark.parametrize("end", ENDS)
async def test_however_an_agent_ends_it_has_failed_and_left_no_trace(
    end: str, when: str, stream: bool, state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(EndingAgent(), state_dir=state_dir) as app:
        assert (await invoke(app, "x")).json["response"] == "1: x"
        with caplog.at_level(logging.ERROR, LOGGER):
            reply = await invoke(app, f"{end} {when}", stream=stream)
        assert failure(reply, begun=stream and when == "late")["code"] == "target_failed"
        assert SECRET.encode() not in reply.body + b"".join(b"".join(pair) for pair in reply.raw_headers)
        (record,) = caplog.records
        assert record.exc_info is not None and record.exc_info[1] is not None
        assert type(record.exc_info[1].__cause__).__name__ == CAUSES.get(end, end)
        assert (await invoke(app, "y")).json["response"] == "2: y"


class Ending(Executor):
    """Ends as its message says; counts what it did not end at."""

    def __init__(self) -> None:
        super().__init__(id="ending")
        self.heard = 0

    @handler
    async def hear(self, text: str, ctx: WorkflowContext[Any, str]) -> None:
        self.heard += 1
        if text in ENDS:
            await ENDS[text]()
        await ctx.yield_output(f"{self.heard}: {text}")

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": self.heard}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.heard = state["heard"]


# The framework runs executors in tasks of their own, and there asyncio hands SystemExit to whoever runs the loop.
@streamed
@pytest.mark.parametrize("end", [end for end in ENDS if end != "SystemExit"])
async def test_however_an_executor_ends_its_workflow_has_failed_and_left_no_trace(
    end: str, stream: bool, state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    workflow = WorkflowBuilder(name="ending", start_executor=Ending()).build()
    async with started(workflow, state_dir=state_dir) as app:
        assert (await invoke(app, "x")).json["response"] == "1: x"
        with caplog.at_level(logging.ERROR, LOGGER):
            reply = await invoke(app, end, stream=stream)
        assert failure(reply, begun=False)["code"] == "target_failed"
        assert SECRET.encode() not in reply.body
        assert CAUSES.get(end, end) in caplog.text
        assert (await invoke(app, "y")).json["response"] == "2: y"


class Waiting(EndingAgent):
    """Waits, at `wait`, for a task of its own."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.waiting = asyncio.Event()
        self.ended: list[str] = []

    async def answer(self, messages: Any, session: Any) -> str:
        session.state["turns"] = session.state.get("turns", 0) + 1
        if messages[-1].text == "wait":
            task = asyncio.create_task(asyncio.Event().wait())
            self.waiting.set()
            try:
                await task
            except BaseException as error:
                self.ended.append(type(error).__name__)
                raise
        return f"{session.state['turns']}"


@streamed
async def test_a_request_that_is_cancelled_from_outside_stays_cancelled(
    stream: bool, state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Waiting()
    async with started(agent, state_dir=state_dir) as app:
        await invoke(app, "x")
        async with Connection(app, path=PATH, headers=JSON) as connection:
            connection.send(msgspec.json.encode({"message": "wait", "session_id": "s", "stream": stream}))
            async with asyncio.timeout(5):
                await agent.waiting.wait()
                assert connection.task is not None
                connection.task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await connection.task
        assert (agent.ended, connection.outgoing) == (["CancelledError"], [])
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
        assert (await invoke(app, "y")).json["response"] == "2"


async def test_a_client_that_goes_cancels_a_run_that_waits_for_its_own_task(
    state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Waiting()
    async with started(agent, state_dir=state_dir) as app:
        await invoke(app, "x")
        async with Connection(app, path=PATH, headers=JSON) as connection:
            connection.send(msgspec.json.encode({"message": "wait", "session_id": "s", "stream": True}))
            async with asyncio.timeout(5):
                await agent.waiting.wait()
            connection.disconnect()
            await connection.until(lambda: connection.task is not None and connection.task.done())
            assert connection.task is not None
            assert connection.task.exception() is None
        assert agent.ended == ["CancelledError"]
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
        assert (await invoke(app, "y")).json["response"] == "2"


@streamed
async def test_auth_and_a_run_hook_may_answer_with_an_http_exception(stream: bool) -> None:
    def auth(request: Request) -> ChannelIdentity:
        if "x-blocked" in request.headers:
            raise HTTPException(451, "not in this country", {"x-why": "law"})
        return ChannelIdentity("invocations", "ada")

    def run_hook(request: ChannelRequest, **context: Any) -> ChannelRequest:
        if request.input == "too much":
            raise HTTPException(429, "that is too much", {"retry-after": "9"})
        return request

    agent = ScriptedAgent()
    async with started(agent, auth=auth, allow_anonymous=False, run_hook=run_hook) as app:
        blocked = await invoke(app, "x", stream=stream, **{"x-blocked": "1"})
        assert (blocked.status, blocked.headers["x-why"]) == (451, "law")
        assert "x-should-retry" not in blocked.headers
        assert blocked.json == {"error": {"code": "http_451", "message": "not in this country"}}
        refused = await invoke(app, "too much", stream=stream)
        assert (refused.status, refused.headers["retry-after"]) == (429, "9")
        assert "x-should-retry" not in refused.headers
        assert refused.json == {"error": {"code": "http_429", "message": "that is too much"}}
        assert agent.heard == []
        assert (await invoke(app, "x")).json["response"] == "1: x"


BLOCKED = {"error": {"code": "http_451", "message": "not in this country"}}


def block(*_: Any, **__: Any) -> Any:
    raise HTTPException(451, "not in this country", {"x-why": "law"})


def mute(update: AgentResponseUpdate) -> None:
    return None


@pytest.mark.parametrize(
    ("hooks", "stream"),
    [
        ({"response_hook": block}, False),
        ({"response_hook": block, "stream_update_hook": mute}, True),
        ({"stream_update_hook": block}, True),
    ],
    ids=["response", "response-of-a-stream", "update"],
)
async def test_a_hook_that_answers_after_the_run_has_its_own_headers_and_one_that_stops_retries(
    hooks: dict[str, Any], stream: bool
) -> None:
    async with started(ScriptedAgent(), **hooks) as app:
        reply = await invoke(app, "x", stream=stream)
    assert (reply.status, reply.json) == (451, BLOCKED)
    assert (reply.headers["x-why"], reply.headers["x-should-retry"]) == ("law", "false")


@pytest.mark.parametrize("hook", ["response_hook", "stream_update_hook"])
async def test_a_hook_that_answers_when_a_stream_has_begun_is_its_last_event(hook: str) -> None:
    def block_the_second(given: Any, **_: Any) -> Any:
        return given if isinstance(given, AgentResponseUpdate) and given.text == "1: " else block()

    hooks: dict[str, Any] = {hook: block_the_second}
    async with started(ScriptedAgent(), **hooks) as app:
        reply = await invoke(app, "x", stream=True)
    *told, last = parse_events(reply.body)
    assert (reply.status, last.type, msgspec.json.decode(last.data)) == (200, "error", BLOCKED)
    assert [event.data for event in told] == ["1: ", "x"][: 2 if hook == "response_hook" else 1]


class Deaf(ScriptedAgent):
    """Swallows its first cancellation at `wait`, and then goes on, with updates or without any."""

    def __init__(self, *after: str) -> None:
        super().__init__()
        self.after = after
        self.waiting = asyncio.Event()
        self.said: list[str] = []

    async def updates(self, messages: Any, session: Any) -> AsyncIterator[AgentResponseUpdate]:
        async for update in super().updates(messages, session):
            yield update
        if messages[-1].text == "wait":
            self.waiting.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.said.append("not now")
            for text in self.after:
                self.said.append(text)
                async for update in super().updates(messages, None):
                    yield update


@pytest.mark.parametrize("after", [(), ("one", "two", "three")], ids=["at-its-end", "with-more-to-say"])
async def test_a_run_that_swallows_its_cancellation_is_not_saved(
    after: tuple[str, ...], state_dir: Path | None
) -> None:
    agent = Deaf(*after)
    async with started(agent, state_dir=state_dir) as app:
        await invoke(app, "x")
        async with Connection(app, path=PATH, headers=JSON) as connection:
            connection.send(msgspec.json.encode({"message": "wait", "session_id": "s", "stream": True}))
            await connection.until_body(b"wait")
            async with asyncio.timeout(5):
                await agent.waiting.wait()
            told = connection.body
            connection.disconnect()
            await connection.end()
        assert agent.said == ["not now", *after[:1]]
        assert connection.body == told
        assert (await invoke(app, "y")).json["response"] == "2: y"


@pytest.mark.parametrize("given", ["true", "false"])
async def test_a_hooks_own_word_on_retries_is_replaced_however_it_is_spelled(given: str) -> None:
    def block(*_: Any, **__: Any) -> Any:
        raise HTTPException(451, "no", {"X-Should-Retry": given})

    async with started(ScriptedAgent(), response_hook=block) as app:
        reply = await invoke(app, "x")
    assert [value for name, value in reply.raw_headers if name == b"x-should-retry"] == [b"false"]


async def test_an_exception_that_is_raised_again_before_a_run_has_its_own_headers_only() -> None:
    blocked = HTTPException(451, "no")
    late = True

    def run_hook(request: ChannelRequest, **_: Any) -> ChannelRequest:
        if late:
            return request
        raise blocked

    def response_hook(*_: Any, **__: Any) -> Any:
        raise blocked

    async with started(ScriptedAgent(), run_hook=run_hook, response_hook=response_hook) as app:
        assert (await invoke(app, "x")).headers["x-should-retry"] == "false"
        late = False
        assert "x-should-retry" not in (await invoke(app, "x")).headers


@streamed
@pytest.mark.parametrize("error", [SystemExit(3), GeneratorExit(), asyncio.CancelledError()], ids=repr)
async def test_a_response_hook_cannot_end_the_server_either(error: BaseException, stream: bool) -> None:
    def end(*_: Any, **__: Any) -> Any:
        raise error

    async with started(ScriptedAgent(), response_hook=end) as app:
        assert failure(await invoke(app, "x", stream=stream), begun=stream)["code"] == "target_failed"
