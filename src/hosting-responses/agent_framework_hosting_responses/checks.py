"""Values of a body, each checked to be of its kind.

Every function takes the value and the field it stands in, and raises `InvalidRequest` naming that field.
"""

from __future__ import annotations

from collections.abc import Iterable

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json

SHOWN = 60


def shown(text: str) -> str:
    """Quote what a caller wrote, but no more of it than helps to find it."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "…")


def name_of(field: str) -> str:
    """Cut a name that a caller chose down to what an error may repeat."""
    return field if len(field) <= SHOWN else field[:SHOWN] + "…"


def join(parent: str, name: str) -> str:
    return f"{parent}.{name_of(name)}"


def check_object(value: Json, field: str) -> dict[str, Json]:
    if not isinstance(value, dict):
        raise InvalidRequest(field, f"{field} must be a JSON object.")
    return value


def check_list(value: Json, field: str) -> list[Json]:
    if not isinstance(value, list):
        raise InvalidRequest(field, f"{field} must be a list.")
    return value


def check_flag(value: Json, field: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidRequest(field, f"{field} must be true or false.")
    return value


def check_text(value: Json, field: str, *, least: int = 0, most: int | None = None) -> str:
    """Check a text and, where `most` is given, its length in characters."""
    if not isinstance(value, str):
        raise InvalidRequest(field, f"{field} must be a text.")
    if len(value) < least or (most is not None and len(value) > most):
        bounds = f"{least} to {most}" if most is not None else f"at least {least}"
        raise InvalidRequest(field, f"{field} must have {bounds} characters.")
    return value


def check_choice(value: Json, field: str, choices: Iterable[str]) -> str:
    if not isinstance(value, str) or value not in choices:
        raise InvalidRequest(field, f"{field} must be one of: {', '.join(sorted(choices))}.")
    return value


def check_number(value: Json, field: str, least: float, most: float) -> float:
    # True and false are numbers to Python.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise InvalidRequest(field, f"{field} must be a number from {least:g} to {most:g}.")
    return value


def check_count(value: Json, field: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidRequest(field, f"{field} must be a whole number from {least} to {most}.")
    return value


def check_fields(value: dict[str, Json], field: str, known: frozenset[str]) -> None:
    """Refuse the first field that is not `known`."""
    if not value.keys() <= known:
        unknown = min(value.keys() - known)
        raise InvalidRequest(
            join(field, unknown), f"{shown(unknown)} is not known in {field}: use {', '.join(sorted(known))}."
        )
