"""A Runtime API that drops, garbles and refuses: we lose no invocation, and the loop goes on or ends with a word."""

from __future__ import annotations

import asyncio

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route

from agent_framework_hosting_aws_lambda import LambdaFunction
from agent_framework_hosting_aws_lambda.runtime.loop import Runtime
from emulators.http_connections import Connection, Listener
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_runtime_api import RuntimeApi
from tests.aws_lambda.conftest import StubHost

from .conftest import STREAMS, Running, serving

ASKED: list[str] = []


async def tell(request: Request) -> JSONResponse:
    ASKED.append(request.url.path)
    return JSONResponse({"path": request.url.path})


async def stream(request: Request) -> StreamingResponse:
    ASKED.append(request.url.path)
    return StreamingResponse(iter([bytes(1000)] * 1000))


APP = Starlette(routes=[Route("/stream", stream), Route("/{rest:path}", tell)])


@pytest.fixture(autouse=True)
def none_asked() -> None:
    ASKED.clear()


async def well(it: Running, path: str = "/well") -> None:
    answer = await it.invoke(function_url(HttpRequest(path=path))).answer()
    assert (answer.status, answer.error) == (200, None)
    assert answer.payload == b'{"path":"%b"}' % path.encode()


@pytest.mark.parametrize("wrong", ["drop_next", "garble_next"])
async def test_a_question_that_is_not_answered_is_asked_again(wrong: str) -> None:
    async with serving(APP) as it:
        await it.api.ready()
        setattr(it.api.misbehave, wrong, 2)
        it.environment.hang_up()
        await well(it, "/first")
        await well(it, "/second")
        assert ASKED == ["/first", "/second"]


async def test_an_api_that_is_gone_is_the_end(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_framework_hosting_aws_lambda.runtime.api.FIRST_PAUSE", 0.001)
    async with serving(APP) as it:
        await it.api.ready()
        it.api.misbehave.drop_next = 100
        it.environment.hang_up()
        assert await it.over == 1
    assert "The Runtime API gives no invocations any more" in caplog.text


async def test_an_answer_whose_connection_ends_is_given_again(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(APP) as it:
        it.api.misbehave.drop_responses = 1
        await well(it)
        await well(it, "/second")
        assert ASKED == ["/well", "/second"]
    assert "the answer is repeated" in caplog.text


async def test_a_failure_whose_connection_ends_is_told_again() -> None:
    async with serving(APP) as it:
        it.api.misbehave.drop_responses = 1
        answer = await it.invoke({"no": "event"}).answer()
        assert answer.error is not None and answer.error.type == "UnsupportedEvent"
        await well(it)


async def test_an_answer_that_is_never_taken_is_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(APP) as it:
        it.api.misbehave.drop_responses = 2
        # Who asks before it has answered is given the same invocation: for Lambda it is not over.
        await well(it)
        assert ASKED == ["/well", "/well"]
    assert "The response of this invocation did not arrive" in caplog.text


async def test_a_response_that_is_refused_as_too_large(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(APP) as it:
        it.api.misbehave.refuse_responses = [413]
        refused = await it.invoke(function_url(HttpRequest(path="/big"))).answer()
        assert refused.error is not None and refused.error.type == "Function.ResponseSizeTooLarge"
        await well(it)
    assert "answered 413 to a response" in caplog.text


async def test_an_api_that_fails_is_the_end(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """After 500 the only way out is to end (Using the Lambda runtime API: "Container error")."""
    monkeypatch.setattr("agent_framework_hosting_aws_lambda.runtime.api.FIRST_PAUSE", 0.001)
    async with serving(APP) as it:
        it.api.misbehave.refuse_responses = [500]
        it.invoke(function_url(HttpRequest()))
        assert await it.over == 1
    assert "This environment ends" in caplog.text


@pytest.mark.parametrize("after", [1, 1000, 500_000])
async def test_a_stream_that_is_reset(after: int, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(APP, streaming=STREAMS) as it:
        it.api.misbehave.reset_stream_after = after
        broken = await it.invoke(function_url(HttpRequest(path="/stream"))).answer()
        assert broken.error is not None and broken.error.type == "Emulator.StreamReset"
        await well(it)
        assert ASKED == ["/stream", "/well"]
    assert "did not arrive whole" in caplog.text


async def test_a_stream_that_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(APP, streaming=STREAMS) as it:
        it.api.misbehave.refuse_responses = [413]
        refused = await it.invoke(function_url(HttpRequest(path="/stream"))).answer()
        assert refused.error is not None
        await well(it)
    assert "did not arrive whole" in caplog.text


async def test_a_stream_that_never_arrived_is_a_failed_invocation() -> None:
    async with serving(APP, streaming=STREAMS) as it:
        it.api.misbehave.drop_responses = 1
        lost = await it.invoke(function_url(HttpRequest(path="/stream"))).answer()
        assert lost.error is not None and lost.error.type == "Undelivered"
        await well(it)
        assert ASKED == ["/stream", "/well"]


async def test_a_stream_whose_reader_is_slow_comes_whole() -> None:
    async with serving(APP, streaming=STREAMS) as it:
        it.api.misbehave.slow = 20_000_000
        answer = await it.invoke(function_url(HttpRequest(path="/stream"))).answer()
        assert (answer.error, len(answer.payload)) == (None, 1_000_000)


async def test_an_answer_that_is_too_large_is_a_clear_error() -> None:
    async def big(request: Request) -> PlainTextResponse:
        return PlainTextResponse("x" * 7_000_000)

    async with serving(Starlette(routes=[Route("/big", big), Route("/well", tell)])) as it:
        answer = await it.invoke(function_url(HttpRequest(path="/big"))).answer()
        assert (answer.status, answer.json["headers"]["x-should-retry"]) == (500, "false")
        assert b"response_too_large" in answer.payload and b"6 MB" in answer.payload
        await well(it)


@pytest.mark.parametrize(
    "odd",
    [
        {"Lambda-Runtime-Deadline-Ms": "soon"},
        {"Lambda-Runtime-Deadline-Ms": ""},
        {"Lambda-Runtime-Trace-Id": "Root=1\r\n\0\n\rX: y"},
        {"Lambda-Runtime-Client-Context": "{", "Lambda-Runtime-Cognito-Identity": "[]"},
    ],
)
async def test_odd_headers_of_an_invocation(odd: dict[str, str]) -> None:
    """From an API of its own, which says what no real one says."""
    answered: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
    event = b'{"af-hosting": "ping"}'
    said = {"Lambda-Runtime-Aws-Request-Id": "a/b c", "Lambda-Runtime-Deadline-Ms": "9999999999999", **odd}
    lines = "".join(f"{name}: {value.replace(chr(13) + chr(10), chr(10))}\r\n" for name, value in said.items())

    async def serve(connection: Connection) -> None:
        while (request := await connection.request()) is not None:
            if request.path.endswith("/invocation/next") and not answered.done():
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(event)}\r\n{lines}\r\n"
                connection.writer.write(head.encode() + event)
            elif request.method == "POST":
                body = await request.body.read(100_000)
                if "invocation" in request.path:
                    answered.set_result((request.path, body))
                await connection.answer(request, 202)
            else:
                await connection.stream.ended.wait()

    listener = Listener(serve)
    await listener.open()
    runtime = Runtime(lambda: LambdaFunction(StubHost(APP)), listener.address)
    over = asyncio.create_task(runtime.run())
    try:
        path, body = await asyncio.wait_for(answered, 10)
    finally:
        runtime.terminate()
        await asyncio.wait({over})
        await listener.close()
    assert over.result() == 0
    assert (path, body) == ("/2018-06-01/runtime/invocation/a%2Fb%20c/response", b'{"ready":true}')


async def test_an_init_error_that_nobody_hears_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def load() -> LambdaFunction:
        raise LookupError("no such table")

    async with RuntimeApi() as api:
        address = api.address
    assert await Runtime(load, address).run() == 1
    assert "no such table" in caplog.text and "could not be told" in caplog.text
