"""Input items, as the framework's messages and as items that are stored and listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

import msgspec

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import InvalidBody, Json, decode_json
from agent_framework_hosting.surrogates import utf8

from .checks import check_choice, check_fields, check_object, check_text, join, shown
from .given_back import MAX_CALL_ID, read_call, read_reasoning, read_said
from .input_parts import read_parts, shown_text
from .rules import Rules

if TYPE_CHECKING:
    from agent_framework import Content, Message

PENDING = "pending_"
ROLES = frozenset({"assistant", "developer", "system", "user"})
MESSAGE_FIELDS = frozenset({"content", "id", "role", "status", "type"})
OUTPUT_FIELDS = frozenset({"call_id", "id", "output", "status", "type"})
ITEMS = frozenset({"function_call", "function_call_output", "message", "reasoning"})
Role = Literal["assistant", "system", "tool", "user"]


class Input:
    """What the items say so far.

    `messages` go to the target, `items` are stored, and `answers` are what pending requests get, by their ids. Of a
    body that is a text there are no messages: it goes to the target as it is.
    """

    def __init__(self, rules: Rules, mint: Callable[[str], str]) -> None:
        self.rules = rules
        self.mint = mint
        self.messages: list[Message] = []
        self.items: list[dict[str, Json]] = []
        self.answers: dict[str, Json] = {}

    def say(self, role: Role, contents: list[Content], *, joined: bool = False) -> None:
        """Add a message; what is `joined` goes into the last one if that has the same role."""
        from agent_framework import Message

        if joined and self.messages and self.messages[-1].role == role:
            self.messages[-1].contents.extend(contents)
        elif contents:
            self.messages.append(Message(role, contents))

    def store(self, prefix: str, item: dict[str, Json]) -> None:
        self.items.append({"id": self.mint(prefix), **item})


def read_input(value: Json, rules: Rules, mint: Callable[[str], str]) -> Input:
    """Read the body's `input`: a text, which is one user message, or a list of items.

    Raises:
        InvalidRequest: It is empty, an item is refused, or answers stand beside other input.
    """
    found = Input(rules, mint)
    if value is None or value in ("", []):
        raise InvalidRequest("input", "input must be a text or a list of items, and not empty.")
    if isinstance(value, str):
        found.store("msg", stored_message("user", [shown_text(value)]))
        return found
    if not isinstance(value, list):
        raise InvalidRequest("input", "input must be a text or a list of items.")
    for index, item in enumerate(value):
        read_item(check_object(item, f"input[{index}]"), f"input[{index}]", found)
    if found.answers and len(found.answers) != len(found.items):
        raise InvalidRequest("input", "Send the answers to what is pending alone, without other input.")
    if not found.answers and not found.messages:
        raise InvalidRequest("input", "input says nothing: send a message that is not empty.")
    return found


def read_item(item: dict[str, Json], field: str, found: Input) -> None:
    # The SDK's EasyInputMessage has no type.
    kind = item.get("type")
    if kind is None:
        kind = "message" if "role" in item else "item_reference" if "id" in item else None
    if kind == "message":
        read_message(item, field, found)
    elif kind == "function_call_output":
        read_output(item, field, found)
    elif kind == "item_reference":
        raise InvalidRequest(
            join(field, "type"), "Item references are not taken here: use previous_response_id or conversation."
        )
    elif kind == "function_call" or kind == "reasoning":
        check_trust(found.rules, join(field, "type"), f"A {kind} item")
        if kind == "reasoning":
            contents, stored = read_reasoning(item, field)
            found.store("rs", stored)
        else:
            contents, stored = read_call(item, field)
            found.store("fc", stored)
        found.say("assistant", contents, joined=True)
    else:
        name = shown(check_text(kind, join(field, "type")))
        raise InvalidRequest(
            join(field, "type"), f"Items of type {name} are not taken here: use {', '.join(sorted(ITEMS))}."
        )


def check_trust(rules: Rules, field: str, what: str) -> None:
    if not rules.trust_caller_instructions:
        raise InvalidRequest(
            field,
            f"{what} from a caller is not taken here. Continue with previous_response_id or conversation, which know "
            "what was said; or the operator has to set trust_caller_instructions.",
        )


def read_message(item: dict[str, Json], field: str, found: Input) -> None:
    role = check_choice(item.get("role"), join(field, "role"), ROLES)
    if role != "user":
        check_trust(found.rules, join(field, "role"), f"A message of role {role}")
    where = join(field, "content")
    if role == "assistant":
        check_fields(item, field, MESSAGE_FIELDS | {"phase"})
        contents, parts = read_said(item.get("content"), where)
        found.say("assistant", contents, joined=True)
        found.store("msg", stored_message(role, parts) | read_phase(item, field))
        return
    check_fields(item, field, MESSAGE_FIELDS)
    content = item.get("content")
    if content in ("", []):
        raise InvalidRequest(where, f"{where} must not be empty.")
    if role != "user":
        check_plain(content, where)
    read = read_parts(content, where, found.rules)
    found.say("user" if role == "user" else "system", [content for content, _ in read])
    found.store("msg", stored_message(role, [part for _, part in read]))


def check_plain(content: Json, field: str) -> None:
    """Instructions are texts: nothing in them comes from elsewhere."""
    if isinstance(content, list):
        for index, part in enumerate(content):
            where = f"{field}[{index}]"
            check_choice(check_object(part, where).get("type"), join(where, "type"), ("input_text",))


def read_phase(item: dict[str, Json], field: str) -> dict[str, Json]:
    phase = item.get("phase")
    if phase is None:
        return {}
    return {"phase": check_choice(phase, join(field, "phase"), ("commentary", "final_answer"))}


def stored_message(role: str, parts: list[dict[str, Json]]) -> dict[str, Json]:
    return {"type": "message", "status": "completed", "role": role, "content": [*parts]}


def read_output(item: dict[str, Json], field: str, found: Input) -> None:
    """Read what a function gave, or what is the answer to a question of the host's own: those begin with `PENDING`."""
    from agent_framework import Content

    check_fields(item, field, OUTPUT_FIELDS)
    where = join(field, "call_id")
    call_id = check_text(item.get("call_id"), where, least=1, most=MAX_CALL_ID)
    output = item.get("output")
    if call_id.startswith(PENDING):
        pending = call_id.removeprefix(PENDING)
        if not pending or pending in found.answers:
            raise InvalidRequest(where, f"{where} must be the call_id of what is pending, and each is answered once.")
        found.answers[pending] = read_answer(output, join(field, "output"))
        stored = output
    else:
        read = read_parts(output, join(field, "output"), found.rules)
        result = output if isinstance(output, str) else [content for content, _ in read]
        found.say("tool", [Content.from_function_result(call_id, result=result)], joined=True)
        stored: Json = output if isinstance(output, str) else [part for _, part in read]
    found.store("fco", {"type": "function_call_output", "status": "completed", "call_id": call_id, "output": stored})


def read_answer(output: Json, field: str) -> Json:
    """Read an answer: a JSON text; what is no JSON counts as that text."""
    text = check_text(output, field)
    try:
        return decode_json(utf8(text))
    except (InvalidBody, msgspec.ValidationError):  # The latter: a number that is too large.
        return text
