"""The framework's checkpoint storage and session store over any `StateStore`, without a host."""

from .state.checkpoint_storage import StateCheckpointStorage
from .state.locations import open_store
from .state.session_store import StateSessionStore

__all__ = ["StateCheckpointStorage", "StateSessionStore", "open_store"]
