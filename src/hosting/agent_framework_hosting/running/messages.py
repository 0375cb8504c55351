"""From a channel's request to what the framework's `run` takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from agent_framework import Content, Message

from ..errors import InvalidRequest
from ..requests import ChannelRequest


def input_messages(request: ChannelRequest) -> list[Message]:
    """Give the request's input as messages, the last one marked with where it came from.

    Raises:
        InvalidRequest: The input is neither text, content nor messages, or there is none.
    """
    messages = _messages(request.input)
    if not messages:
        raise InvalidRequest("message", "There is no message to run the agent with.")
    messages[-1].additional_properties["hosting"] = origin(request)
    return messages


def origin(request: ChannelRequest) -> dict[str, Any]:
    """Say which channel and which caller a request came from."""
    mark: dict[str, Any] = {"channel": request.channel}
    if (identity := request.identity) is not None:
        mark["identity"] = {
            "channel": identity.channel,
            "native_id": identity.native_id,
            "attributes": dict(identity.attributes),
        }
    return mark


def _messages(value: object) -> list[Message]:
    if isinstance(value, (str, Content)):
        return [Message("user", [value])]
    if isinstance(value, Message):
        return [value]
    if isinstance(value, Sequence) and not isinstance(value, (bytes, bytearray)):
        items = cast("Sequence[object]", value)
        if all(isinstance(item, (str, Content, Message)) for item in items):
            return [item if isinstance(item, Message) else Message("user", [cast("Any", item)]) for item in items]
    kind = type(cast("object", value)).__name__
    raise InvalidRequest("message", f"An agent takes text, content or messages, not {kind}.")
