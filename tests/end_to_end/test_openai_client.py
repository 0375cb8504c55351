"""The official client against the sample on the real runtimes: Lambda's in AWS's emulator, and the Functions worker."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import AsyncOpenAI
from openai.types.responses import Response, ResponseFunctionToolCall
from pydantic import BaseModel

from emulators.lambda_calls import Invocation
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_runtime import LambdaEmulator
from emulators.lambda_runtime_api import RuntimeApi
from scripts.demo_deployment import Deployment
from scripts.demo_platforms import HttpProcess, LambdaProcess, OwnLambdaProcess, Platform

from .conftest import FUNCTIONS, LAMBDA, OWN_LAMBDA

TOLD = "My name is Ada and my order is 1002."
ASKED = "What is my name, and where is my parcel?"
REMEMBERED = "Your name is Ada. The parcel of order 1002 is on its way, expected on Friday."
PACE = 0.05


class FunctionUrl(httpx2.AsyncBaseTransport):
    """Brings requests to a function as its URL would."""

    def __init__(self, emulator: LambdaEmulator) -> None:
        self.emulator = emulator

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = await as_sent(request)
        result: dict[str, Any] = await self.emulator.invoke(function_url(sent))
        body: str = result["body"]
        content = b64decode(body) if result.get("isBase64Encoded") else body.encode()
        return httpx2.Response(result["statusCode"], headers=result["headers"], content=content, request=request)


class StreamingUrl(httpx2.AsyncBaseTransport):
    """Brings requests to a function whose URL streams, and its answers as they come."""

    def __init__(self, api: RuntimeApi) -> None:
        self.api = api

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sent = await as_sent(request)
        call = self.api.invoke(function_url(sent))
        head = await call.head()
        content = AnswerStream(call)
        return httpx2.Response(head["statusCode"], headers=head["headers"], stream=content, request=request)


class AnswerStream(httpx2.AsyncByteStream):
    def __init__(self, call: Invocation) -> None:
        self.call = call

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.call.pieces():
            yield piece


async def as_sent(request: httpx2.Request) -> HttpRequest:
    return HttpRequest(
        request.method,
        request.url.raw_path.partition(b"?")[0].decode(),
        request.url.query.decode(),
        list(request.headers.items()),
        body=await request.aread(),
    )


class Service:
    """A deployed sample and the client of whoever has its key; a process is started where there is none."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment

    async def client(self) -> AsyncOpenAI:
        match await self.deployment.started():
            case LambdaProcess(emulator):
                url, http = "http://function", httpx2.AsyncClient(transport=FunctionUrl(emulator))
            case OwnLambdaProcess(api, _):
                url, http = "http://function", httpx2.AsyncClient(transport=StreamingUrl(api))
            case HttpProcess(url, http, _):
                pass
            case other:
                raise TypeError(f"{other!r} cannot be called.")
        return AsyncOpenAI(api_key=self.deployment.key, base_url=f"{url}/v1", http_client=http, max_retries=0)

    async def create(self, text: str, **how: Any) -> Response:
        return await (await self.client()).responses.create(model="support", input=text, **how)


@pytest.fixture(params=[LAMBDA, OWN_LAMBDA, FUNCTIONS])
def platform(request: pytest.FixtureRequest) -> Platform:
    return request.param


@pytest.fixture
async def service(platform: Platform, tmp_path: Path) -> AsyncGenerator[Service]:
    settings = {"OFFLINE_PACE": str(PACE), "FORWARD_OPTIONS": "tools, text"}
    async with Deployment(platform, tmp_path / "state", settings=settings) as deployment:
        yield Service(deployment)


async def test_a_response_is_continued_forked_and_read_by_processes_that_did_not_make_it(service: Service) -> None:
    told = await service.create(TOLD)
    await service.deployment.kill()
    asked = await service.create(ASKED, previous_response_id=told.id)
    assert asked.output_text == REMEMBERED
    assert asked.previous_response_id == told.id
    forked = await service.create("What is my name?", previous_response_id=told.id)
    assert forked.output_text == "Your name is Ada."
    await service.deployment.kill()
    responses = (await service.client()).responses
    assert (await responses.retrieve(asked.id)).to_dict() == asked.to_dict()
    items = [item async for item in responses.input_items.list(asked.id)]
    assert [item.to_dict()["content"] for item in items] == [[{"type": "input_text", "text": ASKED}]]
    await responses.delete(asked.id)
    with pytest.raises(openai.NotFoundError):
        await responses.retrieve(asked.id)
    stranger = (await service.client()).with_options(api_key="a key that nobody was given")
    with pytest.raises(openai.AuthenticationError):
        await stranger.responses.retrieve(told.id)


async def test_a_conversation_waits_for_an_approval_in_another_process(service: Service) -> None:
    conversation = await (await service.client()).conversations.create()
    asked = await service.create("Refund order 1002 because it leaks.", conversation=conversation.id)
    call = asked.output[-1]
    assert isinstance(call, ResponseFunctionToolCall)
    assert call.name == "request_approval"
    await service.deployment.kill()
    responses = (await service.client()).responses
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "true"}
    done = await responses.create(model="support", conversation=conversation.id, input=[answer])
    assert done.output_text == "64.00 EUR are refunded for order 1002 (reason: it leaks)."
    with pytest.raises(openai.BadRequestError):
        await responses.create(model="support", conversation=conversation.id, input=[answer])


async def test_a_client_runs_its_functions_itself(service: Service) -> None:
    tool: Any = {
        "type": "function",
        "name": "look_up_stock",
        "description": "Look up how many pieces of an article are in stock.",
        "parameters": {"type": "object", "properties": {"article": {"type": "string"}}, "required": ["article"]},
        "strict": False,
    }
    asked = await service.create('How many pieces of "teapot" are in stock?', tools=[tool])
    [call] = [item for item in asked.output if isinstance(item, ResponseFunctionToolCall)]
    assert (call.name, json.loads(call.arguments)) == ("look_up_stock", {"article": "teapot"})
    await service.deployment.kill()
    output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
    responses = (await service.client()).responses
    told = await responses.create(model="support", input=[output], previous_response_id=asked.id, tools=[tool])
    assert told.output_text == "12"
    for call_id in ("call_never", call.call_id):
        unasked: Any = {**output, "call_id": call_id}
        with pytest.raises(openai.BadRequestError):
            await responses.create(input=[unasked], previous_response_id=told.id)


class Order(BaseModel):
    text: str
    number: int


async def test_an_answer_is_structured(service: Service) -> None:
    responses = (await service.client()).responses
    parsed = await responses.parse(model="support", input="What is in order 1003?", text_format=Order)
    assert parsed.output_parsed is not None
    assert parsed.output_parsed.number == 1003
    assert "1003" in parsed.output_parsed.text


class Lossy(httpx2.AsyncBaseTransport):
    """Brings requests to a service, and loses the first answer that comes back."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http
        self.sent = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        self.sent += 1
        answer = await self.http.send(
            self.http.build_request(request.method, request.url, headers=request.headers, content=await request.aread())
        )
        if self.sent == 1:
            raise httpx2.ReadError("The answer was lost.", request=request)
        return httpx2.Response(answer.status_code, headers=answer.headers, content=answer.content, request=request)


async def test_a_retry_of_the_clients_own_doubles_no_turn(service: Service) -> None:
    whole = await service.client()
    conversation = await whole.conversations.create()
    lossy = Lossy(whole._client)  # pyright: ignore[reportPrivateUsage]
    client = whole.with_options(http_client=httpx2.AsyncClient(transport=lossy), max_retries=2)
    key = {"Idempotency-Key": "told-once"}
    told = await client.responses.create(input=TOLD, conversation=conversation.id, extra_headers=key)
    assert lossy.sent == 2
    assert (await whole.responses.retrieve(told.id)).to_dict() == told.to_dict()
    again = await client.responses.create(input=TOLD, conversation=conversation.id, extra_headers=key)
    assert again.id == told.id
    with pytest.raises(openai.BadRequestError) as error:
        await whole.responses.cancel(told.id)
    assert error.value.code == "not_background"


@pytest.mark.parametrize("platform", [LAMBDA, OWN_LAMBDA])
async def test_a_response_is_made_in_the_background(service: Service) -> None:
    queued = await service.create(TOLD, background=True)
    assert queued.status == "queued"
    responses = (await service.client()).responses
    async with asyncio.timeout(20):
        while (found := await responses.retrieve(queued.id)).status != "completed":
            assert found.status in ("queued", "in_progress")
    await service.deployment.kill()
    asked = await service.create(ASKED, previous_response_id=queued.id)
    assert asked.output_text == REMEMBERED
    cancelled = await (await service.client()).responses.cancel(queued.id)
    assert cancelled.status == "completed"


@pytest.mark.parametrize("platform", [FUNCTIONS])
async def test_where_nothing_is_worked_on_after_an_answer_the_background_is_refused(service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as error:
        await service.create(TOLD, background=True)
    assert (error.value.param, error.value.code) == ("background", "unsupported")
    assert "no inbox" in error.value.message


async def test_a_stream_is_whole_and_comes_as_it_is_made_where_the_platform_streams(service: Service) -> None:
    client = await service.client()
    async with client.responses.stream(model="support", input=TOLD) as first:
        await first.until_done()  # What the client imports and builds for its first stream takes its time.
    async with client.responses.stream(model="support", input=TOLD) as stream:
        arrived = [(event.type, time.monotonic()) async for event in stream]
        final = await stream.get_final_response()
    kinds = [kind for kind, _ in arrived]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    words = [when for kind, when in arrived if kind == "response.output_text.delta"]
    assert len(words) == len(final.output_text.split())
    if service.deployment.platform.streams:
        assert words[-1] - words[0] > PACE * (len(words) - 2)
    assert (await client.responses.retrieve(final.id)).output_text == final.output_text
