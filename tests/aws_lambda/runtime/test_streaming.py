"""A streamed response: it comes as the app sends it, and tells how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from agent_framework_hosting import ConfigurationError
from agent_framework_hosting_aws_lambda import LambdaFunction
from agent_framework_hosting_aws_lambda.runtime import serving as serving_module
from emulators.lambda_events import HttpRequest, function_url
from tests.aws_lambda.conftest import StubHost

from .conftest import STREAMS, Running, serving

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]}
EVENT = function_url(HttpRequest(path="/stream"))
WELL = function_url(HttpRequest(path="/well"))
App = Callable[[Any, Any, Any], Any]


def part(body: bytes, more: bool = True) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def beside(stream: App) -> App:
    """An app that streams as it is told, has one more route that answers, and no lifespan."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] == "/well":
            await PlainTextResponse("well")(scope, receive, send)
        else:
            await stream(scope, receive, send)

    return app


async def well(it: Running) -> bool:
    """Whether the loop is alive, and the next answer is the right one."""
    answer = await it.invoke(WELL).answer()
    return (answer.mode, answer.status, answer.payload, answer.error) == ("streaming", 200, b"well", None)


async def test_each_chunk_comes_before_the_next_one_is_made() -> None:
    gates = [asyncio.Event() for _ in range(3)]

    async def chunks() -> AsyncIterator[bytes]:
        for number, gate in enumerate(gates):
            await gate.wait()
            yield b"chunk %d" % number

    async def stream(request: Request) -> StreamingResponse:
        return StreamingResponse(chunks())

    app = Starlette(routes=[Route("/stream", stream)])
    async with serving(app, streaming=STREAMS) as it:
        call = it.invoke(EVENT)
        for number, gate in enumerate(gates):
            gate.set()
            await call.received(b"chunk %d" % number)
            assert [chunk for _, chunk in call.chunks] == [b"chunk %d" % made for made in range(number + 1)]
        assert (await call.answer()).error is None


async def test_the_head_comes_with_the_first_chunk_even_if_that_is_empty() -> None:
    gate = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "status": 202})
        await send(part(b""))
        await gate.wait()
        await send(part(b"late", more=False))

    async with serving(beside(stream), streaming=STREAMS) as it:
        call = it.invoke(EVENT)
        await it.api.desk.bell.until(lambda: call.began is not None, "There is no head.", 10)
        assert call.payload == b""
        gate.set()
        assert ((await call.answer()).status, call.payload) == (202, b"late")


@pytest.mark.parametrize("error", [LookupError("lost"), FileNotFoundError("no such file"), TimeoutError("too slow")])
async def test_an_error_after_the_first_byte_is_told_at_the_end(error: Exception) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"so far"))
        raise error

    async with serving(beside(stream), streaming=STREAMS) as it:
        answer = await it.invoke(EVENT).answer()
        assert (answer.status, answer.payload) == (200, b"so far")
        assert answer.error is not None
        assert (answer.error.type, answer.error.message) == (type(error).__name__, str(error))
        assert answer.error.header == type(error).__name__
        assert "test_streaming" in answer.error.trace[-1]
        assert await well(it)


async def test_an_app_that_returns_within_its_stream_is_an_error() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"so far"))

    async with serving(beside(stream), streaming=STREAMS) as it:
        answer = await it.invoke(EVENT).answer()
        assert answer.error is not None and answer.error.type == "NoResponse"
        assert await well(it)


@pytest.mark.parametrize("messages", [[], [START], [{**START, "headers": [("text", "not bytes")]}, part(b"x")]])
async def test_what_goes_wrong_before_the_first_byte_is_a_failed_invocation(messages: list[dict[str, Any]]) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)
        raise FileNotFoundError("no such file")

    async with serving(beside(stream), streaming=STREAMS) as it:
        answer = await it.invoke(EVENT).answer()
        assert (answer.mode, answer.status) == ("buffered", None)
        assert answer.error is not None
        assert answer.error.type == ("AttributeError" if len(messages) == 2 else "FileNotFoundError")
        assert await well(it)


def deep(depth: int, error: Exception) -> None:
    if depth == 0:
        raise error
    deep(depth - 1, error)


async def test_a_class_name_cannot_break_the_trailers() -> None:
    odd = type("Odd\r\nX-Injected: yes\r\n", (Exception,), {})

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"so far"))
        deep(100, odd("é\r\n" + "long " * 100_000))

    async with serving(beside(stream), streaming=STREAMS) as it:
        answer = await it.invoke(EVENT).answer()
        assert answer.error is not None and answer.error.type == "Error"
        # As much of it as the Runtime API takes there.
        assert answer.error.message.startswith("é\r\nlong")
        assert 1000 < sum(map(len, answer.trailers.values())) < 4000
        assert {*answer.trailers} == {"lambda-runtime-function-error-type", "lambda-runtime-function-error-body"}
        assert await well(it)


async def test_headers_cannot_end_the_prelude() -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "headers": [(b"x-odd", b'"}' + bytes(8) + b"\r\n\xff")]})
        await send(part(b"body", more=False))

    async with serving(beside(stream), streaming=STREAMS) as it:
        answer = await it.invoke(EVENT).answer()
        assert answer.headers["x-odd"] == '"}' + "\0" * 8 + "\r\n\xff"
        assert answer.payload == b"body"


async def test_a_run_ends_once_its_client_is_gone() -> None:
    ended: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await receive()
        try:
            while True:
                await send(part(bytes(1000)))
        except OSError:
            ended.append((await receive())["type"])

    async with serving(beside(stream), streaming=STREAMS) as it:
        it.api.misbehave.reset_stream_after = 50_000
        answer = await it.invoke(EVENT).answer()
        assert answer.error is not None and answer.error.type == "Emulator.StreamReset"
        assert await well(it)
    assert ended == ["http.disconnect"]


async def test_a_run_that_does_not_notice_is_cancelled_once_its_client_is_gone() -> None:
    cancelled = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            for _ in range(10_000):
                try:
                    await send(part(bytes(1000)))
                except OSError:
                    await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with serving(beside(stream), streaming=STREAMS) as it:
        it.api.misbehave.reset_stream_after = 50_000
        call = it.invoke(EVENT, timeout=600)
        await call.answer()
        assert await well(it)
    assert cancelled.is_set()


async def test_an_app_is_held_back_by_who_reads_slowly() -> None:
    sent = 0

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(1024):
            await send(part(bytes(64 * 1024)))
            sent += 1

    async with serving(beside(stream), streaming=STREAMS) as it:
        it.api.misbehave.slow = 1000
        call = it.invoke(EVENT, timeout=600)
        await call.first_chunk()
        before = -1
        while before != sent:  # Until it does not go on while the loop goes round.
            before = sent
            for _ in range(100):
                await asyncio.sleep(0)
        assert sent < 512  # What the system's own buffers hold is a few megabytes.
        it.environment.hang_up()


@pytest.fixture
def small_bound(monkeypatch: pytest.MonkeyPatch) -> int:
    bound = 100_000
    whole = serving_module.Serving.__init__

    def made(self: Any, api: Any, function: Any) -> None:
        whole(self, api, function, stream_bound=bound)

    monkeypatch.setattr(serving_module.Serving, "__init__", made)
    return bound


async def test_a_stream_has_a_bound(small_bound: int, caplog: pytest.LogCaptureFixture) -> None:
    sent = 0

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        while True:
            await send(part(bytes(10_000)))
            sent += 10_000

    async with serving(beside(stream), streaming=STREAMS) as it:
        answer = await it.invoke(EVENT).answer()
        assert answer.error is not None
        assert sent == small_bound
        assert await well(it)
    assert "at most 100000 bytes" in caplog.text


async def test_a_stream_that_the_platform_finds_too_long_is_ended(caplog: pytest.LogCaptureFixture) -> None:
    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        while True:
            await send(part(bytes(10_000)))

    async with serving(beside(stream), streaming=STREAMS, stream_limit=100_000) as it:
        answer = await it.invoke(EVENT).answer()
        assert answer.error is not None and answer.error.type == "Function.ResponseSizeTooLarge"
        assert await well(it)
    assert "did not arrive whole" in caplog.text


async def test_what_follows_a_stream_is_waited_for_and_its_failure_logged(caplog: pytest.LogCaptureFixture) -> None:
    gate = asyncio.Event()

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(part(b"whole", more=False))
        await gate.wait()
        raise LookupError("afterwards")

    async with serving(beside(stream), streaming=STREAMS) as it:
        call = it.invoke(EVENT)
        assert (await call.answer()).payload == b"whole"
        assert call.returned is None
        gate.set()
        await call.over()
    assert "An error followed the response: afterwards" in caplog.text


@pytest.mark.parametrize("messages", [[part(b"x")], [START, START], [START, part(b"x", more=False), part(b"y")]])
async def test_messages_out_of_place_are_the_apps_errors(messages: list[dict[str, Any]]) -> None:
    raised: list[str] = []

    async def stream(scope: Any, receive: Any, send: Any) -> None:
        try:
            for message in messages:
                await send(message)
        except RuntimeError as error:
            raised.append(str(error))
            raise

    async with serving(beside(stream), streaming=STREAMS) as it:
        await it.invoke(EVENT).answer()
        assert await well(it)
    assert len(raised) == 1 and "ASGI has no place" in raised[0]


def test_only_function_urls_and_rest_apis_can_be_told_to_stream() -> None:
    with pytest.raises(ConfigurationError, match="'http_api' cannot take a response as a stream"):
        LambdaFunction(StubHost(Starlette()), streaming=["http_api"])  # type: ignore[list-item]
