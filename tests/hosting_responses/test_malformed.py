"""What nobody can answer: refused in OpenAI's words, with nothing run and nothing stored."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, unquote

import pytest
from starlette.applications import Starlette

from agent_framework_hosting import HostLimits
from agent_framework_hosting.body import Json
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting_responses import ResponsesChannel
from tests.hosting_responses.malformed import MALFORMED
from tests.support.asgi import Connection, Reply, call, post_json
from tests.support.responses_server import AUTH, OPS, check_error, running, store_app
from tests.support.stores import FaultStore
from tests.support.targets import ScriptedAgent

KEY = {"authorization": f"Bearer {OPS}"}
JSON = {"content-type": "application/json"}
LIMIT = 300_000
ODD_IDS = {
    "a space": "%20",
    "a text with spaces": "a%20b",
    "a slash": "resp%2F1",
    "a way out": "..%2F..%2Fetc%2Fpasswd",
    "300 characters": "x" * 300,
    "NUL": "resp_%00",
    "an emoji": quote("🦊"),
    "a lone surrogate": "%ED%A0%80",
    "no UTF-8": "%FF",
    "a line break": "resp_%0A",
    "a percent sign": "%25",
    "a colon": "a:b",
    "a key of another owner": quote("responses:web:response:resp_1"),
}


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def store() -> FaultStore:
    return FaultStore(MemoryStore())


@pytest.fixture(params=["authenticated", "anonymous"])
def headers(request: pytest.FixtureRequest) -> dict[str, str]:
    return KEY if request.param == "authenticated" else {}


@pytest.fixture
async def app(agent: ScriptedAgent, store: FaultStore) -> AsyncIterator[Starlette]:
    channel = ResponsesChannel(auth=AUTH, allow_anonymous=True)
    async with running(store_app(agent, store, channel, HostLimits(body_bytes=LIMIT))) as app:
        yield app


async def check_refused(reply: Reply, agent: ScriptedAgent, store: FaultStore, statuses: tuple[int, ...] = ()) -> Any:
    assert reply.status in statuses or (not statuses and 400 <= reply.status < 500)
    check_error(reply.status, reply.json)
    assert not agent.heard
    assert await store.inner.list("") == []
    return reply.json["error"]


@pytest.mark.parametrize("body", MALFORMED)
async def test_malformed_bodies(
    app: Starlette, agent: ScriptedAgent, store: FaultStore, headers: dict[str, str], body: str
) -> None:
    value, param = MALFORMED[body]
    reply = await post_json(app, "/responses", value, headers)
    error = await check_refused(reply, agent, store, (400,))
    assert error["param"] == (None if param == "body" else param)
    assert not store.log


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", JSON, 400),
        (b"{", JSON, 400),
        (b'{"input": "hi"} x', JSON, 400),
        (b'{"input": "\xff"}', JSON, 400),
        (b'{"input": NaN}', JSON, 400),
        (b'{"input": ' + b"[" * 100 + b"]" * 100 + b"}", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'{"a":' * 40_000, JSON, 400),
        (b'{"input": "' + b"x" * LIMIT + b'"}', JSON, 413),
        (b'{"input": "hi"}', {**JSON, "content-length": str(10**30)}, 413),
        (b'{"input": "hi"}', {}, 415),
        (b'{"input": "hi"}', {"content-type": "text/plain"}, 415),
        (b"input=hi", {"content-type": "application/x-www-form-urlencoded"}, 415),
        (b'{"input": "hi"}', {"content-type": "application/json; charset=latin-1"}, 415),
        (b'{"input": "hi"}', {**JSON, "content-encoding": "gzip"}, 415),
        (b'{"input": "hi"}', {**JSON, "idempotency-key": ""}, 400),
        (b'{"input": "hi"}', {**JSON, "idempotency-key": "k" * 257}, 400),
    ],
)
@pytest.mark.parametrize("path", ["/responses", "/conversations"])
async def test_what_is_no_body(
    app: Starlette,
    agent: ScriptedAgent,
    store: FaultStore,
    path: str,
    body: bytes,
    headers: dict[str, str],
    status: int,
) -> None:
    if path == "/conversations" and "idempotency-key" in headers:
        return
    reply = await call(app, path=path, body=body, headers={**KEY, **headers})
    await check_refused(reply, agent, store, (status,))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ([], None),
        ("x", None),
        ({"items": [{"role": "user", "content": "hi"}]}, "items"),
        ({"metadata": []}, "metadata"),
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"id": "conv_" + "0" * 48}, "id"),
        ({"x" * 10_000: 1}, "x" * 80),
    ],
)
async def test_malformed_conversations(
    app: Starlette, agent: ScriptedAgent, store: FaultStore, body: Json, param: str | None
) -> None:
    reply = await post_json(app, "/conversations", body, KEY)
    assert (await check_refused(reply, agent, store, (400,)))["param"] == param


@pytest.mark.parametrize("query", ["order=up", "limit=0", "limit=101", "limit=x", "limit=1e1", "limit=٣", "after=x"])
@pytest.mark.parametrize("stored", [True, False])
async def test_malformed_queries_tell_nothing_of_what_is_there(app: Starlette, query: str, stored: bool) -> None:
    made = (await post_json(app, "/responses", {"input": "hi"}, KEY)).json["id"] if stored else "resp_1"
    reply = await get(app, f"/responses/{made}/input_items", query)
    assert reply.status == (400 if stored else 404)
    check_error(reply.status, reply.json)
    assert reply.json["error"]["param"] == (query.partition("=")[0] if stored else None)


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=yes", "stream"),
        ("stream=true&starting_after=x", "starting_after"),
        ("stream=true&starting_after=-2", "starting_after"),
        ("stream=true&starting_after=99999999999999999999", "starting_after"),
        ("starting_after=1", "starting_after"),
    ],
)
async def test_malformed_replays(app: Starlette, query: str, param: str) -> None:
    made = (await post_json(app, "/responses", {"input": "hi"}, KEY)).json["id"]
    reply = await get(app, f"/responses/{made}", query)
    assert (reply.status, reply.json["error"]["param"]) == (400, param)


@pytest.mark.parametrize("id", ODD_IDS.values(), ids=ODD_IDS)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/responses/{}"),
        ("DELETE", "/responses/{}"),
        ("POST", "/responses/{}/cancel"),
        ("GET", "/responses/{}/input_items"),
        ("GET", "/conversations/{}"),
        ("DELETE", "/conversations/{}"),
    ],
)
async def test_odd_ids_in_paths(
    app: Starlette, agent: ScriptedAgent, store: FaultStore, headers: dict[str, str], method: str, path: str, id: str
) -> None:
    reply = await get(app, path.format(id), method=method, headers=headers)
    await check_refused(reply, agent, store, (404,))


async def get(
    app: Starlette, path: str, query: str = "", *, method: str = "GET", headers: dict[str, str] = KEY
) -> Reply:
    """Ask for a path that is percent-encoded, as a server gives it to an app."""
    async with Connection(app, method, unquote(path), headers, query) as connection:
        connection.send(b"")
        return await connection.end()
