"""What an app sees of a call, and a caller of its answer, through the real worker."""

from __future__ import annotations

import asyncio
import hashlib
from http.cookies import SimpleCookie

import httpx2
import pytest

from .conftest import Echo

pytestmark = pytest.mark.needs("functions-worker")


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
async def test_every_listed_method_reaches_the_app(echo: Echo, method: str) -> None:
    async with echo.client() as client:
        assert (await client.request(method, "/echo")).json()["method"] == method


async def test_head_has_no_body(echo: Echo) -> None:
    async with echo.client() as client:
        response = await client.head("/events?count=1&pause=0")
    assert response.status_code == 200
    assert response.content == b""


async def test_paths_and_queries_arrive_as_they_were_sent(echo: Echo) -> None:
    async with echo.client() as client:
        seen = (await client.get("/echo/a%20b%2Fc/%C3%A9?x=1&x=2&y=%26")).json()
    assert seen["raw_path"] == "/echo/a%20b%2Fc/%C3%A9"
    assert seen["path"] == "/echo/a b/c/é"
    assert seen["query"] == "x=1&x=2&y=%26"
    assert seen["root_path"] == ""
    # The platform's own route parameter does not leak in.
    assert seen["parameters"] == {"rest": "a b/c/é"}


async def test_repeated_request_headers(echo: Echo) -> None:
    async with echo.client() as client:
        seen = (await client.get("/echo", headers=[("x-many", "a"), ("x-many", "b")])).json()
    values = [value for name, value in seen["headers"] if name == "x-many"]
    # Without a web extension the Functions host joins them before the worker sees them.
    assert values == (["a", "b"] if echo.mode == "streaming" else ["a,b"])


async def test_repeated_response_headers_and_cookies(echo: Echo) -> None:
    async with echo.client() as client:
        response = await client.get("/cookies")
    assert ", ".join(response.headers.get_list("x-many")) == "a, b"
    cookies = [SimpleCookie(line) for line in response.headers.get_list("set-cookie")]
    assert [list(cookie) for cookie in cookies] == [["one"], ["two"]]
    one, two = cookies[0]["one"], cookies[1]["two"]
    assert (one.value, one["max-age"], one["httponly"], one["secure"]) == ("1", "60", True, True)
    assert (one["samesite"], two["path"]) == ("lax", "/two")


async def test_the_caller_is_the_one_that_the_platform_forwards(echo: Echo) -> None:
    headers = {"x-forwarded-for": "203.0.113.9, 198.51.100.7:4711", "x-forwarded-proto": "https"}
    async with echo.client() as client:
        seen = (await client.get("/echo", headers=headers)).json()
    assert seen["client"] == ["198.51.100.7", 4711]
    assert seen["scheme"] == "https"


async def test_the_app_learns_of_the_invocation(echo: Echo) -> None:
    async with echo.client() as client:
        level, name, invocation_id = (await client.get("/echo")).json()["call"]
    assert (level, name) == ("anonymous", "agent_host")
    assert invocation_id


async def test_lifespan_state_reaches_requests(echo: Echo) -> None:
    async with echo.client() as client:
        assert (await client.get("/echo")).json()["state"] == "green"


async def test_big_bodies_both_ways(echo: Echo) -> None:
    body = b"0123456789abcdef" * 2**19
    async with echo.client() as client:
        seen = (await client.post("/digest", content=body)).json()
        whole = await client.get("/whole")
    assert seen == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}
    assert whole.content == b"0123456789abcdef" * 2**16 * 5


@pytest.mark.parametrize("path", ["/", "/docs", "/openapi.json"])
async def test_no_path_belongs_to_somebody_else(echo: Echo, path: str) -> None:
    async with echo.client() as client:
        assert (await client.get(path)).text == "ours"


async def test_an_unknown_path_is_the_apps_404(echo: Echo) -> None:
    async with echo.client() as client:
        response = await client.get("/nowhere")
    assert (response.status_code, response.text) == (404, "Not Found")


async def test_an_exception_in_the_app_is_its_500_and_the_next_call_is_served(echo: Echo) -> None:
    async with echo.client() as client:
        response = await client.get("/boom")
        assert (response.status_code, response.text) == (500, "Internal Server Error")
        assert (await client.get("/docs")).status_code == 200
    assert "boom in the app" in echo.worker.log


async def test_a_response_without_optional_parts(echo: Echo) -> None:
    async with echo.client() as client:
        response = await client.get("/bare")
    assert (response.status_code, response.content) == (204, b"")


async def test_an_app_that_never_answers_is_a_500(echo: Echo) -> None:
    async with echo.client() as client:
        assert (await client.get("/silent")).status_code == 500


async def test_concurrent_calls_do_not_mix(echo: Echo) -> None:
    async with echo.client() as client:

        async def call(number: int) -> bool:
            seen: httpx2.Response = await client.post(f"/echo/{number}", headers={"x-number": str(number)})
            return seen.json()["path"] == f"/echo/{number}" and ["x-number", str(number)] in seen.json()["headers"]

        assert all(await asyncio.gather(*(call(number) for number in range(50))))
