"""What a trigger gets of a response."""

from __future__ import annotations

import gzip
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from emulators.lambda_events import Event, HttpRequest, function_url, http_api, http_api_v1, load_balancer, rest_api

from .test_requests import Maker, every_kind


def app_for(response: Response) -> Starlette:
    async def give(request: Request) -> Response:
        return response

    return Starlette(routes=[Route("/", give, methods=["GET", "POST", "HEAD"])])


def content(result: dict[str, Any]) -> bytes:
    return b64decode(result["body"]) if result["isBase64Encoded"] else result["body"].encode()


def values(result: dict[str, Any], name: str) -> list[str]:
    """Collect the values of a header as the platform will send them."""
    found = [value for key, value in result.get("headers", {}).items() if key.lower() == name]
    found += result.get("multiValueHeaders", {}).get(name, [])
    return found + (result.get("cookies", []) if name == "set-cookie" else [])


@every_kind
@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "application/problem+json",
        "Application/Vnd.Api+JSON; charset=utf-8",
        "text/event-stream",
        "image/svg+xml",
        None,
    ],
)
def test_text_goes_as_it_is(make: Maker, media_type: str | None, serve: Any) -> None:
    headers = {"content-type": media_type} if media_type else {}
    result = serve(app_for(Response("é€".encode(), headers=headers)))(make(HttpRequest()), None)
    assert (result["body"], result["isBase64Encoded"]) == ("é€", False)
    assert values(result, "content-type") == ([media_type] if media_type else [])


@every_kind
@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (bytes(range(256)), {"content-type": "application/octet-stream"}),
        (b"plain", {"content-type": "application/zip"}),
        (gzip.compress(b"text", mtime=0), {"content-type": "text/plain", "content-encoding": "gzip"}),
        ("é".encode("latin-1"), {"content-type": "text/plain; charset=latin-1"}),
        (b"\xff\x00", {}),
    ],
)
def test_everything_else_is_base64(make: Maker, body: bytes, headers: dict[str, str], serve: Any) -> None:
    result = serve(app_for(Response(body, headers=headers)))(make(HttpRequest()), None)
    assert result["isBase64Encoded"] is True
    assert content(result) == body


@every_kind
def test_several_cookies(make: Maker, serve: Any) -> None:
    response = PlainTextResponse("x")
    for name in "abc":
        response.set_cookie(name, "1")
    result = serve(app_for(response))(make(HttpRequest()), None)
    assert values(result, "set-cookie") == [f"{name}=1; Path=/; SameSite=lax" for name in "abc"]


def test_where_cookies_go(serve: Any) -> None:
    response = PlainTextResponse("x")
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    handler = serve(app_for(response))
    both = ["a=1; Path=/; SameSite=lax", "b=2; Path=/; SameSite=lax"]
    assert handler(function_url(HttpRequest()), None)["cookies"] == both
    assert handler(http_api(HttpRequest()), None)["cookies"] == both
    assert handler(rest_api(HttpRequest()), None)["multiValueHeaders"] == {"set-cookie": both}
    assert handler(http_api_v1(HttpRequest()), None)["multiValueHeaders"] == {"set-cookie": both}
    assert handler(load_balancer(HttpRequest(), multi_value=True), None)["multiValueHeaders"]["set-cookie"] == both
    assert handler(load_balancer(HttpRequest()), None)["headers"].keys() >= {"set-cookie", "set-cookiE"}


def test_repeated_headers(serve: Any) -> None:
    response = PlainTextResponse("x")
    response.headers.append("vary", "a")
    response.headers.append("vary", "b")
    handler = serve(app_for(response))
    assert handler(http_api(HttpRequest()), None)["headers"]["vary"] == "a,b"
    assert handler(rest_api(HttpRequest()), None)["multiValueHeaders"]["vary"] == ["a", "b"]
    assert handler(load_balancer(HttpRequest()), None)["headers"]["vary"] == "a, b"
    assert handler(load_balancer(HttpRequest(), multi_value=True), None)["multiValueHeaders"]["vary"] == ["a", "b"]


@every_kind
def test_excluded_headers(make: Maker, serve: Any) -> None:
    response = PlainTextResponse("x", headers={"X-Internal": "1", "x-kept": "1"})
    response.set_cookie("a", "1")
    response.set_cookie("b", "2")
    result = serve(app_for(response), exclude_headers=["X-INTERNAL", "Set-Cookie"])(make(HttpRequest()), None)
    assert values(result, "x-internal") == values(result, "set-cookie") == []
    assert values(result, "x-kept") == ["1"]


@every_kind
def test_header_beyond_ascii(make: Maker, serve: Any) -> None:
    response = PlainTextResponse("x", headers={"x-name": "é"})
    response.raw_headers.append((b"x-utf8", "€".encode()))
    result = serve(app_for(response))(make(HttpRequest()), None)
    assert values(result, "x-name") == ["é"]
    assert values(result, "x-utf8") == ["€"]


@every_kind
@pytest.mark.parametrize(
    ("method", "response"),
    [
        ("GET", Response(status_code=204)),
        ("GET", Response(b"not modified", status_code=304, headers={"etag": "1"})),
        ("HEAD", JSONResponse({"a": 1})),
    ],
)
def test_responses_without_a_body(make: Maker, method: str, response: Response, serve: Any) -> None:
    result = serve(app_for(response))(make(HttpRequest(method)), None)
    assert (result["statusCode"], result["body"], result["isBase64Encoded"]) == (response.status_code, "", False)
    assert values(result, "content-type") == [
        value for name, value in response.headers.items() if name == "content-type"
    ]


@every_kind
def test_stream_is_buffered(make: Maker, serve: Any) -> None:
    async def chunks() -> AsyncIterator[str]:
        for text in ("data: 1\n\n", "data: 2\n\n"):
            yield text

    handler = serve(app_for(StreamingResponse(chunks(), media_type="text/event-stream")))
    assert handler(make(HttpRequest()), None)["body"] == "data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("event", [function_url(HttpRequest()), rest_api(HttpRequest()), load_balancer(HttpRequest())])
def test_status_is_kept(event: Event, serve: Any) -> None:
    assert serve(app_for(JSONResponse({}, status_code=409)))(event, None)["statusCode"] == 409
