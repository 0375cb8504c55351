"""The translation of calls without a web extension: pure functions."""

from __future__ import annotations

import azure.functions as func
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_framework_hosting_azure_functions.buffered import client_address, combined, http_scope

SEGMENT = st.text(alphabet=st.characters(codec="utf-8", exclude_categories=("Cs",)), min_size=1, max_size=20)


def request(url: str = "https://example.org/a%20b?x=%201", **headers: str) -> func.HttpRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return func.HttpRequest("post", url, headers=named, body=b"body")


def test_a_scope_has_all_that_the_specification_asks_for() -> None:
    scope = http_scope(request(X_Name="é"), root_path="/api", state={"a": 1})
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert scope["method"] == "POST"
    assert (scope["path"], scope["raw_path"], scope["query_string"]) == ("/a b", b"/a%20b", b"x=%201")
    assert scope["headers"] == [(b"x-name", "é".encode())]
    assert scope["server"] == ("example.org", 443)
    assert (scope["client"], scope["scheme"], scope["root_path"]) == (None, "https", "/api")


@given(st.lists(SEGMENT, min_size=1, max_size=4))
def test_paths_survive(segments: list[str]) -> None:
    from urllib.parse import quote

    raw = "/" + "/".join(quote(segment, safe="") for segment in segments)
    scope = http_scope(request(f"http://h:7071{raw}"), root_path="", state={})
    assert scope["raw_path"] == raw.encode()
    assert scope["path"] == "/" + "/".join(segments)
    assert scope["server"] == ("h", 7071)


def test_an_unknown_forwarded_scheme_is_not_believed() -> None:
    assert http_scope(request(X_Forwarded_Proto="gopher"), root_path="", state={})["scheme"] == "https"
    assert http_scope(request(X_Forwarded_Proto="http"), root_path="", state={})["scheme"] == "http"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("198.51.100.7", ("198.51.100.7", 0)),
        ("198.51.100.7:4711", ("198.51.100.7", 4711)),
        ("203.0.113.9, 198.51.100.7:4711", ("198.51.100.7", 4711)),
        ("[2001:db8::1]:443", ("2001:db8::1", 443)),
        ("[2001:db8::1]", ("2001:db8::1", 0)),
        ("2001:db8::1", ("2001:db8::1", 0)),
        ("198.51.100.7:port", ("198.51.100.7", 0)),
        (" ", None),
    ],
)
def test_client_addresses(header: str, expected: tuple[str, int] | None) -> None:
    assert client_address(header) == expected


def test_repeated_headers_become_one_line_and_cookies_stay_apart() -> None:
    headers = [(b"X-A", b"1"), (b"set-cookie", b"a=1"), (b"x-a", b"2"), (b"Set-Cookie", b"b=2")]
    assert combined(headers) == [("x-a", "1, 2"), ("set-cookie", "a=1"), ("set-cookie", "b=2")]
