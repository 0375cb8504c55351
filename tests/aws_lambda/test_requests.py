"""What an app sees of a request, whatever brought it."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from emulators.lambda_events import (
    Event,
    HttpRequest,
    function_url,
    http_api,
    http_api_v1,
    load_balancer,
    rest_api,
)

Maker = Callable[[HttpRequest], Event]
KINDS: dict[str, Maker] = {
    "function url": function_url,
    "http api": http_api,
    "http api, payload 1.0": http_api_v1,
    "rest api": rest_api,
    "alb": load_balancer,
    "alb, multi-value": partial(load_balancer, multi_value=True),
}
KEEPS_ENCODING = ("function url", "rest api", "alb", "alb, multi-value")
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS.keys())
encoded_kinds = pytest.mark.parametrize("make", [KINDS[name] for name in KEEPS_ENCODING], ids=KEEPS_ENCODING)


@pytest.fixture
def ask(serve: Any, echo_app: Starlette) -> Callable[..., dict[str, Any]]:
    def send(event: Event, **options: Any) -> dict[str, Any]:
        result = serve(echo_app, **options)(event, None)
        assert result["statusCode"] == 200, result
        return json.loads(result["body"])

    return send


@every_kind
def test_request_arrives(make: Maker, ask: Any) -> None:
    sent = HttpRequest(
        "POST",
        "/items/7",
        "a=1&empty=&text=x%26y%3D%C3%A9+z",
        [("Content-Type", "application/json"), ("X-Trace", "t1")],
        ["session=abc", "theme=dark"],
        b'{"a": "\xc3\xa9"}',
    )
    seen = ask(make(sent))
    assert seen["method"] == "POST"
    assert seen["path"].endswith("/items/7")
    assert seen["route"] == {"item": "7"}
    assert seen["parameters"] == [["a", "1"], ["empty", ""], ["text", "x&y=é z"]]
    assert seen["cookies"] == {"session": "abc", "theme": "dark"}
    assert [value for name, value in seen["headers"] if name == "cookie"] == ["session=abc; theme=dark"]
    assert ["x-trace", "t1"] in seen["headers"]
    assert seen["body"].encode("latin-1") == sent.body
    assert seen["client"] == ["203.0.113.7", 0]


@every_kind
def test_binary_body_arrives(make: Maker, ask: Any) -> None:
    body = bytes(range(256))
    headers = [("content-type", "application/octet-stream")]
    assert ask(make(HttpRequest("POST", "/", headers=headers, body=body)))["body"].encode("latin-1") == body


@every_kind
def test_repeated_query_parameters(make: Maker, ask: Any) -> None:
    seen = ask(make(HttpRequest(path="/", query="a=1&a=2")))
    single = make is KINDS["alb"]
    assert seen["parameters"] == ([["a", "2"]] if single else [["a", "1"], ["a", "2"]])


@pytest.mark.parametrize("make", [rest_api, http_api_v1, KINDS["alb, multi-value"]])
def test_repeated_headers_stay_apart(make: Maker, ask: Any) -> None:
    seen = ask(make(HttpRequest(path="/", headers=[("X-A", "1"), ("X-A", "2")])))
    assert [value for name, value in seen["headers"] if name == "x-a"] == ["1", "2"]


def test_cookies_on_several_lines_become_one(ask: Any) -> None:
    event = load_balancer(HttpRequest(headers=[("cookie", "a=1"), ("cookie", "b=2")]), multi_value=True)
    assert ask(event)["cookies"] == {"a": "1", "b": "2"}


@encoded_kinds
def test_path_is_decoded_once(make: Maker, ask: Any) -> None:
    seen = ask(make(HttpRequest(path="/items/a%20b%2541%C3%A9")))
    assert seen["route"] == {"item": "a b%41é"}
    assert seen["raw_path"].endswith("/items/a%20b%2541%C3%A9")


@encoded_kinds
@pytest.mark.parametrize("slash", ["%2F", "%2f"])
def test_encoded_slash_separates_nothing(make: Maker, slash: str, ask: Any) -> None:
    seen = ask(make(HttpRequest(path=f"/items/a{slash}b")))
    assert seen["route"] == {"item": "a%2Fb"}
    assert seen["raw_path"].endswith(f"/items/a{slash}b")


@pytest.mark.parametrize("make", [http_api, http_api_v1])
def test_path_that_the_platform_decoded_is_not_decoded_again(make: Maker, ask: Any) -> None:
    event = make(HttpRequest(path="/items/x"))
    event["rawPath" if "rawPath" in event else "path"] = "/items/50%41 é"
    seen = ask(event)
    assert seen["route"] == {"item": "50%41 é"}
    assert seen["raw_path"] == "/items/50%2541%20%C3%A9"


def test_alb_query_is_passed_as_it_came(ask: Any) -> None:
    assert ask(load_balancer(HttpRequest(path="/", query="a=%FF&b=x+y%2B")))["query"] == "a=%FF&b=x+y%2B"


@pytest.mark.parametrize(
    ("event", "root", "url"),
    [
        (function_url(HttpRequest(path="/items/1")), "", "https://abcdefgh.lambda-url.eu-central-1.on.aws/items/1"),
        (http_api(HttpRequest(path="/items/1")), "", "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/items/1"),
        (
            http_api(HttpRequest(path="/items/1"), stage="prod"),
            "/prod",
            "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/prod/items/1",
        ),
        (
            http_api_v1(HttpRequest(path="/items/1"), stage="prod"),
            "/prod",
            "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/prod/items/1",
        ),
        (
            rest_api(HttpRequest(path="/items/1")),
            "/prod",
            "https://a1b2c3.execute-api.eu-central-1.amazonaws.com/prod/items/1",
        ),
        (http_api(HttpRequest(path="/items/1"), domain="x.example"), "/bot", "https://x.example/bot/items/1"),
        (
            http_api(HttpRequest(path="/items/1"), domain="x.example", stage="prod"),
            "/bot",
            "https://x.example/bot/items/1",
        ),
        (
            http_api_v1(HttpRequest(path="/items/1"), domain="x.example", base_path="/bot"),
            "/bot",
            "https://x.example/bot/items/1",
        ),
        (
            rest_api(HttpRequest(path="/items/1"), domain="x.example", base_path="/bot"),
            "/bot",
            "https://x.example/bot/items/1",
        ),
        (rest_api(HttpRequest(path="/items/1"), domain="x.example"), "", "https://x.example/items/1"),
        (
            load_balancer(HttpRequest(path="/bot/items/1")),
            "/bot",
            "http://lb-1.eu-central-1.elb.amazonaws.com/bot/items/1",
        ),
        (
            function_url(HttpRequest(path="/bot/items/1")),
            "/bot",
            "https://abcdefgh.lambda-url.eu-central-1.on.aws/bot/items/1",
        ),
    ],
)
def test_platform_prefix_is_the_root_path(event: Event, root: str, url: str, ask: Any) -> None:
    seen = ask(event, base_path="/bot/")
    assert seen["route"] == {"item": "1"}
    assert seen["root_path"] == root
    assert seen["url"] == url
    assert seen["path"] == seen["raw_path"] == f"{root}/items/1"


@pytest.mark.parametrize("base", ["/bot", "bot", "/bot/"])
def test_base_path_ends_at_a_segment(base: str, ask: Any) -> None:
    seen = ask(rest_api(HttpRequest(path="/bottle"), domain="x.example"), base_path=base)
    assert (seen["path"], seen["root_path"]) == ("/bottle", "")


def test_stage_ends_at_a_segment(ask: Any) -> None:
    event = http_api(HttpRequest(path="/x"), stage="prod")
    event["rawPath"] = "/production"
    seen = ask(event)
    assert (seen["path"], seen["root_path"]) == ("/production", "")


@pytest.mark.parametrize(
    "event",
    [
        http_api(HttpRequest(path=""), stage="prod"),
        http_api_v1(HttpRequest(path=""), stage="prod"),
        rest_api(HttpRequest(path=""), stage="prod"),
        rest_api(HttpRequest(path=""), domain="x.example", base_path="/prod"),
    ],
)
def test_prefix_alone_is_the_root_route(event: Event, serve: Any) -> None:
    async def root(request: Request) -> PlainTextResponse:
        return PlainTextResponse("root")

    handler = serve(Starlette(routes=[Route("/", root)]), base_path="/prod")
    assert handler(event, None)["body"] == "root"


def test_app_with_a_route_named_like_its_stage(ask: Any) -> None:
    assert ask(rest_api(HttpRequest(path="/prod/x")))["url"].endswith("/prod/prod/x")
    assert ask(http_api(HttpRequest(path="/prod/x"), stage="prod"))["url"].endswith("/prod/prod/x")


@pytest.mark.parametrize(
    ("host", "server"),
    [
        ("example.com:8443", ["example.com", 8443]),
        ("[::1]:80", ["::1", 80]),
        ("[::1]", ["::1", 80]),
        ("a:b", ["a:b", 80]),
        ("a:" + "9" * 5000, ["a:" + "9" * 5000, 80]),
    ],
)
def test_any_host_header_is_survived(host: str, server: list[object], ask: Any) -> None:
    event = load_balancer(HttpRequest())
    event["headers"]["host"] = host
    assert ask(event)["server"] == server


@pytest.mark.parametrize(
    ("entry", "address"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("198.51.100.9:4711", "198.51.100.9"),
        ("2001:db8::9", "2001:db8::9"),
        ("[2001:db8::9]:4711", "2001:db8::9"),
    ],
)
def test_alb_client_is_whom_the_load_balancer_saw(entry: str, address: str, ask: Any) -> None:
    forged = HttpRequest(headers=[("X-Forwarded-For", "10.0.0.1")], source_ip=entry)
    assert ask(load_balancer(forged))["client"] == [address, 0]


@pytest.mark.parametrize("multi_value", [False, True])
def test_alb_health_check(multi_value: bool, ask: Any) -> None:
    event = load_balancer(HttpRequest(), multi_value=multi_value)
    event["multiValueHeaders" if multi_value else "headers"] = {}
    seen = ask(event)
    assert (seen["client"], seen["server"], seen["headers"]) == (None, None, [])


@every_kind
def test_absent_parts(make: Maker, ask: Any) -> None:
    event = make(HttpRequest(path="/x"))
    for name in ("headers", "queryStringParameters", "multiValueQueryStringParameters", "body", "cookies"):
        event[name] = None
    event.pop("multiValueHeaders", None)
    seen = ask(event)
    assert (seen["headers"], seen["query"], seen["body"]) == ([], "", "")


@every_kind
def test_event_and_context_are_in_the_scope(make: Maker, serve: Any) -> None:
    seen: list[object] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            seen.extend([scope["aws.event"], scope["aws.context"]])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    context, event = object(), make(HttpRequest())
    serve(app)(event, context)
    assert seen[0] is event
    assert seen[1] is context
