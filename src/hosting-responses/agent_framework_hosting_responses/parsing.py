"""From a decoded body to what is to be created."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json

from .checks import check_fields, check_flag, check_object, check_text
from .ids import MAX_ID, mint
from .items import check_trust, read_input
from .options import read_settings
from .rules import Rules

if TYPE_CHECKING:
    from agent_framework import Message

__all__ = ["Create", "Rules", "parse_create"]


class Create(msgspec.Struct, frozen=True):
    """One response to be made.

    `input` is the body's text, or messages; `items` is the same as the protocol's items, with ids minted here. Where
    `answers` (by pending id) are not empty, there are no messages. `options` are the framework's chat options; `echo`
    is what the response object shows of the request, of which it lacks what was not given.
    """

    input: str | list[Message]
    items: list[dict[str, Json]]
    answers: dict[str, Json]
    options: dict[str, Any]
    echo: dict[str, Json]
    model: str | None
    previous_response_id: str | None
    conversation: str | None
    stream: bool
    store: bool
    background: bool


def parse_create(body: Json, rules: Rules, *, mint: Callable[[str], str] = mint) -> Create:
    """Check a body parameter by parameter. Whether the ids in it exist is not known here.

    Raises:
        InvalidRequest: A parameter is missing, unknown, refused by the rules, or not of its kind.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("body", 'The body must be a JSON object such as {"input": "Hello"}.')
    settings = read_settings(body, rules)
    instructions = body.get("instructions")
    if instructions is not None:
        instructions = check_text(instructions, "instructions")
        check_trust(rules, "instructions", "instructions")
        settings.options["instructions"] = settings.echo["instructions"] = instructions
    previous_response_id = read_id(body.get("previous_response_id"), "previous_response_id")
    conversation = read_conversation(body.get("conversation"))
    if previous_response_id is not None and conversation is not None:
        raise InvalidRequest("conversation", "Send previous_response_id or conversation, and not both.")
    stream = read_flag(body, "stream", default=False)
    store = read_flag(body, "store", default=True)
    background = read_flag(body, "background", default=False)
    if background and not store:
        raise InvalidRequest("background", "A background response must be stored: leave store out.")
    given = body.get("input")
    found = read_input(given, rules, mint)
    model = body.get("model")
    return Create(
        input=given if isinstance(given, str) else found.messages,
        items=found.items,
        answers=found.answers,
        options=settings.options,
        echo=settings.echo,
        model=model if isinstance(model, str) else None,
        previous_response_id=previous_response_id,
        conversation=conversation,
        stream=stream,
        store=store,
        background=background,
    )


def read_flag(body: dict[str, Json], name: str, *, default: bool) -> bool:
    value = body.get(name)
    return default if value is None else check_flag(value, name)


def read_id(value: Json, field: str) -> str | None:
    return None if value is None else check_text(value, field, least=1, most=MAX_ID)


def read_conversation(value: Json) -> str | None:
    """Read `"conv_…"` or `{"id": "conv_…"}`."""
    if value is None or isinstance(value, str):
        return read_id(value, "conversation")
    named = check_object(value, "conversation")
    check_fields(named, "conversation", frozenset({"id"}))
    return check_text(named.get("id"), "conversation.id", least=1, most=MAX_ID)
