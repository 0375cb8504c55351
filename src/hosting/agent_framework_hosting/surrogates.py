"""Text that UTF-8 cannot carry: halves of surrogate pairs, which some models stream."""

from __future__ import annotations

__all__ = ["utf8"]


def utf8(text: str) -> bytes:
    """Encode a text; halves that fit are joined, and others become U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()
