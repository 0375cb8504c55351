"""Where a host's state goes, and with it a workflow's checkpoints."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .errors import ConfigurationError
from .internals import own_checkpoints
from .limits import HostLimits
from .state.locations import HostStatePaths, Place, StateLocations, open_state
from .targets import check_workflow

if TYPE_CHECKING:
    from agent_framework import CheckpointStorage, Workflow

    from .state.checkpoints import CheckpointKeeper
    from .state.conversations import Conversations
    from .state.mailboxes import Mailboxes

logger = logging.getLogger("agent_framework.hosting")


class StatePlaces:
    """What `state_dir` and `checkpoint_location` together say.

    Raises:
        ConfigurationError: A place makes no sense, or is of a kind that this release does not have.
        ValueError: `state_dir` has an unknown key.
    """

    def __init__(
        self,
        state_dir: Place | HostStatePaths | Mapping[str, Place] | None,
        checkpoint_location: Place | CheckpointStorage | None,
        limits: HostLimits,
    ) -> None:
        self._limits = limits
        given = checkpoint_location
        place = given if isinstance(given, (str, os.PathLike)) else None
        self._storage = None if isinstance(given, (str, os.PathLike)) else given
        if self._storage is not None and not callable(getattr(self._storage, "save", None)):
            kind = type(self._storage).__name__
            raise ConfigurationError(f"checkpoint_location is {kind}: give a path, a URL or a CheckpointStorage.")
        self.locations: StateLocations = open_state(
            state_dir, memory_sessions=limits.memory_sessions, checkpoint_location=place
        )
        # Checkpoints beside the sessions are only a default: a workflow with a storage of its own keeps that.
        default = isinstance(state_dir, Mapping) and "checkpoints" not in state_dir
        self._managed = given is not None or (self.locations.checkpoints_durable and not default)
        if given is not None and isinstance(state_dir, Mapping) and "checkpoints" in state_dir:
            logger.warning("checkpoint_location wins over state_dir['checkpoints'], which is not used.")

    def conversations(self) -> Conversations:
        """Make what turns take their conversations from."""
        if self.locations.durable:
            from .state.stored import StoredConversations

            return StoredConversations(self.locations.sessions, self._limits)

        from .state.transient import TransientConversations

        return TransientConversations(self._limits)

    async def delete(self, conversations: Conversations, key: str) -> bool:
        """Delete one of the conversations that `conversations` gave; False if there is none.

        Raises:
            TurnConflict, StateDamaged, StateUnavailable: As `Deleter.delete`.
        """
        from .state.transient import TransientConversations

        if isinstance(conversations, TransientConversations):
            return conversations.delete(key)

        from .state.deletion import delete_conversation
        from .state.documents import stores_of

        return await delete_conversation(stores_of(self.locations), key)

    def mailboxes(self, conversations: Conversations) -> Mailboxes:
        """Make the mailboxes beside the conversations that `conversations` gave."""
        from .state.stored import StoredConversations

        if isinstance(conversations, StoredConversations):
            from .state.mailbox import StoredMailboxes

            return StoredMailboxes(conversations)

        from .state.transient import TransientConversations
        from .state.transient_mailbox import TransientMailboxes

        assert isinstance(conversations, TransientConversations)
        return TransientMailboxes(conversations)

    def check(self, workflow: Workflow) -> None:
        """Refuse a workflow whose state could not be kept.

        Raises:
            ConfigurationError, RuntimeError: As `check_workflow`.
        """
        durable = self.locations.durable or self.locations.checkpoints_durable or self._storage is not None
        check_workflow(workflow, durable=durable, managed=self._managed)

    def keeper(self, workflow: Workflow) -> CheckpointKeeper:
        """Make what keeps the checkpoints of this workflow's turns."""
        from .state.checkpoints import ForeignCheckpoints, StoredCheckpoints, TransientCheckpoints

        storage = self._storage if self._managed else own_checkpoints(workflow)
        if storage is not None:
            return ForeignCheckpoints(storage)
        if self.locations.checkpoints_durable:
            return StoredCheckpoints(self.locations.checkpoints)
        return TransientCheckpoints()

    def warn(self) -> None:
        """Say where less is stored than it looks like."""
        if self.locations.checkpoints_durable and not self.locations.durable:
            logger.warning(
                "Only checkpoints have a place; conversations, and which checkpoint one continues from, are in memory "
                "and gone with the process. Give state_dir a place for sessions as well."
            )

    def describe(self) -> str:
        """Say where the state is, for the start-up line."""
        given = "checkpoints in the given storage, " if self._storage is not None else ""
        return given + self.locations.description
