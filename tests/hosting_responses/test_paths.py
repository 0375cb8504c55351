"""Wrong methods and paths that lead nowhere, in OpenAI's words and to whoever asks; what is another's is left alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
from openai import APIStatusError, NotFoundError, OpenAI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.asgi import Reply, call, post_json
from tests.support.channels import ProbeChannel
from tests.support.responses_server import AUTH, OPS, ResponsesServer, check_error, running, store_app
from tests.support.stores import FaultStore
from tests.support.targets import ScriptedAgent

AS_OPS = {"authorization": f"Bearer {OPS}"}
WRONG_KEY = {"authorization": "Bearer wrong-key-0123456789"}
METHODS = {
    "/responses": "POST",
    "/responses/resp_1": "GET, DELETE",
    "/responses/resp_1/cancel": "POST",
    "/responses/resp_1/input_items": "GET",
    "/conversations": "POST",
    "/conversations/conv_1": "GET, DELETE",
    "/models": "GET",
    "/models/scripted": "GET",
}
NOWHERE = (
    "/responses/",
    "/responses//",
    "/responses//cancel",
    "/responses/resp_1/",
    "/responses/resp_1/compact",
    "/responses/resp_1/cancel/now",
    "/responses/a/b/c/d",
    "/responses/../../etc/passwd",
    "/responses/line\nbreak/x",
    "/responses/x/line\n",
    "/conversations/",
    "/conversations/conv_1/items",
    "/conversations/conv_1/items/msg_1",
    "/models/",
    "/models/scripted/more",
)


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def store() -> FaultStore:
    return FaultStore(MemoryStore())


@pytest.fixture(params=["/responses", "/v1/responses"])
def path(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def app(agent: ScriptedAgent, store: FaultStore, path: str) -> AsyncIterator[Starlette]:
    async with running(store_app(agent, store, ResponsesChannel(path, auth=AUTH))) as app:
        yield app
    assert not agent.heard
    assert not store.log


def placed(path: str, below: str) -> str:
    """Give a path of a channel at `/responses` as it is for one at `path`."""
    return path.removesuffix("/responses") + below


async def ask(app: Starlette, method: str, path: str, who: dict[str, str]) -> Reply:
    headers = {"content-type": "application/json", **who}
    return await call(app, method, path, body=b'{"input": "hi"}', headers=headers)


def check_told(reply: Reply, status: int, code: str) -> None:
    assert reply.status == status
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"].startswith("req_")
    check_error(status, reply.json)
    assert (reply.json["error"]["code"], reply.json["error"]["param"]) == (code, None)


@pytest.mark.parametrize("below", METHODS)
async def test_another_method(app: Starlette, path: str, below: str) -> None:
    allowed = METHODS[below]
    others = {"GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"} - {*allowed.split(", ")}
    for method in others:
        replies = [await ask(app, method, placed(path, below), who) for who in (AS_OPS, WRONG_KEY, {})]
        for reply in replies:
            check_told(reply, 405, "method_not_allowed")
            assert reply.headers["allow"] == allowed
        assert len({reply.body for reply in replies}) == 1


async def test_head_is_answered_like_get(app: Starlette, path: str) -> None:
    for below, allowed in METHODS.items():
        reply = await call(app, "HEAD", placed(path, below))
        assert reply.status == (401 if "GET" in allowed else 405)


@pytest.mark.parametrize("below", NOWHERE)
async def test_a_path_that_leads_nowhere(app: Starlette, path: str, below: str) -> None:
    bodies: set[bytes] = set()
    for method in ("GET", "POST", "DELETE", "PUT", "OPTIONS"):
        for who in (AS_OPS, WRONG_KEY, {}):
            reply = await ask(app, method, placed(path, below), who)
            check_told(reply, 404, "not_found")
            bodies.add(reply.body)
    assert len(bodies) == 1


async def test_what_is_not_below_the_channel_is_not_its_own(app: Starlette, path: str) -> None:
    for below in ("/conversationsx", "/model", "/completions"):
        reply = await call(app, "POST", placed(path, below) + "/x/y", headers=AS_OPS)
        assert (reply.status, reply.body, reply.headers.get("x-request-id")) == (404, b"Not Found", None)
    assert (await call(app, "GET", "/readiness")).body == b"ok"


async def test_a_channel_at_the_root_leaves_what_is_nowhere_to_the_app(agent: ScriptedAgent, store: FaultStore) -> None:
    async with running(store_app(agent, store, ResponsesChannel("", auth=AUTH))) as app:
        check_told(await call(app, "PUT", "/"), 405, "method_not_allowed")
        check_told(await call(app, "GET", "/conversations/a/b"), 404, "not_found")
        assert (await call(app, "GET", "/a/b/c")).body == b"Not Found"


@pytest.fixture(params=["before", "after"])
async def beside(request: pytest.FixtureRequest, path: str) -> AsyncIterator[Starlette]:
    """Another channel below the path of this one."""

    async def answer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(f"{request.method} of another channel")

    routes = [Route("/", answer, methods=["POST"]), Route("/a/b/c", answer, methods=["GET", "PUT"])]
    other, channel = ProbeChannel(path=f"{path}/other", routes=routes), ResponsesChannel(path, auth=AUTH)
    channels = [other, channel] if request.param == "before" else [channel, other]
    async with running(AgentFrameworkHost(ScriptedAgent(), channels=channels).app) as app:
        yield app


async def test_another_channel_answers_where_it_has_a_route(beside: Starlette, path: str) -> None:
    for method, below in (("POST", ""), ("GET", "/a/b/c"), ("PUT", "/a/b/c")):
        reply = await call(beside, method, f"{path}/other{below}")
        assert (reply.status, reply.body) == (200, f"{method} of another channel".encode())
        assert "x-request-id" not in reply.headers
    made = (await post_json(beside, path, {"input": "hi"}, AS_OPS)).json["id"]
    assert (await call(beside, "GET", f"{path}/{made}", headers=AS_OPS)).json["id"] == made


@pytest.fixture
def client() -> Iterator[OpenAI]:
    host = AgentFrameworkHost(ScriptedAgent(), channels=[ResponsesChannel("/v1/responses", auth=AUTH)])
    with ResponsesServer(host.app) as server, server.client() as client:
        yield client


def test_the_official_client_raises_them_by_class(client: OpenAI) -> None:
    for ask in (
        lambda: client.responses.retrieve("a/b"),
        lambda: client.responses.delete("a/b"),
        lambda: client.responses.cancel("../x"),
        lambda: client.conversations.retrieve("a/b/c"),
        lambda: client.conversations.items.list("conv_1"),
        lambda: client.models.retrieve("a/b"),
    ):
        with pytest.raises(NotFoundError) as nowhere:
            ask()
        assert nowhere.value.code == "not_found"
    for ask in (
        lambda: client.conversations.update("conv_1", metadata={}),
        lambda: client.post("/models", cast_to=object),
    ):
        with pytest.raises(APIStatusError) as wrong:
            ask()
        assert (wrong.value.status_code, wrong.value.code) == (405, "method_not_allowed")
        assert str(wrong.value.request_id).startswith("req_")
