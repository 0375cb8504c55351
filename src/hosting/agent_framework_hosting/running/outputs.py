"""Workflow events as what channels understand."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from types import UnionType
from typing import TYPE_CHECKING, Any, Union, cast, get_args, get_origin

import msgspec
from agent_framework import AgentResponseUpdate, Message
from agent_framework.exceptions import AgentFrameworkException

from ..errors import InvalidRequest
from ..jsonable import jsonable
from ..outputs import contents_of
from ..requests import PendingRequest
from .approvals import approval_request, approval_response, is_approval

if TYPE_CHECKING:
    from agent_framework import WorkflowEvent


def output_update(event: WorkflowEvent[Any]) -> AgentResponseUpdate:
    """Give an `output` event as an update, with the event itself on `raw_representation`."""
    data: object = event.data
    update = AgentResponseUpdate(contents=contents_of(data), role="assistant", raw_representation=event)
    update.author_name = event.executor_id
    if isinstance(data, AgentResponseUpdate):
        update.message_id, update.response_id = data.message_id, data.response_id
        update.author_name = data.author_name or event.executor_id
    return update


def pending_requests(events: Mapping[str, WorkflowEvent[Any]]) -> list[PendingRequest]:
    """Describe what a workflow waits for, by request id."""
    return [_pending(request_id, event) for request_id, event in events.items()]


def _pending(request_id: str, event: WorkflowEvent[Any]) -> PendingRequest:
    if is_approval(event.data):
        return approval_request(event.data, request_id)
    return PendingRequest(
        id=request_id,
        kind="workflow_request",
        data=jsonable(event.data),
        response_schema=schema(event.response_type),
    )


def response_value(event: WorkflowEvent[Any], answer: object, request_id: str) -> object:
    """Turn a JSON answer into what the workflow takes.

    Raises:
        InvalidRequest: It does not have the type that the request asked for.
    """
    if is_approval(event.data):
        return approval_response(event.data, answer, request_id)
    try:
        return converted(answer, event.response_type)
    except (TypeError, ValueError, KeyError, AgentFrameworkException) as error:
        raise InvalidRequest(f"responses.{request_id}", f"The answer does not fit: {error}") from None


def converted(value: object, kind: Any) -> object:
    """Give a JSON value as a type that a workflow asked for.

    Raises:
        TypeError: It does not fit.
        ValueError: It does not fit.
    """
    if kind is Any or (isinstance(kind, type) and is_a(value, kind)):
        return value
    if isinstance(value, Mapping) and (make := maker(kind)) is not None:
        return make(cast("object", value))
    try:
        return msgspec.convert(value, cast("type[object]", kind), dec_hook=made)
    except TypeError:
        # msgspec takes no union with a type that it does not know.
        for member in get_args(kind) if get_origin(kind) in (Union, UnionType) else ():
            with contextlib.suppress(TypeError, ValueError, KeyError):
                return converted(cast("object", value), member)
        raise


def made(kind: type[Any], value: object) -> object:
    """Make what msgspec cannot, inside an answer: a model, a value of the framework. A text is a message, too.

    Raises:
        TypeError: It does not fit.
    """
    if isinstance(value, kind):
        return value
    if kind is Message and isinstance(value, str):
        return Message("user", [value])
    if isinstance(value, Mapping) and (make := maker(kind)) is not None:
        return make(cast("object", value))
    raise TypeError(f"expected {kind.__name__}, got {type(cast('object', value)).__name__}")


def maker(kind: Any) -> Callable[[object], object] | None:
    """Give what makes a pydantic model, or a value of the framework, of a mapping."""
    return next((getattr(kind, name) for name in ("model_validate", "from_dict") if hasattr(kind, name)), None)


def is_a(value: object, kind: type[Any]) -> bool:
    """As `isinstance`, but true and false are no numbers."""
    return isinstance(value, kind) and (type(value) is not bool or kind in (bool, object))


def schema(kind: type[Any]) -> Mapping[str, Any] | None:
    """Give the JSON schema of a response type, where there is one."""
    try:
        if hasattr(kind, "model_json_schema"):
            return cast("Mapping[str, Any]", kind.model_json_schema())
        return msgspec.json.schema(kind, schema_hook=inner_schema)
    except (TypeError, ValueError):
        return None


def inner_schema(kind: type[Any]) -> dict[str, Any]:
    """Give the schema of what `made` makes.

    Raises:
        TypeError: It makes no such thing.
    """
    if kind is Message:
        return {"anyOf": [{"type": "string"}, {"type": "object"}]}
    if maker(kind) is None:
        raise TypeError(kind)
    return {"type": "object"}
