"""Isolation keys: how conversations are named, and the store names they map to."""

from __future__ import annotations

import hashlib
import re
from typing import cast
from urllib.parse import quote

from .errors import InvalidRequest

__all__ = ["check_key"]

_SAFE = re.compile(r"[A-Za-z0-9._~@-]+")


def isolation_key(*parts: str | None) -> str:
    """Join parts into one key, so that different parts never give the same key.

    `("a", "b:c")` becomes `a:b%3Ac`. `None` becomes the empty part and `""` becomes `%`, which no other text
    encodes to.

    Raises:
        InvalidRequest: A part holds a lone surrogate, which has no UTF-8 form.
        TypeError: There are no parts.
    """
    if not parts:
        raise TypeError("isolation_key() takes at least one part: no parts would give the same key as one None.")
    return ":".join([_encode(part) for part in parts])


def _encode(part: str | None) -> str:
    if part is None:
        return ""
    if _SAFE.fullmatch(part):
        return part
    return quote(check_key(part), safe="@") or "%"


def check_key(key: str) -> str:
    """Return `key` if it can name a conversation.

    Raises:
        InvalidRequest: It is not text, or holds a lone surrogate.
    """
    try:
        key.encode()
    except (AttributeError, UnicodeEncodeError):
        raise InvalidRequest("session", "An isolation key is text without lone surrogates.") from None
    return key


def conversation_path(key: str) -> str:
    """Give the store path of a conversation: `aa/<sha256 hex>`, where `aa` are the first two digits."""
    digest = hashlib.sha256(key.encode()).hexdigest()
    return f"{digest[:2]}/{digest}"


def turn_id(key: str, idempotency_key: object) -> str:
    """Give the id that an idempotency key stands for in one conversation.

    Raises:
        InvalidRequest: The idempotency key is no text.
    """
    try:
        given = check_key(cast("str", idempotency_key))
    except InvalidRequest:
        raise InvalidRequest("idempotency_key", "An idempotency key is text without lone surrogates.") from None
    check_key(key)
    return hashlib.sha256(f"{len(key)}:{key}:{given}".encode()).hexdigest()[:32]
