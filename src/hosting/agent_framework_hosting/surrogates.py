"""Text that UTF-8 cannot carry: halves of surrogate pairs, which some models stream."""

from __future__ import annotations

from typing import Any

__all__ = ["scrub", "utf8"]


def utf8(text: str) -> bytes:
    """Encode a text; halves that fit are joined, and others become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def scrub(value: Any) -> Any:
    """Make all texts of a JSON value such that UTF-8 can carry them."""
    if isinstance(value, str):
        return utf8(value).decode()
    if isinstance(value, list):
        return [scrub(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, dict):
        return {scrub(key): scrub(item) for key, item in value.items()}  # pyright: ignore[reportUnknownVariableType]
    return value
