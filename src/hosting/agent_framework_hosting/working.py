"""The update that is being worked on, which the turns that are taken meanwhile belong to."""

from __future__ import annotations

import hashlib
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import TurnConflict

if TYPE_CHECKING:
    from .state.mailboxes import HeldUpdate

_working: ContextVar[Working | None] = ContextVar("hosting_update", default=None)


@dataclass(slots=True)
class Working:
    """The update that is being worked on; `elsewhere` counts its turns in other conversations.

    `given_up`: others may go on with it, while what was stopped here has not come to its end.
    """

    held: HeldUpdate
    elsewhere: int = 0
    given_up: bool = False

    def has(self, key: str) -> bool:
        """Whether the update's lease is this conversation's."""
        return self.held.active and self.held.update.isolation_key == key

    def turn_id(self, key: str) -> str:
        """Name the next turn in another conversation, so that the next attempt does not take it once more."""
        self.elsewhere += 1
        update = self.held.update
        parts = "\0".join((update.channel, update.id, key, str(self.elsewhere)))
        return hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:32]


@contextmanager
def working_on(held: HeldUpdate) -> Generator[Working]:
    """Let the turns that are taken inside be the update's."""
    token = _working.set(working := Working(held))
    try:
        yield working
    finally:
        _working.reset(token)


def current_update() -> Working | None:
    """Give the update that the caller works on; None outside of one.

    Raises:
        TurnConflict: The caller was stopped: it may take no more turns.
    """
    working = _working.get()
    if working is not None and working.given_up:
        raise TurnConflict("This attempt at an update was stopped: another one takes its turns.")
    return working
