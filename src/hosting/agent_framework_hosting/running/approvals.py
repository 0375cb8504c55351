"""Tool approvals as pending requests, and their answers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from ..errors import InvalidRequest
from ..requests import PendingRequest

if TYPE_CHECKING:
    from agent_framework import Content

SCHEMA: Mapping[str, Any] = {
    "anyOf": [
        {"type": "boolean"},
        {"type": "object", "properties": {"approved": {"type": "boolean"}}, "required": ["approved"]},
    ]
}


def is_approval(content: object) -> bool:
    """Whether a content asks for the approval of a tool call."""
    return getattr(content, "type", None) == "function_approval_request"


def approval_request(content: Content, request_id: str | None = None) -> PendingRequest:
    """Describe an approval request: `data` is `{"name", "arguments"}` of the call it is about."""
    call = content.function_call
    return PendingRequest(
        id=request_id or content.id or "",
        kind="tool_approval",
        data={"name": call.name if call else None, "arguments": _arguments(call.arguments if call else None)},
        response_schema=SCHEMA,
    )


def approval_response(content: Content, answer: object, request_id: str) -> Content:
    """Turn `true`, `false` or `{"approved": …}` into the framework's answer.

    Raises:
        InvalidRequest: It is something else.
    """
    if isinstance(answer, Mapping):
        answer = cast("Mapping[str, object]", answer).get("approved")
    if not isinstance(answer, bool):
        raise InvalidRequest(
            f"responses.{request_id}", 'A tool approval is answered with true, false or {"approved": true|false}.'
        )
    return content.to_function_approval_response(answer)


def check_answers(responses: Mapping[str, Any], known: Sequence[str]) -> None:
    """Make sure that every answer belongs to a pending request.

    Raises:
        InvalidRequest: One does not; the message does not tell which ids exist.
    """
    if not responses:
        raise InvalidRequest("responses", "There are no answers in `responses`.")
    for request_id in responses:
        if request_id not in known:
            raise InvalidRequest(
                f"responses.{request_id}", "Nothing in this conversation waits for an answer with this id."
            )


def _arguments(value: object) -> object:
    if not isinstance(value, str):
        return dict(cast("Mapping[str, object]", value)) if isinstance(value, Mapping) else value
    try:
        return json.loads(value) if value else {}
    except ValueError:
        return value
