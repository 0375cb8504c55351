"""Whatever bytes a client sends arrive, and come back."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, quote_plus, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response

from agent_framework_hosting_aws_lambda import LambdaHandler
from emulators.lambda_events import HttpRequest

from .conftest import StubHost, echo
from .test_requests import KEEPS_ENCODING, KINDS

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
# RFC 9110, section 5.5: field values hold no control characters and no blanks at their ends.
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=126))


async def reflect(request: Request) -> Response:
    media_type = request.headers.get("content-type")
    return Response(await request.body(), headers={"content-type": media_type} if media_type else None)


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Without routes: those of Starlette match no line feed in a path."""
    if scope["type"] == "http":
        answer = reflect if scope["path"].endswith("/reflect") else echo
        response = await answer(Request(scope, receive))
        await response(scope, receive, send)


@pytest.fixture(scope="module")
def handler() -> Iterator[LambdaHandler]:
    made = LambdaHandler(StubHost(app))
    yield made
    made.close()


def ask(handler: LambdaHandler, event: dict[str, Any]) -> dict[str, Any]:
    # Through JSON, as between Lambda and the runtime.
    result = json.loads(json.dumps(handler(json.loads(json.dumps(event)), None)))  # type: ignore[arg-type]
    return json.loads(result["body"])


@given(kind=st.sampled_from(KEEPS_ENCODING), segments=st.lists(TEXT, min_size=1, max_size=4))
def test_path(handler: LambdaHandler, kind: str, segments: list[str]) -> None:
    raw = "/" + "/".join(quote(segment, safe="") for segment in segments)
    seen = ask(handler, KINDS[kind](HttpRequest(path=raw)))
    assert seen["raw_path"] == seen["root_path"] + raw
    arrived = seen["path"].removeprefix(seen["root_path"]).split("/")[1:]
    assert arrived == [segment.replace("/", "%2F") for segment in segments]


@given(kind=st.sampled_from(KEEPS_ENCODING), raw=st.binary(max_size=20))
def test_path_of_any_bytes(handler: LambdaHandler, kind: str, raw: bytes) -> None:
    sent = "/x" + quote(raw, safe="")
    seen = ask(handler, KINDS[kind](HttpRequest(path=sent)))
    assert seen["raw_path"].endswith(sent)
    assert seen["path"].count("/") == seen["raw_path"].count("/")


@given(segments=st.lists(TEXT.filter(lambda text: "/" not in text and "%" not in text), min_size=1, max_size=4))
def test_path_that_an_http_api_has_decoded(handler: LambdaHandler, segments: list[str]) -> None:
    raw = "/" + "/".join(quote(segment, safe="") for segment in segments)
    seen = ask(handler, KINDS["http api"](HttpRequest(path=raw)))
    assert seen["path"] == "/" + "/".join(segments)
    assert unquote(seen["raw_path"]) == seen["path"]


@given(kind=st.sampled_from(list(KINDS)), pairs=st.dictionaries(TEXT.filter(bool), TEXT, max_size=4))
def test_query(handler: LambdaHandler, kind: str, pairs: dict[str, str]) -> None:
    query = "&".join(f"{quote_plus(name)}={quote_plus(value)}" for name, value in pairs.items())
    seen = ask(handler, KINDS[kind](HttpRequest(path="/", query=query)))
    assert dict(map(tuple, seen["parameters"])) == pairs


@given(kind=st.sampled_from(["function url", "http api", "alb"]), query=st.binary(max_size=30))
def test_query_of_any_bytes(handler: LambdaHandler, kind: str, query: bytes) -> None:
    sent = f"q={quote(query, safe='')}"
    assert ask(handler, KINDS[kind](HttpRequest(path="/", query=sent)))["query"] == sent


@given(kind=st.sampled_from(list(KINDS)), value=VALUE)
def test_header(handler: LambdaHandler, kind: str, value: str) -> None:
    seen = ask(handler, KINDS[kind](HttpRequest(path="/", headers=[("X-Some", value)])))
    assert [text for name, text in seen["headers"] if name == "x-some"] == [value]


@given(
    kind=st.sampled_from(list(KINDS)),
    body=st.binary() | TEXT.map(str.encode),
    media_type=st.sampled_from(
        ["application/json", "text/plain", "application/octet-stream", "application/x+json", ""]
    ),
)
def test_body_and_back(handler: LambdaHandler, kind: str, body: bytes, media_type: str) -> None:
    headers = [("content-type", media_type)] if media_type else []
    event = KINDS[kind](HttpRequest("POST", "/reflect", headers=headers, body=body))
    result = json.loads(json.dumps(handler(json.loads(json.dumps(event)), None)))  # type: ignore[arg-type]
    returned = b64decode(result["body"]) if result["isBase64Encoded"] else result["body"].encode()
    assert returned == body
