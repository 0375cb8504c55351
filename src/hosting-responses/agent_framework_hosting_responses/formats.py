"""The body's `text`: the form of the answer."""

from __future__ import annotations

from typing import Any

from agent_framework_hosting.body import Json

from .checks import check_choice, check_fields, check_flag, check_object, check_text, join
from .given_back import check_function_name

FORMATS = frozenset({"json_object", "json_schema", "text"})
SCHEMA_FIELDS = frozenset({"description", "name", "schema", "strict", "type"})
VERBOSITIES = frozenset({"high", "low", "medium"})


def read_text_settings(value: Json, field: str) -> tuple[dict[str, Any], Json]:
    """Give the chat options `response_format` and `verbosity`, and `text` as the response shows it.

    Raises:
        InvalidRequest: The format is unknown or incomplete.
    """
    text = check_object(value, field)
    check_fields(text, field, frozenset({"format", "verbosity"}))
    options: dict[str, Any] = {}
    echo: dict[str, Json] = {"format": {"type": "text"}}
    given = text.get("format")
    if given is not None:
        options["response_format"], echo["format"] = read_format(given, join(field, "format"))
    verbosity = text.get("verbosity")
    if verbosity is not None:
        verbosity = check_choice(verbosity, join(field, "verbosity"), VERBOSITIES)
        options["verbosity"] = echo["verbosity"] = verbosity
    return options, echo


def read_format(value: Json, field: str) -> tuple[dict[str, Json], Json]:
    given = check_object(value, field)
    kind = check_choice(given.get("type"), join(field, "type"), FORMATS)
    if kind != "json_schema":
        check_fields(given, field, frozenset({"type"}))
        return {"type": kind}, {"type": kind}
    check_fields(given, field, SCHEMA_FIELDS)
    section: dict[str, Json] = {
        "name": check_function_name(given.get("name"), join(field, "name")),
        "schema": check_object(given.get("schema"), join(field, "schema")),
    }
    description = given.get("description")
    if description is not None:
        section["description"] = check_text(description, join(field, "description"))
    strict = given.get("strict")
    if strict is not None:
        section["strict"] = check_flag(strict, join(field, "strict"))
    # The protocol's JsonSchemaResponseFormat has no place for the schema itself.
    echo: dict[str, Json] = {
        "type": kind,
        "name": section["name"],
        "description": description,
        "schema": None,
        "strict": strict is True,
    }
    return {"type": kind, "json_schema": section}, echo
