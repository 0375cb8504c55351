"""Foundry's isolation keys: they name the user and the chat where its hosting environment sends them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from agent_framework_hosting import AgentFrameworkHost, ChannelRequest, get_current_isolation_keys
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.asgi import Connection, Reply, call, post_json
from tests.support.responses_server import AUTH, OPS, running
from tests.support.targets import ScriptedAgent

Serve = Callable[..., AbstractAsyncContextManager[Starlette]]
NEVER = "resp_" + "0" * 48


def keys(user: str | None = "ada", chat: str | None = None) -> dict[str, str]:
    named = {"x-agent-user-isolation-key": user, "x-agent-chat-isolation-key": chat}
    return {name: value for name, value in named.items() if value is not None}


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def serve(agent: ScriptedAgent, state_dir: Path | None) -> Serve:
    @asynccontextmanager
    async def start(**how: Any) -> AsyncIterator[Starlette]:
        channel = ResponsesChannel(**{"allow_anonymous": True, **how})
        async with running(AgentFrameworkHost(agent, channels=[channel], state_dir=state_dir).app) as app:
            yield app

    return start


@pytest.fixture
def foundry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_HOSTING_ENVIRONMENT", "1")


async def post(app: Starlette, headers: dict[str, str], text: str = "hi", **how: Any) -> Reply:
    return await post_json(app, "/responses", {"input": text, **how}, headers)


async def said(app: Starlette, headers: dict[str, str], text: str = "hi", **how: Any) -> str:
    reply = await post(app, headers, text, **how)
    assert reply.status == 200, reply.body
    return reply.json["output"][0]["content"][0]["text"]


@pytest.mark.usefixtures("foundry")
async def test_the_chat_names_the_conversation_where_no_id_is_given(serve: Serve) -> None:
    async with serve() as app:
        chat, other = keys(chat="c1"), keys(chat="c2")
        first = (await post(app, chat)).json
        assert first.get("conversation") is None
        assert await said(app, chat) == "2: hi"
        assert await said(app, other) == "1: hi"
        reply = await post(app, chat, stream=True)
        assert (reply.status, b'"3: "' in reply.body) == (200, True)
        # Ids go before it.
        assert await said(app, chat, previous_response_id=first["id"]) == "2: hi"
        conversation = (await post_json(app, "/conversations", {}, chat)).json["id"]
        assert await said(app, chat, conversation=conversation) == "1: hi"
        assert await said(app, other, previous_response_id=first["id"]) == "2: hi"
        assert await said(app, chat) == "4: hi"


@pytest.mark.usefixtures("foundry")
async def test_users_are_kept_apart(serve: Serve, agent: ScriptedAgent) -> None:
    async with serve() as app:
        ada, bob, nobody = keys("ada", "c"), keys("bob", "c"), keys(None, "c")
        first = (await post(app, ada)).json
        assert [await said(app, each) for each in (bob, nobody, ada)] == ["1: hi", "1: hi", "2: hi"]
        runs = len(agent.heard)
        conversation = (await post_json(app, "/conversations", {}, ada)).json["id"]
        for other in (bob, nobody, keys("ada:response", "c"), keys("", "c")):
            replies = [await call(app, "GET", f"/responses/{made}", headers=other) for made in (first["id"], NEVER)]
            assert replies[0].body == replies[1].body
            assert [reply.status for reply in replies] == [404, 404]
            assert (await post(app, other, previous_response_id=first["id"])).status == 400
            assert (await post(app, other, conversation=conversation)).status == 404
            assert (await call(app, "DELETE", f"/conversations/{conversation}", headers=other)).status == 404
        assert len(agent.heard) == runs
        assert (await call(app, "GET", f"/responses/{first['id']}", headers=ada)).json == first


@pytest.mark.usefixtures("foundry")
async def test_authenticated_callers_go_before_the_user_key(serve: Serve) -> None:
    async with serve(auth=AUTH) as app:
        ops = {"authorization": f"Bearer {OPS}"}
        assert await said(app, {**ops, **keys("ada", "c")}) == "1: hi"
        assert await said(app, {**ops, **keys("bob", "c")}) == "2: hi"
        assert await said(app, keys("ops", "c")) in ("1: hi", "3: hi")


@pytest.mark.usefixtures("foundry")
async def test_a_chat_keeps_what_is_said_in_it(serve: Serve, agent: ScriptedAgent) -> None:
    async with serve() as app:
        reply = await post(app, keys(chat="c"), store=False)
        assert (reply.status, reply.json["error"]["param"]) == (400, "store")
        assert not agent.heard
        assert await said(app, keys(chat=None), store=False) == "1: hi"


@pytest.mark.usefixtures("foundry")
async def test_a_key_in_a_chat_is_run_once(serve: Serve, agent: ScriptedAgent) -> None:
    async with serve() as app:
        replies = [await post(app, {**keys(None, "c"), "idempotency-key": "k"}) for _ in range(2)]
        assert replies[0].json == replies[1].json
        assert len(agent.heard) == 1


@pytest.mark.usefixtures("foundry")
async def test_in_the_background_user_and_chat_are_those_that_asked(serve: Serve, agent: ScriptedAgent) -> None:
    seen: list[tuple[str | None, str | None]] = []

    def note(request: ChannelRequest, **how: Any) -> ChannelRequest:
        found = get_current_isolation_keys()
        seen.append(("", "") if found is None else (found.user_key, found.chat_key))
        return request

    async with serve(run_hook=note) as app:
        ada = keys("ada", "c")
        assert await said(app, ada) == "1: hi"
        made = (await post(app, ada, background=True)).json
        async with Connection(app, "GET", f"/responses/{made['id']}", ada, "stream=true") as connection:
            connection.send(b"")
            await connection.end()  # That is when it is made.
        reply = await call(app, "GET", f"/responses/{made['id']}", headers=ada)
        assert reply.json["output"][0]["content"][0]["text"] == "2: hi"
        assert seen == [("ada", "c")] * 2
        assert await said(app, ada) == "3: hi"
        for other in (keys("bob", "c"), keys(None, "c")):
            assert (await call(app, "GET", f"/responses/{made['id']}", headers=other)).status == 404
            assert (await call(app, "POST", f"/responses/{made['id']}/cancel", headers=other)).status == 404


@pytest.mark.parametrize("environment", [None, ""])
async def test_elsewhere_the_headers_mean_nothing(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, environment: str | None
) -> None:
    monkeypatch.delenv("FOUNDRY_HOSTING_ENVIRONMENT", raising=False)
    if environment is not None:
        monkeypatch.setenv("FOUNDRY_HOSTING_ENVIRONMENT", environment)
    async with serve() as app:
        first = (await post(app, keys("ada", "c"))).json
        assert await said(app, keys("ada", "c")) == "1: hi"
        assert await said(app, keys("bob", "d"), previous_response_id=first["id"]) == "2: hi"
        assert await said(app, keys("ada", "c"), store=False) == "1: hi"
