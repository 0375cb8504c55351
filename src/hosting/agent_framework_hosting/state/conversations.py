"""What the rest of the host needs of conversations, wherever they are kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import TurnConflict

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from ..requests import ChannelIdentity
    from .checkpoints import CheckpointKeeper


Admit = Callable[[bytes | None], None]
"""Raises where a conversation with that attachment is not to be continued."""

TRIES = 20


class Left(NamedTuple):
    """What a turn has left of its conversation."""

    snapshot: bytes | None
    checkpoint: WorkflowCheckpoint | None


class Turn(Protocol):
    """One turn's right to replace a conversation; end it in every case.

    `snapshot` is the session as JSON and `checkpoint` the workflow's checkpoint, as they were before; `stored_key` is
    the key they were stored under. `session` is the session's id. `guarded` tells whether the right can get lost,
    `committed` whether the turn is part of the conversation. Setting `reset_requested` starts the conversation anew
    when the turn is committed. `identity` is whoever takes the turn. Setting `to_copy` says that what it leaves will be
    saved elsewhere, too: where it comes to be `remembered`, that is its `snapshot` and `checkpoint`.

    Where `remembers` is true a turn's result is to be committed with it; where it is `remembered` the turn is saved
    already, and is not to be run again.
    """

    key: str
    stored_key: str
    snapshot: bytes | None
    checkpoint: WorkflowCheckpoint | None
    session: str
    identity: ChannelIdentity | None
    reset_requested: bool
    to_copy: bool
    committed: bool
    remembers: bool
    remembered: bytes | None

    @property
    def name(self) -> str: ...

    @property
    def guarded(self) -> bool: ...

    def check(self) -> None:
        """Make sure that this turn may still speak for the conversation.

        Raises:
            TurnConflict: Its lease was lost, or was not renewed in time.
        """
        ...

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Have `on_lost` called, from any thread, when the right is lost, until `unwatch`.

        Raises:
            TurnConflict: It is lost already.
        """
        ...

    def unwatch(self, on_lost: Callable[[], None]) -> None: ...

    async def commit(
        self,
        *,
        snapshot: bytes | None,
        checkpoint: WorkflowCheckpoint | None,
        result: bytes | None = None,
        attachment: bytes | None = None,
    ) -> None:
        """Replace the conversation by what this turn made of it; once begun, a cancellation waits for the end of it.

        Without another `attachment` (JSON) the conversation keeps the one that it has.

        Raises:
            TurnConflict: Somebody else owns the conversation by now; nothing was saved.
            ConfigurationError: The checkpoint could not be read back; nothing was saved.
            StateUnavailable: Whether it was saved could not be found out.
        """
        ...

    async def amend(self, attachment: bytes) -> None:
        """Commit, with nothing changed but the attachment.

        Raises:
            TurnConflict, StateUnavailable: As `commit`.
        """
        ...

    async def end(self) -> None:
        """Give back what is still held; without a commit the conversation is as it was before."""
        ...


class Conversations(Protocol):
    """All conversations of a host, and how a turn takes one; `keeper` keeps the checkpoints of a workflow's turns."""

    keeper: CheckpointKeeper | None

    async def begin(
        self,
        key: str,
        turn_id: str | None = None,
        *,
        fresh: bool = False,
        parent: str | None = None,
        existing: bool = False,
        to_reset: bool = False,
        admit: Admit | None = None,
    ) -> Turn:
        """Wait for the conversation and take it.

        `turn_id` makes a repeat of this turn recognisable. With `fresh` nobody else can know the key. `parent`
        names the conversation to start from instead, if `admit` does. With `existing` it is not begun if it is not
        there yet. With `to_reset` one that is too large, or cannot be read, is no obstacle.

        Raises:
            TurnBusy: It was not free within `turn_timeout`.
            TurnRepeated: A turn with this id is already part of it.
            SessionTooLarge: It is larger than `session_bytes`.
            StateDamaged: It cannot be read.
            UnknownConversation: There is no such parent, or no such conversation where it must exist.
        """
        ...

    async def overruling(self, key: str) -> tuple[Turn, bytes | None]:
        """Take a conversation as it is, whoever has it, and read its attachment.

        The commit fails if anything was written since; otherwise the turn that was running can save nothing any more,
        and ends at its next renewal.

        Raises:
            UnknownConversation: There is no such conversation.
            StateDamaged: It cannot be read.
        """
        ...

    async def peek(self, key: str, *, admit: Admit | None = None) -> tuple[bytes | None, WorkflowCheckpoint | None]:
        """Read a conversation's session and checkpoint without taking it.

        Raises:
            UnknownConversation: There is no such conversation.
        """
        ...

    async def attachment(self, key: str) -> bytes | None:
        """Read what a channel keeps with a conversation; None if there is none, or no such conversation.

        Raises:
            StateDamaged: It cannot be read.
        """
        ...

    async def let_go(self) -> None:
        """Give back what the turns that go on have taken, for a process that ends: what they still do is not saved."""
        ...

    async def close(self) -> None:
        """Finish what is under way, and end threads."""
        ...


async def copy(
    conversations: Conversations, turn: Turn, left: Left, attachment: bytes | None, *, to: str, over: bytes | None
) -> None:
    """Save what a turn has left once more: under a key that nobody else can know, or `over` an attachment.

    Raises:
        TurnConflict: There is another one by now.
    """
    from .sessions import rekeyed

    if over is None:
        other = await conversations.begin(to, fresh=True)
    else:
        other, found = await conversations.overruling(to)
        if found != over:
            raise TurnConflict("What the conversation was to be saved over has changed meanwhile.")
    try:
        other.identity = turn.identity
        snapshot = None if left.snapshot is None else rekeyed(left.snapshot, to)
        await other.commit(snapshot=snapshot, checkpoint=left.checkpoint, attachment=attachment)
    finally:
        await other.end()


async def amend(conversations: Conversations, key: str, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
    """Put what `change` makes of it in the place of a conversation's attachment, whoever has it, and give that.

    Where `change` gives None the attachment stays as it is.

    Raises:
        UnknownConversation: There is no such conversation.
        TurnConflict: Somebody else wrote, again and again.
    """
    for _ in range(TRIES):
        turn, found = await conversations.overruling(key)
        if (wanted := change(found)) is None:
            return found
        with suppress(TurnConflict):
            await amend_turn(turn, wanted)
            return wanted
    raise TurnConflict("This conversation is being written again and again. Try again.")


async def amend_turn(turn: Turn, attachment: bytes) -> None:
    """Amend by a turn, and end it."""
    try:
        await turn.amend(attachment)
    finally:
        await turn.end()


async def reset(conversations: Conversations, key: str) -> None:
    """Start a conversation anew under a new session id; the old session is archived where there is a store."""
    await reset_turn(await conversations.begin(key, to_reset=True))


async def reset_turn(turn: Turn) -> None:
    """Start the conversation of a turn anew, and end the turn."""
    try:
        turn.reset_requested = True
        await turn.commit(snapshot=turn.snapshot, checkpoint=None)
    finally:
        await turn.end()
