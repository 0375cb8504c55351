"""Identities that the platform vouches for; everything else is nobody."""

from __future__ import annotations

import base64
import json
from typing import Any

import azure.functions as func
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from agent_framework_hosting_azure_functions import FunctionsCall, easy_auth_identity, function_key_identity
from agent_framework_hosting_azure_functions.call import SCOPE_KEY

from .conftest import EchoStarter

CLAIMS = [{"typ": "name", "val": "Ada"}, {"typ": "roles", "val": "admin"}]


def principal(**changes: Any) -> str:
    document = {"auth_typ": "aad", "claims": CLAIMS, "name_typ": "name", "role_typ": "roles"} | changes
    return base64.b64encode(json.dumps(document).encode()).decode()


def easy_auth_headers(**changes: str) -> list[tuple[str, str]]:
    headers = {
        "x-ms-client-principal": principal(),
        "x-ms-client-principal-id": "1b2c",
        "x-ms-client-principal-idp": "aad",
        "x-ms-client-principal-name": "ada@example.org",
    }
    headers |= {f"x-ms-client-{name.replace('_', '-')}": value for name, value in changes.items()}
    return list(headers.items())


def request(headers: list[tuple[str, str]], **scope: Any) -> Request:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    return Request({"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": raw, **scope})


@pytest.fixture
def easy_auth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBSITE_AUTH_ENABLED", "True")


@pytest.mark.usefixtures("easy_auth")
def test_easy_auth_names_the_principal_of_its_provider() -> None:
    caller = easy_auth_identity(request(easy_auth_headers()))
    assert caller is not None
    assert (caller.channel, caller.native_id) == ("azure-functions", "aad:1b2c")
    assert caller.attributes == {"provider": "aad", "name": "Ada"}


@pytest.mark.usefixtures("easy_auth")
def test_two_providers_cannot_name_the_same_caller() -> None:
    tricky = [("a", "b:c"), ("a:b", "c")]
    names = {
        caller.native_id
        for provider, principal_id in tricky
        if (
            caller := easy_auth_identity(
                request(
                    easy_auth_headers(
                        principal=principal(auth_typ=provider), principal_id=principal_id, principal_idp=provider
                    )
                )
            )
        )
    }
    assert len(names) == 2


@pytest.mark.parametrize("setting", [None, "", "false", "0"])
def test_headers_are_not_believed_where_the_platform_does_not_set_them(
    monkeypatch: pytest.MonkeyPatch, setting: str | None
) -> None:
    monkeypatch.delenv("WEBSITE_AUTH_ENABLED", raising=False)
    if setting is not None:
        monkeypatch.setenv("WEBSITE_AUTH_ENABLED", setting)
    assert easy_auth_identity(request(easy_auth_headers())) is None


@pytest.mark.usefixtures("easy_auth")
@pytest.mark.parametrize(
    "headers",
    [
        [],
        easy_auth_headers(principal_id=""),
        easy_auth_headers(principal_idp=""),
        easy_auth_headers(principal_idp="google"),
        easy_auth_headers(principal_id="x" * 513),
        easy_auth_headers(principal="not base64!"),
        easy_auth_headers(principal=base64.b64encode(b"[").decode()),
        easy_auth_headers(principal=base64.b64encode(b'{"claims": []}').decode()),
        easy_auth_headers(principal=base64.b64encode(b"[" * 40_000).decode()),
        easy_auth_headers(principal=base64.b64encode(b'{"x":' + b"[" * 40_000).decode()),
        easy_auth_headers(principal=principal(filler="x" * 70_000)),
        [*easy_auth_headers(), ("x-ms-client-principal-id", "other")],
    ],
    ids=range(12),
)
def test_incomplete_or_odd_headers_are_nobody(headers: list[tuple[str, str]]) -> None:
    assert easy_auth_identity(request(headers)) is None


@given(st.binary(max_size=200))
def test_no_principal_makes_it_raise(document: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WEBSITE_AUTH_ENABLED", "true")
        headers = easy_auth_headers(principal=base64.b64encode(document).decode())
        assert easy_auth_identity(request(headers)) is None


@pytest.mark.parametrize("level", [func.AuthLevel.FUNCTION, func.AuthLevel.ADMIN])
def test_a_key_that_the_host_has_checked(level: func.AuthLevel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_FUNCTIONS_ENVIRONMENT", raising=False)
    caller = function_key_identity(request([], **{SCOPE_KEY: FunctionsCall(level, "agent_host", "1")}))
    assert caller is not None
    assert caller.native_id == f"{level.value}-key"


@pytest.mark.parametrize(
    "scope",
    [
        {},
        {SCOPE_KEY: FunctionsCall(func.AuthLevel.ANONYMOUS, "agent_host", "1")},
        {SCOPE_KEY: {"auth_level": "function"}},
    ],
    ids=["another server", "anonymous", "not ours"],
)
def test_a_key_that_nobody_has_checked(scope: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_FUNCTIONS_ENVIRONMENT", raising=False)
    assert function_key_identity(request([("x-functions-key", "k")], **scope)) is None


def test_core_tools_check_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_FUNCTIONS_ENVIRONMENT", "Development")
    scope = {SCOPE_KEY: FunctionsCall(func.AuthLevel.FUNCTION, "agent_host", "1")}
    assert function_key_identity(request([], **scope)) is None


@pytest.mark.needs("functions-worker")
async def test_identities_through_the_worker(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode, AUTH_LEVEL="function") as echo, echo.client() as client:
        assert (await client.get("/who")).status_code == 401
        headers = httpx2.Headers([("x-functions-key", echo.worker.function_key), *easy_auth_headers()])
        assert (await client.get("/who", headers=headers)).json() == {"easy_auth": None, "function_key": "function-key"}
    async with start_echo(mode, WEBSITE_AUTH_ENABLED="True") as echo, echo.client() as client:
        seen = (await client.get("/who", headers=httpx2.Headers(easy_auth_headers()))).json()
        assert seen == {"easy_auth": "aad:1b2c", "function_key": None}
