"""What a model said before, as a caller gives it back: assistant messages, function calls, reasoning."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json

from .checks import check_fields, check_list, check_object, check_text, join, shown

if TYPE_CHECKING:
    from agent_framework import Content

    Said = tuple[list[Content], list[dict[str, Json]]]
    Item = tuple[list[Content], dict[str, Json]]

MAX_CALL_ID = 256
FUNCTION_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
TEXT_FIELDS = frozenset({"annotations", "logprobs", "text", "type"})
REFUSAL_FIELDS = frozenset({"refusal", "type"})
CALL_FIELDS = frozenset({"arguments", "call_id", "id", "name", "status", "type"})
REASONING_FIELDS = frozenset({"content", "encrypted_content", "id", "status", "summary", "type"})
PLAIN_FIELDS = frozenset({"text", "type"})


def check_function_name(value: Json, field: str) -> str:
    name = check_text(value, field)
    if not FUNCTION_NAME.fullmatch(name):
        raise InvalidRequest(field, f"{field} must be 1 to 64 of the characters a-z, A-Z, 0-9, _ and -.")
    return name


def read_said(value: Json, field: str) -> Said:
    """Read an assistant message's content, which may be empty: `output_text` and `refusal`, or one text."""
    if isinstance(value, str):
        value = [{"type": "output_text", "text": value}]
    contents: list[Content] = []
    parts: list[dict[str, Json]] = []
    for index, part in enumerate(check_list(value, field)):
        content, stored = read_said_part(part, f"{field}[{index}]")
        contents.append(content)
        parts.append(stored)
    return contents, parts


def read_said_part(value: Json, field: str) -> tuple[Content, dict[str, Json]]:
    from agent_framework import Content

    part = check_object(value, field)
    kind = check_text(part.get("type"), join(field, "type"))
    if kind == "refusal":
        check_fields(part, field, REFUSAL_FIELDS)
        refusal = check_text(part.get("refusal"), join(field, "refusal"))
        return Content.from_text(refusal), {"type": "refusal", "refusal": refusal}
    if kind != "output_text":
        raise InvalidRequest(join(field, "type"), f"An assistant says output_text or refusal, and not {shown(kind)}.")
    check_fields(part, field, TEXT_FIELDS)
    text = check_text(part.get("text"), join(field, "text"))
    annotations = check_list(part.get("annotations") or [], join(field, "annotations"))
    check_list(part.get("logprobs") or [], join(field, "logprobs"))
    stored: dict[str, Json] = {
        "type": "output_text",
        "text": text,
        "annotations": [citation for each in annotations for citation in read_citation(each)],
        "logprobs": [],
    }
    return Content.from_text(text), stored


def read_citation(value: Json) -> list[Json]:
    """Keep a well-formed URL citation, the only annotation that the protocol lists; the model is shown none."""
    match value:
        case {"type": "url_citation", "url": str(), "title": str(), "start_index": int(), "end_index": int()}:
            return [{key: value[key] for key in ("type", "url", "title", "start_index", "end_index")}]
        case _:
            return []


def read_call(item: dict[str, Json], field: str) -> Item:
    from agent_framework import Content

    check_fields(item, field, CALL_FIELDS)
    call_id = check_text(item.get("call_id"), join(field, "call_id"), least=1, most=MAX_CALL_ID)
    name = check_function_name(item.get("name"), join(field, "name"))
    arguments = check_text(item.get("arguments"), join(field, "arguments"))
    stored: dict[str, Json] = {
        "type": "function_call",
        "status": "completed",
        "call_id": call_id,
        "name": name,
        "arguments": arguments,
    }
    return [Content.from_function_call(call_id, name, arguments=arguments)], stored


def read_reasoning(item: dict[str, Json], field: str) -> Item:
    """Read a reasoning item: one content per text, of which the first carries what is encrypted.

    The caller's id stays on the contents: a model's service may check that it belongs to the encrypted text.
    """
    from agent_framework import Content

    check_fields(item, field, REASONING_FIELDS)
    given = item.get("id")
    own = None if given is None else check_text(given, join(field, "id"), least=1, most=256)
    given = item.get("encrypted_content")
    encrypted = None if given is None else check_text(given, join(field, "encrypted_content"))
    summary = read_texts(item.get("summary"), join(field, "summary"), "summary_text")
    content = read_texts(item.get("content"), join(field, "content"), "reasoning_text")
    contents: list[Content] = []
    for text in summary or content or ([""] if encrypted is not None else []):
        protected = encrypted if not contents else None
        contents.append(Content.from_text_reasoning(id=own, text=text, protected_data=protected))
    stored: dict[str, Json] = {
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": text} for text in summary],
    }
    if content:
        stored["content"] = [{"type": "reasoning_text", "text": text} for text in content]
    if encrypted is not None:
        stored["encrypted_content"] = encrypted
    return contents, stored


def read_texts(value: Json, field: str, kind: str) -> list[str]:
    texts: list[str] = []
    for index, each in enumerate(check_list([] if value is None else value, field)):
        where = f"{field}[{index}]"
        part = check_object(each, where)
        check_fields(part, where, PLAIN_FIELDS)
        if part.get("type") != kind:
            raise InvalidRequest(join(where, "type"), f"{join(where, 'type')} must be {kind}.")
        texts.append(check_text(part.get("text"), join(where, "text")))
    return texts
