"""What becomes of errors: Lambda's, unless there is a response."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agent_framework_hosting.errors import ConfigurationError
from agent_framework_hosting_aws_lambda import NoResponse, UnsupportedEvent
from emulators.lambda_events import HttpRequest, function_url, http_api, load_balancer, rest_api

from .test_requests import Maker, every_kind

EVENT = function_url(HttpRequest())
START = {"type": "http.response.start", "status": 200, "headers": []}


def failing(error: BaseException, *messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and scope["path"] != "/well":
            for message in messages:
                await send(message)
            raise error
        if scope["type"] == "http":
            await PlainTextResponse("well")(scope, receive, send)

    return app


@every_kind
def test_exception_without_a_response_is_raised(make: Maker, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(LookupError, match="lost"):
        serve(failing(LookupError("lost")))(make(HttpRequest()), None)
    # Lambda logs what the handler raises; twice would be once too much.
    assert caplog.records == []


@pytest.mark.parametrize(
    "messages", [[START], [START, {"type": "http.response.body", "body": b"a", "more_body": True}]]
)
def test_exception_within_the_response_is_raised(messages: list[dict[str, Any]], serve: Any) -> None:
    handler = serve(failing(LookupError("lost"), *messages))
    with pytest.raises(LookupError, match="lost"):
        handler(EVENT, None)
    assert handler(function_url(HttpRequest(path="/well")), None)["body"] == "well"


def test_response_of_starlettes_own_error_handling_is_returned(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request) -> PlainTextResponse:
        raise LookupError("lost")

    result = serve(Starlette(routes=[Route("/", fail)]))(EVENT, None)
    assert (result["statusCode"], result["body"]) == (500, "Internal Server Error")
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "LookupError: lost" in caplog.text


def test_failing_background_task_is_logged(serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise LookupError("lost")

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse("answered", background=BackgroundTask(fail))

    result = serve(Starlette(routes=[Route("/", answer)]))(EVENT, None)
    assert (result["statusCode"], result["body"]) == (200, "answered")
    assert "LookupError: lost" in caplog.text


def test_cancellation_does_not_end_the_process(serve: Any) -> None:
    with pytest.raises(NoResponse, match="cancelled") as caught:
        serve(failing(asyncio.CancelledError()))(EVENT, None)
    assert isinstance(caught.value, Exception)


def test_exit_ends_the_process(serve: Any) -> None:
    with pytest.raises(SystemExit):
        serve(failing(SystemExit(3)))(EVENT, None)


@pytest.mark.parametrize(
    "messages", [[], [START], [START, {"type": "http.response.body", "body": b"", "more_body": True}]]
)
def test_app_that_returns_without_a_response(messages: list[dict[str, Any]], serve: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            for message in messages:
                await send(message)

    with pytest.raises(NoResponse, match="complete response"):
        serve(app)(EVENT, None)


def test_failure_does_not_outlive_its_invocation(serve: Any) -> None:
    handler = serve(failing(LookupError("lost")))
    well = function_url(HttpRequest(path="/well"))
    with pytest.raises(LookupError):
        handler(EVENT, None)
    assert handler(well, None)["body"] == "well"
    with pytest.raises(LookupError):
        handler(EVENT, None)
    with pytest.raises(UnsupportedEvent):
        handler({}, None)
    assert handler(well, None)["body"] == "well"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"Records": [{"eventSource": "aws:sqs", "body": "x"}]}, ["aws:sqs", "Records"]),
        ({"Records": [{"EventSource": "aws:sns"}]}, ["aws:sns"]),
        ({"Records": [{"cf": {"request": {}}}]}, ["aws:cloudfront"]),
        ({"Records": []}, ["keys: Records"]),
        ({"version": "0", "detail-type": "Object Created", "source": "aws.s3"}, ["EventBridge", "aws.s3"]),
        ({}, ["an empty event"]),
        ([1], ["type list"]),
        ("text", ["type str"]),
        (None, ["type NoneType"]),
        ({"requestContext": {"connectionId": "c", "eventType": "CONNECT"}}, ["requestContext"]),
        ({**http_api(HttpRequest()), "type": "REQUEST", "routeArn": "arn"}, ["routeArn"]),
        (
            {
                "type": "REQUEST",
                "methodArn": "a",
                "resource": "/",
                "path": "/",
                "httpMethod": "GET",
                "requestContext": {},
            },
            ["methodArn"],
        ),
    ],
)
def test_other_events_are_refused_by_name(event: object, words: list[str], serve: Any, echo_app: Starlette) -> None:
    with pytest.raises(UnsupportedEvent, match="Served are HTTP requests") as caught:
        serve(echo_app)(event, None)
    assert isinstance(caught.value, ConfigurationError)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("make", "changes"),
    [
        (function_url, {"requestContext": {}}),
        (function_url, {"requestContext": None}),
        (function_url, {"headers": {"x": None}}),
        (function_url, {"cookies": [None]}),
        (function_url, {"body": "eyJ9X", "isBase64Encoded": True}),
        (rest_api, {"multiValueHeaders": {"x": None}}),
        (rest_api, {"requestContext": []}),
        (load_balancer, {"headers": {"x": 3}}),
    ],
)
def test_damaged_requests_are_refused_and_leave_no_trace(
    make: Maker, changes: dict[str, Any], serve: Any, echo_app: Starlette
) -> None:
    handler = serve(echo_app)
    with pytest.raises(UnsupportedEvent, match=r"is damaged \([A-Za-z]+\)|not an HTTP request"):
        handler({**make(HttpRequest()), **changes}, None)
    assert handler(EVENT, None)["statusCode"] == 200


def test_refusal_shows_no_values(serve: Any, echo_app: Starlette) -> None:
    event = {"token": "secret-value", **{f"key{number}": "x" for number in range(100)}}
    with pytest.raises(UnsupportedEvent) as caught:
        serve(echo_app)(event, None)
    assert "secret-value" not in str(caught.value)
    assert len(str(caught.value)) < 600
