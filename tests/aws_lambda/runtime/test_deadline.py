"""The platform's time: what is not over in time is stopped, told, and leaves everything as it was."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.backlog import Backlog
from agent_framework_hosting.inbox import LocalInbox
from agent_framework_hosting_aws_lambda import LambdaFunction
from agent_framework_hosting_invocations import InvocationsChannel
from agent_framework_hosting_responses import ResponsesChannel
from emulators.lambda_events import Event, HttpRequest, function_url
from emulators.lambda_runtime_api import Answer, RuntimeApi
from tests.aws_lambda.conftest import StubHost
from tests.support.sse import parse_events
from tests.support.targets import ScriptedAgent, count

from .conftest import HOST, STREAMS, Running, notes, process_of, running, serving

TIME = 2.0
JSON = [("content-type", "application/json")]


class Clocked:
    """When runs have ended that did not end by themselves."""

    def __init__(self) -> None:
        self.stopped: list[float] = []
        self.begun = asyncio.Event()

    async def act(self, messages: Any, session: Any) -> list[str]:
        words = count(messages, session)
        if messages[-1].text == "hang":
            self.begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.stopped.append(time.monotonic())
        return words

    def host(self, folder: Path) -> AgentFrameworkHost:
        channels = [InvocationsChannel(allow_anonymous=True), ResponsesChannel(allow_anonymous=True)]
        return AgentFrameworkHost(ScriptedAgent(self.act), channels=channels, state_dir=folder)


def invocation(text: str, session: str = "s") -> Event:
    body = json.dumps({"message": text, "session_id": session}).encode()
    return function_url(HttpRequest("POST", "/invocations", headers=JSON, body=body))


def response(text: str, **fields: object) -> Event:
    body = json.dumps({"input": text, **fields}).encode()
    return function_url(HttpRequest("POST", "/responses", headers=JSON, body=body))


def said(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.payload)


async def test_an_agent_that_hangs_is_stopped_in_time_and_nothing_of_its_run_counts(tmp_path: Path) -> None:
    clock = Clocked()
    async with running(lambda: LambdaFunction(clock.host(tmp_path))) as it:
        assert said(await it.invoke(invocation("a")).answer())["response"] == "1: a"
        call = it.invoke(invocation("hang"), timeout=TIME)
        answer = await call.answer()
        assert (answer.status, answer.json["headers"]["x-should-retry"]) == (504, "false")
        error = json.loads(answer.payload)["error"]
        assert error["code"] == "deadline_reached" and "longer time-out" in error["message"]
        assert call.started is not None and call.finished is not None
        assert call.finished - call.started < TIME
        assert clock.stopped[0] - call.started < TIME - 0.2
        # At once: nobody holds the conversation, in this instance or in another one.
        again = it.invoke(invocation("b"), timeout=60)
        assert said(await again.answer())["response"] == "2: b"
    async with running(lambda: LambdaFunction(Clocked().host(tmp_path))) as other:
        assert said(await other.invoke(invocation("c")).answer())["response"] == "3: c"


async def test_a_response_stream_tells_its_own_end(tmp_path: Path) -> None:
    clock = Clocked()
    async with running(lambda: LambdaFunction(clock.host(tmp_path), streaming=STREAMS)) as it:
        first = said(await it.invoke(response("a")).answer())
        after = {"previous_response_id": first["id"]}
        call = it.invoke(response("hang", stream=True, **after), timeout=TIME)
        await call.received(b"response.in_progress")
        assert call.finished is None
        answer = await call.answer()
        assert (answer.mode, answer.status, answer.error) == ("streaming", 200, None)
        last = parse_events(answer.payload)[-1]
        assert last.type == "response.failed"
        assert json.loads(last.data)["response"]["error"] is not None
        again = said(await it.invoke(response("b", **after)).answer())
        assert again["output"][0]["content"][0]["text"] == "2: b"


async def test_a_call_that_waits_for_a_busy_conversation_is_answered_in_time(tmp_path: Path) -> None:
    clock = Clocked()
    async with (
        running(lambda: LambdaFunction(clock.host(tmp_path))) as busy,
        running(lambda: LambdaFunction(Clocked().host(tmp_path))) as it,
    ):
        held = busy.invoke(invocation("hang"), timeout=600)
        await clock.begun.wait()
        call = it.invoke(invocation("a"), timeout=1.0)
        answer = await call.answer()
        assert (answer.status, json.loads(answer.payload)["error"]["code"]) == (504, "deadline_reached")
        # It is another conversation's turn, and this instance serves it.
        assert said(await it.invoke(invocation("a", "other")).answer())["response"] == "1: a"
        assert held.finished is None


ENDED: list[str] = []


async def hang(request: Request) -> Response:
    try:
        await asyncio.Event().wait()
    finally:
        ENDED.append("hang")
    return PlainTextResponse("late")


async def slow(request: Request) -> Response:
    """Answers in its own words when it is cancelled."""
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return PlainTextResponse("in my own words", 503)
    return PlainTextResponse("late")


async def begun(request: Request) -> Response:
    async def parts() -> AsyncIterator[str | bytes]:
        yield "begun"
        try:
            await asyncio.Event().wait()
        finally:
            ENDED.append("begun")

    return StreamingResponse(parts())


async def well(request: Request) -> Response:
    return PlainTextResponse("well")


APP = Starlette(routes=[Route("/hang", hang), Route("/slow", slow), Route("/begun", begun), Route("/well", well)])


@pytest.fixture(autouse=True)
def none_ended() -> None:
    ENDED.clear()


async def is_well(it: Running) -> bool:
    return (await it.invoke(function_url(HttpRequest(path="/well"))).answer()).payload == b"well"


@pytest.mark.parametrize("streaming", [(), STREAMS], ids=["whole", "stream"])
async def test_an_app_that_hangs_is_answered_for(streaming: tuple[Any, ...]) -> None:
    async with serving(APP, streaming=streaming) as it:
        answer = await it.invoke(function_url(HttpRequest(path="/hang")), timeout=0.5).answer()
        assert (answer.mode, answer.status) == ("streaming" if streaming else "buffered", 504)
        assert json.loads(answer.payload)["error"]["code"] == "deadline_reached"
        assert ENDED == ["hang"]
        assert await is_well(it)


async def test_an_app_may_answer_for_itself_when_it_is_stopped() -> None:
    async with serving(APP) as it:
        answer = await it.invoke(function_url(HttpRequest(path="/slow")), timeout=1).answer()
        assert (answer.status, answer.payload) == (503, b"in my own words")
        assert await is_well(it)


async def test_a_stream_that_was_begun_ends_with_an_error() -> None:
    async with serving(APP, streaming=STREAMS) as it:
        answer = await it.invoke(function_url(HttpRequest(path="/begun")), timeout=1).answer()
        assert (answer.status, answer.payload) == (200, b"begun")
        assert answer.error is not None and answer.error.type == "DeadlineReached"
        assert ENDED == ["begun"]
        assert await is_well(it)


async def test_a_stream_that_nobody_reads_is_cut_off() -> None:
    async def endless(request: Request) -> Response:
        async def parts() -> AsyncIterator[str | bytes]:
            while True:
                yield bytes(100_000)

        return StreamingResponse(parts())

    app = Starlette(routes=[Route("/endless", endless), Route("/well", well)])
    async with serving(app, streaming=STREAMS) as it:
        it.api.misbehave.slow = 100_000
        call = it.invoke(function_url(HttpRequest(path="/endless")), timeout=0.5)
        await call.first_chunk()
        it.api.misbehave.slow = None
        answer = await call.answer()
        assert answer.error is not None
        assert await is_well(it)


@pytest.mark.parametrize("streaming", [(), STREAMS], ids=["whole", "stream"])
@pytest.mark.parametrize("left", [-3600, -0.001, 0, 0.001, 0.02])
async def test_hardly_any_time_or_none(left: float, streaming: tuple[Any, ...]) -> None:
    async with serving(APP, streaming=streaming) as it:
        for path in ("/hang", "/begun"):
            answer = await it.invoke(function_url(HttpRequest(path=path)), timeout=left).answer()
            assert answer.status == 504 or answer.error is not None
        assert await is_well(it)


@pytest.mark.parametrize("left", [-1, 0.3])
async def test_what_is_no_http_has_its_time_as_well(left: float) -> None:
    async def wait(event: object, context: Any) -> None:
        assert context.get_remaining_time_in_millis() <= max(left, 0) * 1000
        await asyncio.Event().wait()

    async with serving(APP, on_event=wait) as it:
        answer = await it.invoke({"own": 1}, timeout=left).answer()
        assert answer.error is not None and answer.error.type == "DeadlineReached"
        assert await is_well(it)


async def test_a_time_out_of_the_operators_own_is_told_as_such() -> None:
    async def fail(event: object, context: Any) -> None:
        raise TimeoutError("the database took too long")

    async with serving(APP, on_event=fail) as it:
        answer = await it.invoke({"own": 1}).answer()
        assert answer.error is not None
        assert (answer.error.type, answer.error.message) == ("TimeoutError", "the database took too long")


SWALLOWING = (
    HOST
    + """
async def swallow(request):
    note("swallows")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass
async def begun(request):
    async def parts():
        yield "begun"
        await swallow(request)
    return StreamingResponse(parts())
host = LambdaFunction(
    Host(Route("/swallow", swallow), Route("/begun", begun)),
    streaming=[] if os.environ["WHOLE"] else ["function_url"])
"""
)


@pytest.mark.parametrize(("whole", "path"), [("1", "/swallow"), ("", "/begun")])
async def test_an_app_that_cannot_be_stopped_ends_the_process(whole: str, path: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(SWALLOWING)
    async with RuntimeApi() as api, process_of(api, tmp_path, WHOLE=whole) as process:
        await api.ready()
        call = api.invoke(function_url(HttpRequest(path=path)), timeout=TIME)
        answer = await call.answer()
        assert answer.status == 504 if whole else answer.error is not None and answer.error.type == "DeadlineReached"
        assert call.started is not None
        assert await process.ended() == 1
        assert "This environment ends: The app does not end" in process.logs()
        assert "stop" in notes(tmp_path)


async def test_what_the_background_accepts_is_worked_on_while_it_goes_on() -> None:
    drained = asyncio.Event()

    async def drain(key: str) -> None:
        drained.set()

    backlog = Backlog(LocalInbox(drain))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body"})
        await answered.wait()
        await backlog.wake("a")
        await drained.wait()

    answered = asyncio.Event()
    host = StubHost(app)
    host.updates = SimpleNamespace(backlog=backlog, drains=SimpleNamespace(enough=0.0))
    async with running(lambda: LambdaFunction(host)) as it:
        call = it.invoke(function_url(HttpRequest()), timeout=10)
        assert (await call.answer()).status == 202
        answered.set()
        await call.over()
        assert drained.is_set() and not backlog.waits
