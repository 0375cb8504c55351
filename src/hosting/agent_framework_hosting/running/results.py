"""What came of a turn, as a document: enough to answer again without running the target again."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from agent_framework import AgentResponse, AgentResponseUpdate, Content, Message

from ..errors import ConfigurationError, StateDamaged
from ..internals import decode_value, encode_value, is_run_result, run_result
from ..requests import PendingRequest
from ..state.checkpoints import HARMLESS
from ..state.sessions import decode_session
from ..surrogates import utf8
from .outputs import output_update
from .run import Outcome

if TYPE_CHECKING:
    from agent_framework import AgentSession

    from ..state.conversations import Turn

_SHOWN = ("output", "intermediate")


class Stored(msgspec.Struct, frozen=True):
    """A result: `response` is an agent's, `value` of the framework's checkpoint encoding is any other's."""

    pending: list[PendingRequest]
    response: dict[str, Any] | None = None
    events: Any = None
    value: Any = None


def encode_result(result: object, pending: Sequence[PendingRequest]) -> bytes:
    """Write the result of a turn.

    Raises:
        ConfigurationError: It could not be read back; the message names what to do.
    """
    if isinstance(result, AgentResponse):
        return proved(text_of({"pending": listed(pending), "response": result.to_dict()}))
    if is_run_result(result):
        shown = [(event.type, event.executor_id, bare(event.data)) for event in result if event.type in _SHOWN]
        kind, value = "events", cast("object", shown)
    else:
        kind, value = "value", bare(result)
    try:
        encoded = encode_value(value)
        decode_value(encoded, allowed=HARMLESS)
        return proved(text_of({"pending": listed(pending), kind: encoded}))
    except Exception as error:
        raise ConfigurationError(
            f"What the target gave could not be kept for its reply: {error}. Give text, plain values or framework "
            "types, or call agent_framework.register_checkpoint_type() for the type where it is defined."
        ) from error


def text_of(document: object) -> bytes:
    """Write JSON. What has no such form is some provider's extra: the reply does without it."""
    try:
        return utf8(_encoder.encode(document))
    except ValueError:
        return utf8(_encoder.encode(finite(document)))


def finite(value: object) -> object:
    """Give a value with nothing in place of numbers that are none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in cast("dict[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in cast("list[object]", value)]
    return value


def proved(data: bytes) -> bytes:
    """Give a result that can be read back.

    Raises:
        ConfigurationError: It cannot.
    """
    try:
        decode_result("the result of this turn", data)
    except StateDamaged as error:
        raise ConfigurationError(
            f"What the target gave could not be kept for its reply: {error.__cause__}. Give text, plain values or "
            "framework types."
        ) from error
    return data


# The head that holds a result must stay JSON.
_encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=str)


def listed(pending: Sequence[PendingRequest]) -> object:
    return msgspec.to_builtins(list(pending), enc_hook=str)


def bare(value: object) -> object:
    """Give a value of the framework without the provider's own objects, which another process may not know."""
    if isinstance(value, AgentResponse):
        return AgentResponse.from_dict(cast("AgentResponse[Any]", value).to_dict())
    if isinstance(value, AgentResponseUpdate | Message | Content):
        return type(value).from_dict(value.to_dict())
    if isinstance(value, list):
        return [bare(item) for item in cast("list[object]", value)]
    return value


def decode_result(name: str, data: bytes) -> tuple[Any, list[PendingRequest]]:
    """Read what `encode_result` wrote; `name` is for the error.

    Raises:
        StateDamaged: It cannot be read.
    """
    try:
        stored = msgspec.json.decode(data, type=Stored)
        if stored.response is not None:
            return AgentResponse.from_dict(stored.response), stored.pending
        if stored.events is not None:
            return run_result(decode_value(stored.events, allowed=HARMLESS)), stored.pending
        return decode_value(stored.value, allowed=HARMLESS), stored.pending
    except Exception as error:
        raise StateDamaged(name, f"A stored result in {name!r} cannot be read ({type(error).__name__}).") from error


class RememberedRun:
    """A `Run` whose result is there already."""

    def __init__(self, turn: Turn) -> None:
        assert turn.remembered is not None
        self._result, self._pending = decode_result(turn.name, turn.remembered)
        self.session: AgentSession | None = None
        if turn.snapshot is not None:
            self.session = decode_session(turn.name, turn.snapshot, turn.stored_key).session

    async def once(self) -> Any:
        return self._result

    async def updates(self) -> AsyncIterator[AgentResponseUpdate]:
        return updates_of(self._result)

    async def final(self) -> Any:
        return self._result

    async def outcome(self, result: Any) -> Outcome:
        return Outcome(self._pending, resumable=True)

    async def close(self) -> None:
        return None


async def updates_of(result: object) -> AsyncIterator[AgentResponseUpdate]:
    """Give a result in the pieces that it could have been streamed in."""
    if isinstance(result, AgentResponse):
        for message in result.messages:
            yield AgentResponseUpdate(
                contents=list(message.contents),
                role=message.role,
                author_name=message.author_name,
                message_id=message.message_id,
                response_id=result.response_id,
            )
    elif is_run_result(result):
        for event in result:
            if event.type == "output":
                yield output_update(event)
