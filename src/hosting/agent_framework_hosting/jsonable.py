"""What a target gives, as JSON."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import msgspec
from agent_framework import AgentResponse, AgentResponseUpdate, Message

from .errors import HostingError

__all__ = ["NotJson", "jsonable", "plain"]


class NotJson(HostingError):
    """A value of the target has no JSON form. HTTP 500; the turn is part of the conversation."""

    started = True


@runtime_checkable
class PydanticModel(Protocol):
    def model_dump(self, *, mode: str) -> object: ...


@runtime_checkable
class FrameworkValue(Protocol):
    def to_dict(self) -> dict[str, object]: ...


def plain(value: object) -> object:
    """Turn into JSON what msgspec does not know; dataclasses, dates, enums, sets and bytes it does.

    Raises:
        NotJson: There is no such form.
    """
    if isinstance(value, AgentResponse | AgentResponseUpdate | Message):
        return value.text
    if isinstance(value, PydanticModel):
        return value.model_dump(mode="json")
    if isinstance(value, FrameworkValue):
        return value.to_dict()
    raise NotJson(
        f"The target gave a {type(value).__qualname__}, which has no JSON form: yield text, a dataclass, a pydantic "
        "model or an object with to_dict()."
    )


def jsonable(value: object) -> object:
    """Give a value's JSON form for somebody to read; what has none becomes text."""
    try:
        return msgspec.to_builtins(value, str_keys=True, enc_hook=plain_or_text)
    except Exception:  # A key that is no text, a value that contains itself, a to_dict() that fails.
        return str(value)


def plain_or_text(value: object) -> object:
    try:
        return plain(value)
    except NotJson:
        return str(value)
