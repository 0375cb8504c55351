"""HTTP events through the runtime: what the app sees, and what the trigger gets back, whole or as a stream."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any, cast

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from agent_framework_hosting_aws_lambda.budget import budget_for
from agent_framework_hosting_aws_lambda.events import Context, Settings, http_event
from emulators.lambda_events import Event, HttpRequest, function_url, http_api, load_balancer, rest_api, sqs
from emulators.lambda_runtime_api import Answer
from scripts.toolchain import SAM_HOME
from tests.aws_lambda.test_requests import KINDS, Maker, every_kind

from .conftest import STREAMS, serving

ALL = bytes(range(256))
streamed_kinds = pytest.mark.parametrize("make", [function_url, rest_api], ids=STREAMS)


async def everything(request: Request) -> Response:
    """Answer with what is hard to hand on; and tell what came."""
    response = JSONResponse(
        {
            "body": (await request.body()).decode("latin-1"),
            "cookies": request.cookies,
            "x": request.headers.getlist("x-many"),
            "request": request.scope["aws.context"].aws_request_id,
        },
        201,
        {"X-Odd": "1"},
    )
    response.set_cookie("a", "1", httponly=True)
    response.set_cookie("b", "2")
    response.headers.append("x-many", "one")
    response.headers.append("X-MANY", "two")
    return response


async def binary(request: Request) -> Response:
    return Response(ALL, media_type="application/octet-stream")


async def nothing(request: Request) -> Response:
    return Response(status_code=204)


async def parts(request: Request) -> StreamingResponse:
    return StreamingResponse(iter(["é", "€"]), media_type="text/plain", headers={"Connection": "close"})


APP = Starlette(
    routes=[
        Route("/everything", everything, methods=["GET", "POST", "HEAD"]),
        Route("/binary", binary),
        Route("/nothing", nothing, methods=["GET", "DELETE"]),
        Route("/parts", parts),
        Route("/{rest:path}", lambda request: PlainTextResponse(request.url.path), methods=["GET", "POST"]),
    ]
)


def values(answer: Answer, name: str) -> list[str]:
    """Give all values of a header, in whichever form the trigger takes them."""
    http = answer.http
    several = http.get("multiValueHeaders") or {}
    single = {key.lower(): [value] for key, value in answer.headers.items() if key.lower() not in several}
    return [part for value in [*several.get(name, []), *single.get(name, [])] for part in re.split(", ?", value)]


@every_kind
async def test_a_request_and_its_response(make: Maker) -> None:
    sent = HttpRequest(
        "POST",
        "/everything",
        headers=[("CONTENT-TYPE", "application/octet-stream"), ("x-MANY", "one")],
        cookies=["c=3", "d=4"],
        body=ALL,
    )
    async with serving(APP) as it:
        call = it.invoke(make(sent))
        answer = await call.answer()
    assert (answer.mode, answer.status) == ("buffered", 201)
    said = json.loads(answer.payload)
    assert said == {"body": ALL.decode("latin-1"), "cookies": {"c": "3", "d": "4"}, "x": ["one"], "request": call.id}
    assert values(answer, "x-odd") == ["1"]
    assert values(answer, "x-many") == ["one", "two"]
    assert sorted(cookie[:3] for cookie in spelled(answer)) == ["a=1", "b=2"]


def spelled(answer: Answer) -> list[str]:
    """Give the cookies, also where a load balancer wants each under another spelling of the header."""
    several = (answer.http.get("multiValueHeaders") or {}).get("set-cookie", [])
    single = [value for name, value in answer.headers.items() if name.lower() == "set-cookie"]
    return [*several, *single, *answer.cookies]


@every_kind
async def test_bodies_and_the_lack_of_them(make: Maker) -> None:
    async with serving(APP) as it:
        answers = [
            await it.invoke(make(HttpRequest(method, path))).answer()
            for method, path in (("GET", "/binary"), ("DELETE", "/nothing"), ("HEAD", "/everything"), ("GET", "/parts"))
        ]
    assert [(answer.status, answer.http["isBase64Encoded"]) for answer in answers] == [
        (200, True),
        (204, False),
        (201, False),
        (200, False),
    ]
    assert [answer.payload for answer in answers] == [ALL, b"", b"", "é€".encode()]


@streamed_kinds
async def test_a_request_and_its_streamed_response(make: Maker) -> None:
    async with serving(APP, streaming=STREAMS) as it:
        answer = await it.invoke(make(HttpRequest("POST", "/everything", cookies=["c=3"], body=ALL))).answer()
    assert (answer.mode, answer.status, answer.error) == ("streaming", 201, None)
    assert answer.content_type == "application/vnd.awslambda.http-integration-response"
    assert json.loads(answer.payload)["body"] == ALL.decode("latin-1")
    assert values(answer, "x-many") == ["one", "two"]
    assert sorted(cookie[:3] for cookie in spelled(answer)) == ["a=1", "b=2"]
    # How it is framed is the platform's.
    assert values(answer, "content-length") == []


@streamed_kinds
async def test_streams_of_bytes_and_of_none(make: Maker) -> None:
    async with serving(APP, streaming=STREAMS) as it:
        answers = [
            await it.invoke(make(HttpRequest(method, path))).answer()
            for method, path in (("GET", "/binary"), ("DELETE", "/nothing"), ("HEAD", "/everything"), ("GET", "/parts"))
        ]
    assert [(answer.mode, answer.status, answer.payload) for answer in answers] == [
        ("streaming", 200, ALL),
        ("streaming", 204, b""),
        ("streaming", 201, b""),
        ("streaming", 200, "é€".encode()),
    ]
    assert values(answers[-1], "connection") == []


@pytest.mark.parametrize("words", ["", "rest_api", " function_url ,rest_api"])
async def test_who_gets_streams_is_as_the_integrations_are_set_up(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AF_HOSTING_STREAMING", words)
    async with serving(APP, streaming=None) as it:
        modes = {name: (await it.invoke(make(HttpRequest())).answer()).mode for name, make in KINDS.items()}
    named = {"function_url": "function url", "rest_api": "rest api"}
    streaming = {kind for word, kind in named.items() if word in words}
    assert modes == {name: "streaming" if name in streaming else "buffered" for name in KINDS}


async def test_headers_may_lack_and_be_spelled_in_any_way() -> None:
    bare = load_balancer(HttpRequest(path="/health"))
    bare["headers"] = None
    odd = function_url(HttpRequest(path="/everything"))
    odd["headers"] = {"X-MANY": "one", "HOST": "example.org:443", "coOkie": "c=3"}
    absent = rest_api(HttpRequest(path="/x"))
    absent |= {"headers": None, "multiValueHeaders": None, "multiValueQueryStringParameters": None, "body": None}
    async with serving(APP) as it:
        answers = [await it.invoke(event).answer() for event in (bare, odd, absent)]
    assert [answer.status for answer in answers] == [200, 201, 200]
    assert json.loads(answers[1].payload)["x"] == ["one"]
    assert json.loads(answers[1].payload)["cookies"] == {"c": "3"}


def samples() -> Path:
    """Where AWS's own sample events are, in the SAM CLI."""
    (folder,) = SAM_HOME.glob("lib/python*/site-packages/samcli/lib/generated_sample_events")
    return folder


def sample(service: str, kind: str) -> Any:
    """Fill a sample event in with its defaults."""
    described = json.loads((samples() / "event-mapping.json").read_text())[service][kind]
    tags: dict[str, dict[str, str]] = {name.replace("-", "_"): tag for name, tag in described["tags"].items()}
    text = (samples() / "events" / service / f"{described['filename']}.json").read_text()
    return json.loads(re.sub(r'"?\{\{\{(\w+)\}\}\}"?', lambda hit: filled(hit[0], tags.get(hit[1], {})), text))


def filled(place: str, tag: dict[str, str]) -> str:
    value = tag.get("default", "x")
    if tag.get("encoding") == "base64":
        value = b64encode(value.encode()).decode()
    if tag.get("type") == "dict":
        return value
    return re.sub(r"\{.*\}", lambda _: json.dumps(value)[1:-1], place)


@pytest.mark.needs("sam")
async def test_the_sample_events_of_the_sam_cli() -> None:
    async with serving(APP, on_event=lambda event, context: sorted(event)) as it:
        for service, kind in (("apigateway", "aws-proxy"), ("apigateway", "http-api-proxy"), ("alb", "request")):
            answer = await it.invoke(sample(service, kind)).answer()
            assert answer.status == 200, (kind, answer)
            assert answer.payload.startswith(b"/"), kind
        for service, kind in (("sqs", "receive-message"), ("cloudwatch", "scheduled-event"), ("s3", "put")):
            answer = await it.invoke(sample(service, kind)).answer()
            assert answer.error is None, (kind, answer)
        authorizer = await it.invoke(sample("apigateway", "authorizer")).answer()
        assert "type" in authorizer.json


@pytest.mark.parametrize("bad", ["%", "=", "eyJ9X", "é"])
@pytest.mark.parametrize("make", [function_url, http_api, rest_api, load_balancer])
async def test_base64_that_is_none_is_refused(make: Maker, bad: str) -> None:
    event: Event = {**make(HttpRequest("POST", "/x")), "body": bad, "isBase64Encoded": True}
    async with serving(APP) as it:
        refused = await it.invoke(event).answer()
        after = await it.invoke(make(HttpRequest(path="/x"))).answer()
    assert refused.error is not None and refused.error.type == "UnsupportedEvent"
    assert "damaged" in refused.error.message and bad not in refused.error.message.partition("damaged")[2][:12]
    assert after.status == 200


async def test_a_queue_is_not_taken_for_http() -> None:
    async with serving(APP) as it:
        answer = await it.invoke(sqs("{}")).answer()
    assert answer.error is not None and "aws:sqs" in answer.error.message


async def test_a_schedule_and_a_queue_of_the_operators_own_are_given_to_the_hook() -> None:
    own = {"version": "0", "detail-type": "Scheduled Event", "source": "aws.events"}
    async with serving(APP, on_event=lambda event, context: "own") as it:
        for event in (own, sqs('{"order": 7}')):
            assert (await it.invoke(event).answer()).json == "own"
        assert (await it.invoke({"af-hosting": "sweep"}).answer()).json == {"swept": False}
    async with serving(APP) as it:
        assert (await it.invoke(own).answer()).json == {"swept": False}


@pytest.mark.parametrize(("make", "fits"), [(load_balancer, False), (rest_api, True)])
async def test_a_load_balancer_takes_less(make: Maker, fits: bool) -> None:
    async def much(request: Request) -> Response:
        return PlainTextResponse("x" * 2**20)

    async with serving(Starlette(routes=[Route("/", much)])) as it:
        answer = await it.invoke(make(HttpRequest())).answer()
    assert (answer.status, b"response_too_large" in answer.payload) == ((200, False) if fits else (500, True))


def test_an_http_api_does_not_wait_for_as_long_as_a_function_may_run() -> None:
    budget = budget_for(300.0, 1000.0)
    settings = Settings()
    for make, seconds in ((http_api, 30.0), (function_url, 300.0), (rest_api, 300.0), (load_balancer, 300.0)):
        http = http_event(make(HttpRequest()), cast(Context, None), settings)
        assert http is not None
        assert budget.within(http.patience, 1000.0) == budget_for(seconds, 1000.0)
