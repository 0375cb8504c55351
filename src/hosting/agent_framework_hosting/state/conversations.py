"""What the rest of the host needs of conversations, wherever they are kept."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from ..requests import ChannelIdentity
    from .checkpoints import CheckpointKeeper


class Turn(Protocol):
    """One turn's right to replace a conversation; end it in every case.

    `snapshot` is the session as JSON and `checkpoint` the workflow's checkpoint, as they were before; `stored_key` is
    the key they were stored under. `session` is the session's id. `guarded` tells whether the right can get lost,
    `committed` whether the turn is part of the conversation. Setting `reset_requested` starts the conversation anew
    when the turn is committed. `identity` is whoever takes the turn.

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

    def guard(self) -> AbstractAsyncContextManager[Any]:
        """Cancel the body when the right is lost.

        Raises:
            TurnConflict: That happened.
        """
        ...

    async def commit(
        self, *, snapshot: bytes | None, checkpoint: WorkflowCheckpoint | None, result: bytes | None = None
    ) -> None:
        """Replace the conversation by what this turn made of it; once begun, a cancellation waits for the end of it.

        Raises:
            TurnConflict: Somebody else owns the conversation by now; nothing was saved.
            ConfigurationError: The checkpoint could not be read back; nothing was saved.
            StateUnavailable: Whether it was saved could not be found out.
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
        to_reset: bool = False,
    ) -> Turn:
        """Wait for the conversation and take it.

        `turn_id` makes a repeat of this turn recognisable. With `fresh` nobody else can know the key. `parent`
        names the conversation to start from instead. With `to_reset` one that is too large, or cannot be read, is no
        obstacle.

        Raises:
            TurnBusy: It was not free within `turn_timeout`.
            TurnRepeated: A turn with this id is already part of it.
            SessionTooLarge: It is larger than `session_bytes`.
            StateDamaged: It cannot be read.
            InvalidRequest: There is no such parent.
        """
        ...

    async def peek(self, key: str) -> tuple[bytes | None, WorkflowCheckpoint | None]:
        """Read a conversation's session and checkpoint without taking it.

        Raises:
            InvalidRequest: There is no such conversation.
        """
        ...

    async def close(self) -> None:
        """Finish what is under way, and end threads."""
        ...


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
