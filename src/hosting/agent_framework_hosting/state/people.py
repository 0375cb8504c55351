"""Who took part in a conversation, as its head remembers them."""

from __future__ import annotations

import hashlib


def person(channel: str, native_id: str) -> str:
    """Name somebody without saying who it is: 32 hex digits.

    The same identity gives the same name everywhere, so that it can be found again by whoever knows it. Who can guess
    the identity can check the guess: it is no anonymisation.
    """
    return hashlib.sha256(f"{len(channel)}:{channel}:{native_id}".encode()).hexdigest()[:32]
