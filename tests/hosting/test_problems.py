from __future__ import annotations

import logging
from typing import Any

import msgspec
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from agent_framework_hosting.auth import AuthenticationFailed, Unauthenticated
from agent_framework_hosting.body import BodyTooLarge, InvalidBody, UnsupportedBody
from agent_framework_hosting.errors import (
    ConfigurationError,
    HostingError,
    InvalidRequest,
    SessionTooLarge,
    StateDamaged,
    StateUnavailable,
    TurnBusy,
    TurnConflict,
    TurnRepeated,
)
from agent_framework_hosting.problems import problem_of
from agent_framework_hosting.state.store import Unknown


def started(error: HostingError) -> HostingError:
    error.started = True
    return error


@pytest.mark.parametrize(
    ("error", "status", "code", "headers"),
    [
        (InvalidBody("why"), 400, "invalid_body", {}),
        (Unauthenticated("why"), 401, "unauthenticated", {"www-authenticate": "Bearer"}),
        (BodyTooLarge("why"), 413, "body_too_large", {}),
        (SessionTooLarge("why"), 413, "session_too_large", {}),
        (UnsupportedBody("why"), 415, "unsupported_media_type", {}),
        (InvalidRequest("input", "why"), 422, "invalid_request", {}),
        (TurnBusy("why", retry_after=2.1), 409, "turn_busy", {"retry-after": "3"}),
        (TurnBusy("why", retry_after=0), 409, "turn_busy", {"retry-after": "1"}),
        (TurnConflict("why"), 409, "turn_conflict", {}),
        (started(TurnConflict("why")), 409, "turn_conflict", {"x-should-retry": "false"}),
        (TurnRepeated("why"), 409, "turn_repeated", {"x-should-retry": "false"}),
        (StateUnavailable("why"), 503, "state_unavailable", {"retry-after": "5"}),
        (Unknown("why"), 503, "state_unavailable", {"retry-after": "5"}),
        (started(StateUnavailable("why")), 503, "state_unavailable", {"x-should-retry": "false"}),
        (AuthenticationFailed("why"), 503, "authentication_unavailable", {"retry-after": "5"}),
        (StateDamaged("k/aa/head", "why"), 500, "state_damaged", {}),
        (started(StateDamaged("k/aa/head", "why")), 500, "state_damaged", {"x-should-retry": "false"}),
        (ConfigurationError("why"), 500, "host_error", {}),
        (ValueError("why"), 500, "target_failed", {"x-should-retry": "false"}),
        (ExceptionGroup("why", [ValueError("inner")]), 500, "target_failed", {"x-should-retry": "false"}),
        (HTTPException(403, "why", {"x-why": "so"}), 403, "http_403", {"x-why": "so"}),
        (ClientDisconnect(), 400, "client_disconnected", {}),
    ],
)
def test_each_failure_has_its_answer(error: Exception, status: int, code: str, headers: dict[str, str]) -> None:
    response = problem_of(error, channel="test").response()
    told = msgspec.json.decode(bytes(response.body))["error"]
    sent = dict(response.headers)
    assert (response.status_code, told["code"]) == (status, code)
    assert sent.pop("content-type") == "application/json"
    assert sent.pop("content-length") == str(len(response.body))
    assert sent == headers


def test_a_caller_is_told_what_to_do_and_which_field() -> None:
    problem = problem_of(InvalidRequest("message", "message must be a text."), channel="test")
    assert msgspec.json.decode(problem.body()) == {
        "error": {"code": "invalid_request", "message": "message must be a text.", "field": "message"}
    }


@pytest.mark.parametrize(
    "error",
    [
        ValueError("secret"),
        StateUnavailable("secret"),
        StateDamaged("secret", "secret"),
        ConfigurationError("secret"),
        started(StateUnavailable("secret")),
    ],
)
def test_what_is_inside_is_logged_and_not_told(error: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "agent_framework.hosting"):
        body = problem_of(error, channel="test").body()
    assert b"secret" not in body
    assert "secret" in caplog.text
    assert "'test'" in caplog.text
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_a_caller_s_own_mistakes_are_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        problem_of(InvalidRequest("message", "no"), channel="test")
        problem_of(TurnBusy("busy"), channel="test")
    assert not caplog.records


def test_unknown_callers_show(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "agent_framework.hosting"):
        problem_of(Unauthenticated("Send a key."), channel="test")
    assert [record.getMessage() for record in caplog.records] == [
        "A request of channel 'test' was refused: its caller is not known."
    ]
