"""What the rest of the host needs of mailboxes, wherever they are kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

from ..updates import Standing

if TYPE_CHECKING:
    from ..updates import InboundUpdate
    from .conversations import Turn


class HeldUpdate(Protocol):
    """The next update of a conversation, and the right to work on it. Conclude it with `done`, `fail` or `release`.

    `attempt` counts from 1. `trace` is what the accepting request's trace is continued with.
    """

    update: InboundUpdate
    attempt: int
    trace: Mapping[str, str]
    active: bool

    @property
    def begun(self) -> bool:
        """Whether the conversation is there: a turn of it was saved."""
        ...

    def check(self) -> None:
        """Make sure that the right is still there.

        Raises:
            TurnConflict: It was lost, or the update is concluded.
        """
        ...

    def guard(self) -> AbstractAsyncContextManager[Any]:
        """Cancel the body when the right is lost.

        Raises:
            TurnConflict: That happened.
        """
        ...

    async def turn(self, *, to_reset: bool = False) -> Turn:
        """Begin the next turn of this update in its own conversation.

        The turns of an earlier attempt that are saved are not run again: the first turns of this one are those,
        and have `remembered` what came of them. With `to_reset` a conversation that is too large, or cannot be read, is
        no obstacle.

        Raises:
            TurnBusy: Another turn of the update did not end in time.
            TurnConflict: The right was lost, or the update is concluded.
            SessionTooLarge: The conversation is larger than `session_bytes`.
            StateDamaged: It cannot be read.
        """
        ...

    async def done(self) -> HeldUpdate | None:
        """Conclude a finished update, and give the next one of the same conversation if there is one to begin at once.

        Raises:
            TurnConflict: The right was lost; somebody else concludes it.
            StateUnavailable: It may be concluded, or not: who comes next finds out.
        """
        ...

    async def fail(self, error: str, *, final: bool = False) -> None:
        """Put the update on hold after a failed attempt; after the last one, or a `final` failure, set it aside.

        Raises:
            TurnConflict: The right was lost.
            StateUnavailable: As `done`.
        """
        ...

    async def release(self) -> None:
        """Give up without a result: this attempt does not count."""
        ...


class Mailboxes(Protocol):
    """The accepted, unfinished updates of all conversations."""

    async def accept(self, update: InboundUpdate, trace: Mapping[str, str]) -> bool:
        """Keep an update; False if it is known already: done, or run by now.

        Raises:
            InvalidRequest: It cannot be kept as it is.
            StateUnavailable: It was not kept, or the mailbox is full.
        """
        ...

    async def take(self, key: str) -> HeldUpdate | float | None:
        """Take the next update of a conversation.

        Returns:
            None where there is none, and the seconds to wait where it is held by somebody, or on hold.

        Raises:
            StateUnavailable: The store did not answer.
            StateDamaged: The conversation's head cannot be read.
        """
        ...

    async def standing(self, update: InboundUpdate) -> Standing | None:
        """Tell what becomes of an accepted update; None where nothing will any more: it is done, set aside or dropped.

        Raises:
            StateUnavailable, StateDamaged: It cannot be told.
        """
        ...

    async def interrupt(self, update: InboundUpdate) -> None:
        """End an attempt at an update that is under way somewhere: at the next renewal, and as if it had not been.

        Raises:
            StateUnavailable: It may go on.
        """
        ...

    def keys(self) -> AsyncIterator[str]:
        """Give the keys of all conversations that have unfinished updates."""
        ...

    async def close(self) -> None:
        """Finish what is under way."""
        ...
