"""A turn of an update that an earlier attempt saved: nothing is left to do but to answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from ..requests import ChannelIdentity


class RememberedTurn:
    """A `Turn` that is saved already; `remembered` is what came of it, `null` for a reset."""

    guarded = False
    committed = True
    remembers = False

    def __init__(
        self,
        name: str,
        key: str,
        session: str,
        remembered: bytes,
        *,
        snapshot: bytes | None,
        checkpoint: WorkflowCheckpoint | None = None,
        check: Callable[[], None] = lambda: None,
        leave: Callable[[], None],
    ) -> None:
        self.name = name
        self.key = self.stored_key = key
        self.session = session
        self.remembered: bytes | None = remembered
        self.snapshot, self.checkpoint = snapshot, checkpoint
        self.identity: ChannelIdentity | None = None
        self.reset_requested = self.to_copy = False
        self._check = check
        self._leave = leave

    def check(self) -> None:
        self._check()

    def watch(self, on_lost: Callable[[], None]) -> None:
        return None

    def unwatch(self, on_lost: Callable[[], None]) -> None:
        return None

    async def commit(
        self,
        *,
        snapshot: bytes | None,
        checkpoint: WorkflowCheckpoint | None,
        result: bytes | None = None,
        attachment: bytes | None = None,
    ) -> None:
        return None

    async def amend(self, attachment: bytes) -> None:
        return None

    async def end(self) -> None:
        self._leave()
