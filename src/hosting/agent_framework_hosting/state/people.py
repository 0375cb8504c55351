"""Who took part in a conversation, as its head remembers them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..requests import ChannelIdentity

MOST = 1000
"""How many people a head names; of larger groups those who came first are dropped."""


def person(channel: str, native_id: str) -> str:
    """Name somebody without saying who it is: 32 hex digits.

    The same identity gives the same name everywhere, so that it can be found again by whoever knows it. Who can guess
    the identity can check the guess: it is no anonymisation.
    """
    return hashlib.sha256(f"{len(channel)}:{channel}:{native_id}".encode("utf-8", "replace")).hexdigest()[:32]


def with_person(people: tuple[str, ...], identity: ChannelIdentity | None) -> tuple[str, ...]:
    """Add somebody who is not among them yet."""
    if identity is None:
        return people
    who = person(identity.channel, identity.native_id)
    return people if who in people else (*people, who)[-MOST:]
