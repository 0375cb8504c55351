"""Who took part in a conversation, without saying who it was."""

from __future__ import annotations

import hashlib

MOST = 1000
"""How many people a head names; of larger groups the first ones are dropped."""


def person(channel: str, native_id: str) -> str:
    """Give the hash under which a caller's identity stands in the heads of conversations."""
    return hashlib.sha256(f"{len(channel)}:{channel}:{native_id}".encode("utf-8", "replace")).hexdigest()[:32]


def with_person(people: tuple[str, ...], who: str | None) -> tuple[str, ...]:
    """Add somebody who is not among them yet."""
    return people if who is None or who in people else (*people, who)[-MOST:]
