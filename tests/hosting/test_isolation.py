"""Foundry's isolation headers mean something only where Foundry is the host."""

from __future__ import annotations

import asyncio

import pytest
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from agent_framework_hosting import (
    ISOLATION_HEADER_CHAT,
    ISOLATION_HEADER_USER,
    AgentFrameworkHost,
    IsolationKeys,
    get_current_isolation_keys,
    reset_current_isolation_keys,
    set_current_isolation_keys,
)
from tests.support.asgi import call
from tests.support.channels import ProbeChannel, started
from tests.support.targets import ScriptedAgent


async def tell(request: Request) -> PlainTextResponse:
    await asyncio.sleep(0)
    return PlainTextResponse(repr(get_current_isolation_keys()))


def app() -> ASGIApp:
    return AgentFrameworkHost(ScriptedAgent(), channels=[ProbeChannel(path="", routes=[Route("/", tell)])]).app


@pytest.fixture
def _foundry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FOUNDRY_HOSTING_ENVIRONMENT", "production")


@pytest.fixture(params=[None, ""])
def _elsewhere(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FOUNDRY_HOSTING_ENVIRONMENT", raising=False)
    if request.param is not None:
        monkeypatch.setenv("FOUNDRY_HOSTING_ENVIRONMENT", request.param)


async def told(app: ASGIApp, **headers: str) -> str:
    names = {"user": ISOLATION_HEADER_USER, "chat": ISOLATION_HEADER_CHAT}
    return (await call(app, "GET", headers={names[key]: value for key, value in headers.items()})).body.decode()


@pytest.mark.usefixtures("_elsewhere")
async def test_elsewhere_the_headers_are_ignored() -> None:
    assert await told(app(), user="u", chat="c") == "None"


@pytest.mark.usefixtures("_foundry")
async def test_in_foundry_the_headers_are_read() -> None:
    served = app()
    assert await told(served, user="u", chat="c") == "IsolationKeys(user_key='u', chat_key='c')"
    assert await told(served, user="u") == "IsolationKeys(user_key='u', chat_key=None)"
    assert await told(served, user="", chat="") == "IsolationKeys(user_key=None, chat_key=None)"
    assert get_current_isolation_keys() is None


@pytest.mark.usefixtures("_foundry")
async def test_requests_at_once_have_keys_of_their_own() -> None:
    served = app()
    replies = await asyncio.gather(*[told(served, user=user) for user in "abc"])
    assert replies == [f"IsolationKeys(user_key={user!r}, chat_key=None)" for user in "abc"]


@pytest.mark.usefixtures("_foundry")
async def test_the_lifespan_passes_by() -> None:
    async with started(AgentFrameworkHost(ScriptedAgent(), channels=[ProbeChannel()])):
        assert get_current_isolation_keys() is None


def test_keys_may_be_set_by_hand() -> None:
    keys = IsolationKeys(user_key="u")
    token = set_current_isolation_keys(keys)
    assert get_current_isolation_keys() is keys
    reset_current_isolation_keys(token)
    assert get_current_isolation_keys() is None


@pytest.mark.parametrize(("user", "chat", "empty"), [(None, None, True), ("u", None, False), (None, "c", False)])
def test_keys_know_whether_they_are_empty(user: str | None, chat: str | None, empty: bool) -> None:
    keys = IsolationKeys(user, chat)
    assert (keys.user_key, keys.chat_key, keys.is_empty) == (user, chat, empty)
