"""Failures as OpenAI's clients read them (API reference, "Errors").

`{"error": {"message", "type", "param", "code"}}`
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec
from starlette.responses import Response

from agent_framework_hosting import ConfigurationError, InvalidRequest, UnknownConversation
from agent_framework_hosting.problems import problem_of

from .schema import ResponseError, encode

# What a client may not know of, or not do, is no matter of the field that the host names.
PARAMS = {"message": "input", "session": "previous_response_id", "responses": "input", "options": None, "body": None}


class UnknownId(InvalidRequest):
    """There is nothing of that id for this caller. HTTP 404, or 400 for an id inside a body."""

    def __init__(self, message: str, *, field: str | None = None, code: str = "not_found") -> None:
        super().__init__(field or "", message)
        self.code = code
        self.status = 400 if field == "previous_response_id" else 404


class RefusedHere(InvalidRequest):
    """What the API knows and this host, or this response, cannot do. HTTP 400."""

    def __init__(self, field: str, message: str, *, code: str = "unsupported") -> None:
        super().__init__(field, message)
        self.code = code


class Failure(msgspec.Struct, frozen=True):
    """A failure as its caller is told it; `status` and `headers` are not part of the body."""

    status: int
    message: str
    type: str
    code: str
    param: str | None = None
    headers: Mapping[str, str] = {}

    @property
    def error(self) -> dict[str, str | None]:
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def body(self) -> bytes:
        return encode({"error": self.error})

    def response(self) -> Response:
        return Response(self.body(), self.status, self.headers, "application/json")

    def in_response(self) -> ResponseError:
        """Tell it in a response that had begun."""
        return ResponseError("server_error" if self.status >= 500 else self.code, self.message)


def failure_of(error: Exception, *, channel: str, began: Literal["previous", "conversation"] | None = None) -> Failure:
    """Say what went wrong; whatever the caller is not told is logged. `began` is what the request went on from."""
    if isinstance(error, UnknownConversation):
        error = unknown_previous() if began == "previous" else unknown_conversation()
    if isinstance(error, UnknownId):
        return Failure(error.status, str(error), "invalid_request_error", error.code, error.field or None)
    problem = problem_of(error, channel=channel)
    code = error.code if isinstance(error, RefusedHere) else problem.code
    param = problem.field and PARAMS.get(problem.field.partition(".")[0], problem.field)
    # The API has one status for all that is wrong with a body.
    status = 400 if problem.status == 422 else problem.status
    return Failure(status, problem.message, type_of(status), code, param, problem.headers)


def type_of(status: int) -> str:
    if status == 401:
        return "authentication_error"
    if status == 429:
        return "rate_limit_error"
    return "server_error" if status >= 500 else "invalid_request_error"


def wrong_method(allowed: Iterable[str]) -> Failure:
    methods = ", ".join(allowed)
    return Failure(
        405,
        f"Another method is wanted at this path: {methods}.",
        "invalid_request_error",
        "method_not_allowed",
        headers={"allow": methods},
    )


def no_such_path() -> Failure:
    return Failure(
        404,
        "There is nothing at this path. No id has a slash in it, and no path ends with one.",
        "invalid_request_error",
        "not_found",
    )


def unknown_previous() -> UnknownId:
    return UnknownId(
        "There is no response with this previous_response_id. Send one that was stored here, or leave it out.",
        field="previous_response_id",
        code="previous_response_not_found",
    )


def unfinished_previous(status: str) -> UnknownId:
    return UnknownId(
        f"The response with this previous_response_id is {status}: only one that was finished can be continued.",
        field="previous_response_id",
        code="previous_response_not_finished",
    )


def repeated_key() -> InvalidRequest:
    return InvalidRequest("Idempotency-Key", "This Idempotency-Key was used for another request: use a new one.")


def given_twice() -> ConfigurationError:
    return ConfigurationError(
        "response_id_factory gave an id once more under which this caller has a response: it must give each id once."
    )


def unknown_conversation() -> UnknownId:
    return UnknownId("There is no such conversation. Make one with POST /conversations.", field="conversation")


def unknown_response() -> UnknownId:
    return UnknownId("There is no such response.")
