"""Failures as HTTP answers: `{"error": {"code", "message", "field"?}}`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from .auth import AuthenticationFailed, Unauthenticated
from .body import BodyTooLarge, InvalidBody, UnsupportedBody
from .deadline import DeadlineReached
from .errors import (
    HostingError,
    InvalidRequest,
    MailboxFull,
    SessionTooLarge,
    StateDamaged,
    StateUnavailable,
    TurnBusy,
    TurnConflict,
    TurnRepeated,
)

__all__ = ["STOP_RETRIES", "Problem", "problem_of"]

STOP_RETRIES: Mapping[str, str] = {"x-should-retry": "false"}
"""What keeps a client (the openai SDK obeys) from repeating a turn that may have had effects."""

RETRY_SECONDS = 5
KINDS: Mapping[type[HostingError], tuple[int, str]] = {
    InvalidBody: (400, "invalid_body"),
    Unauthenticated: (401, "unauthenticated"),
    TurnBusy: (409, "turn_busy"),
    TurnConflict: (409, "turn_conflict"),
    TurnRepeated: (409, "turn_repeated"),
    BodyTooLarge: (413, "body_too_large"),
    SessionTooLarge: (413, "session_too_large"),
    UnsupportedBody: (415, "unsupported_media_type"),
    InvalidRequest: (422, "invalid_request"),
    AuthenticationFailed: (503, "authentication_unavailable"),
    StateUnavailable: (503, "state_unavailable"),
    MailboxFull: (503, "mailbox_full"),
    StateDamaged: (500, "state_damaged"),
    DeadlineReached: (504, "deadline_reached"),
    HostingError: (500, "host_error"),
}
HIDDEN: Mapping[str, str] = {
    "state_damaged": "The stored conversation cannot be read; it is kept. Tell the operator, or start a new one.",
    "state_unavailable": "The conversation's store does not answer. Try again later.",
    "host_error": "The host could not serve this request; its log says why.",
}
"""What a caller is told where the error's own message may name what is inside."""

logger = logging.getLogger("agent_framework.hosting")


class Problem(msgspec.Struct, frozen=True):
    """A failure as its caller is told it. `headers` and `status` are not part of the body."""

    status: int
    code: str
    message: str
    field: str | None = None
    headers: Mapping[str, str] = {}

    def body(self) -> bytes:
        told = {"code": self.code, "message": self.message}
        if self.field is not None:
            told["field"] = self.field
        return msgspec.json.encode({"error": told})

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, "application/json")


def problem_of(error: Exception, *, channel: str) -> Problem:
    """Say what went wrong; whatever the caller is not told is logged.

    An exception that is not the host's own is the target's or a hook's: the target may have acted.
    """
    if isinstance(error, HostingError):
        return hosting_problem(error, channel)
    if isinstance(error, HTTPException):
        return Problem(error.status_code, f"http_{error.status_code}", error.detail, headers=error.headers or {})
    if isinstance(error, ClientDisconnect):
        return Problem(400, "client_disconnected", "The request ended before its body was complete.")
    logger.error("The target failed in a turn of channel %r.", channel, exc_info=error)
    return Problem(500, "target_failed", "The agent or workflow failed; the host's log says why.", headers=STOP_RETRIES)


def hosting_problem(error: HostingError, channel: str) -> Problem:
    status, code = next(KINDS[kind] for kind in type(error).__mro__ if kind in KINDS)
    message = HIDDEN.get(code)
    if message is not None:
        logger.error("A request of channel %r failed: %s", channel, error, exc_info=error if status == 500 else None)
    elif status == 401:
        logger.info("A request of channel %r was refused: its caller is not known.", channel)
    field = error.field if isinstance(error, InvalidRequest) else None
    return Problem(status, code, message or str(error), field, headers_of(error, status))


def headers_of(error: HostingError, status: int) -> Mapping[str, str]:
    if error.started or isinstance(error, TurnRepeated):
        return STOP_RETRIES
    if isinstance(error, TurnBusy):
        return {"retry-after": str(max(1, math.ceil(error.retry_after)))}
    if status == 401:
        return {"www-authenticate": "Bearer"}
    return {"retry-after": str(RETRY_SECONDS)} if status == 503 else {}
