"""What a turn needs of the thing that runs its target."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from ..requests import ChannelRequest, PendingRequest

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate, WorkflowCheckpoint

    from ..state.conversations import Turn


@dataclass(slots=True)
class Outcome:
    """What a finished run leaves behind.

    `snapshot` and a workflow's `checkpoint` go into the conversation; with `resumable` false there is nothing in them
    that a next turn would need.
    """

    pending: Sequence[PendingRequest] = ()
    snapshot: bytes | None = None
    checkpoint: WorkflowCheckpoint | None = None
    resumable: bool = False


class Run(Protocol):
    """One run of the target: `once`, or `updates` to the end and then `final`; then `outcome`; always `close`."""

    session: Any | None

    async def once(self) -> Any: ...

    async def updates(self) -> AsyncIterator[AgentResponseUpdate]:
        """Begin, and give what the run comes to; a generator is closed by whoever asked for it."""
        ...

    async def final(self) -> Any: ...

    async def outcome(self, result: Any) -> Outcome:
        """Collect what is to be saved, without writing anything."""
        ...

    async def close(self) -> None:
        """Stop what still runs and give back what the run held."""
        ...


class Runner(Protocol):
    """Makes runs. `target` is what channels see."""

    target: Any

    async def prepare(self, request: ChannelRequest, turn: Turn | None, *, wait: float) -> Run:
        """Make ready to run, without running: restore the conversation and check the request against it.

        What conversations share is waited for, `wait` seconds at most.

        Raises:
            InvalidRequest: The target cannot be run with this request.
            StateDamaged: The conversation cannot be read.
            TurnBusy: What is shared was not free in time.
        """
        ...
