"""Pings, the operator's own events, and events that are none of anybody's."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from agent_framework_hosting_aws_lambda import LambdaFunction, LambdaHandler, UnsupportedEvent
from agent_framework_hosting_aws_lambda.triggers import trigger_of
from emulators.lambda_events import HttpRequest, function_url, load_balancer, rest_api
from tests.aws_lambda.conftest import StubHost
from tests.aws_lambda.test_requests import KINDS

from .conftest import serving


async def size(request: Request) -> JSONResponse:
    return JSONResponse(len(await request.body()))


async def big(request: Request) -> PlainTextResponse:
    return PlainTextResponse("x" * 7_000_000)


APP = Starlette(routes=[Route("/size", size, methods=["POST"]), Route("/big", big)])
PING = {"af-hosting": "ping"}


@pytest.mark.parametrize("event", [PING, {"source": "serverless-plugin-warmup"}, {"af-hosting": "ping", "more": 1}])
async def test_a_ping_is_answered_at_once(event: object) -> None:
    async with serving(APP, on_event=lambda event, context: 1 / 0) as it:
        assert (await it.invoke(event).answer()).json == {"ready": True}


async def test_a_sweep_without_anything_to_sweep() -> None:
    async with serving(APP) as it:
        for event in ({"af-hosting": "sweep"}, {"source": "aws.events", "detail-type": "Scheduled Event"}):
            assert (await it.invoke(event).answer()).json == {"swept": False}


@pytest.mark.parametrize("result", [None, 3, "text", [1, {"a": None}], {"é": "€"}])
async def test_the_operators_own_events(result: Any) -> None:
    heard: list[Any] = []

    def sync(event: Any, context: Any) -> Any:
        heard.append((event, context.aws_request_id, context.function_name, context.get_remaining_time_in_millis() > 0))
        return result

    async def later(event: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return sync(event, context)

    for on_event in (sync, later):
        async with serving(APP, on_event=on_event) as it:
            call = it.invoke({"Records": [{"eventSource": "aws:s3"}]})
            answer = await call.answer()
            assert (answer.json, answer.content_type) == (result, "application/json")
            assert heard.pop() == ({"Records": [{"eventSource": "aws:s3"}]}, call.id, "", True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [(LookupError("lost"), "LookupError"), (OSError("away"), "OSError"), (UnsupportedEvent("no"), "UnsupportedEvent")],
)
async def test_an_operators_failure_is_the_invocations(error: Exception, kind: str) -> None:
    def fail(event: Any, context: Any) -> Any:
        raise error

    async with serving(APP, on_event=fail) as it:
        answer = await it.invoke({"own": 1}).answer()
        assert answer.error is not None
        assert (answer.error.type, answer.error.message) == (kind, str(error))
        assert any("test_triggers" in line for line in answer.error.trace)
        assert (await it.invoke(PING).answer()).error is None


@pytest.mark.parametrize("result", [object(), {"a": {1, object()}}, lambda: 1, "\ud800"])
async def test_a_result_that_is_no_json_is_the_invocations_failure(result: Any) -> None:
    async with serving(APP, on_event=lambda event, context: result) as it:
        assert (await it.invoke({"own": 1}).answer()).error is not None
        assert (await it.invoke(PING).answer()).error is None


async def test_a_result_that_is_too_large_is_the_invocations_failure() -> None:
    async with serving(APP, on_event=lambda event, context: "x" * 7_000_000) as it:
        answer = await it.invoke({"own": 1}).answer()
        assert answer.error is not None and "at most 6 MB" in answer.error.message


async def test_an_error_that_cannot_be_told_is_told_all_the_same() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise LookupError("no words")

    def fail(event: Any, context: Any) -> Any:
        raise Mute

    async with serving(APP, on_event=fail) as it:
        answer = await it.invoke({"own": 1}).answer()
        assert answer.error is not None and answer.error.type == "Mute"


@pytest.mark.parametrize(
    "event",
    [b"", b"{", b"\xff\xfe", b"nonsense", b"[" * 100_000, b"null", b"3", b'"text"', b"[]", b"{}", b'{"a": 1e999}'],
)
async def test_events_that_are_none(event: bytes) -> None:
    async with serving(APP) as it:
        answer = await it.invoke(event).answer()
        assert answer.error is not None
        assert (await it.invoke(PING).answer()).error is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = (
    "version",
    "rawPath",
    "rawQueryString",
    "headers",
    "cookies",
    "requestContext",
    "body",
    "isBase64Encoded",
    "path",
    "httpMethod",
    "multiValueHeaders",
    "queryStringParameters",
    "multiValueQueryStringParameters",
    "resource",
)
CONTEXT_PLACES = ("http", "domainName", "apiId", "stage", "elb", "identity", "path", "authorizer")


class Context:
    aws_request_id = "r"

    def get_remaining_time_in_millis(self) -> int:
        return 30_000


@given(
    kind=st.sampled_from([*KINDS]),
    changes=st.dictionaries(st.sampled_from(PLACES), JSON, max_size=2),
    within=st.dictionaries(st.sampled_from(CONTEXT_PLACES), JSON, max_size=2),
)
def test_a_damaged_request_is_a_request_or_refused(kind: str, changes: dict[str, Any], within: dict[str, Any]) -> None:
    event = KINDS[kind](HttpRequest("POST", "/x", "a=1", cookies=["a=1"], body=b"x"))
    event["requestContext"] |= within
    event |= changes
    function = LambdaFunction(StubHost(APP))
    try:
        http = function.read(event, Context())
        if http is None:
            return
        scope, body = function.request(http)
    except UnsupportedEvent:
        return
    assert isinstance(scope["method"], str) and isinstance(scope["path"], str) and isinstance(body, bytes)
    assert all(isinstance(text, bytes) for line in scope["headers"] for text in line)
    assert scope["client"] is None or isinstance(scope["client"][0], str)
    assert http.integration in (None, "function_url", "rest_api")


@given(event=JSON | st.dictionaries(st.sampled_from(["af-hosting", "source", "message", "Records"]), JSON))
def test_any_event_has_a_trigger_or_none(event: Any) -> None:
    assert trigger_of(event) in (None, "direct", "ping", "queue", "sweep")


@pytest.mark.parametrize("make", [function_url, rest_api, load_balancer])
async def test_ten_megabytes_arrive(make: Any) -> None:
    """More than Lambda would bring; what a channel takes is its own matter."""
    event = make(HttpRequest("POST", "/size", headers=[("content-type", "text/plain")], body=b"x" * 10_000_000))
    async with serving(APP) as it:
        assert (await it.invoke(event).answer()).payload == b"10000000"


def test_the_stock_handler_answers_for_what_is_too_large() -> None:
    handler = LambdaHandler(StubHost(APP))
    try:
        result = handler(function_url(HttpRequest(path="/big")), Context())
        assert result["statusCode"] == 500
        assert json.loads(result["body"])["error"]["code"] == "response_too_large"
        sized = handler(function_url(HttpRequest("POST", "/size", body=b"x" * 10_000_000)), Context())
        assert sized["body"] == "10000000"
    finally:
        handler.close()
