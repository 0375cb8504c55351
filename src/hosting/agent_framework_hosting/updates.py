"""What a channel hands over to be worked on later, and what wakes that work."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

Standing = Literal["waiting", "working"]
"""What becomes of an accepted update: it is going to be worked on, or is being so."""


@dataclass(frozen=True)
class InboundUpdate:
    """One event of a chat platform, acknowledged first and processed after.

    `id` is the platform's own, which makes a repeat a repeat. `payload` is what the channel needs to process it
    later, JSON. Updates of one conversation are processed by `order`, as text; decimal numbers count as numbers.
    After `expires` (POSIX seconds) the `reply_token` is worthless and not handed out any more. That token is no part of
    `payload`: it is shown nowhere, and forgotten when the update is done or set aside. `attempt` is the host's to say:
    the last one is that of number `HostLimits.update_attempts`.
    """

    channel: str
    id: str
    isolation_key: str
    payload: bytes = field(repr=False)
    order: str
    expires: float | None = None
    reply_token: str | None = field(default=None, repr=False, kw_only=True)
    attempt: int = field(default=1, compare=False, kw_only=True)


@runtime_checkable
class Inbox(Protocol):
    """Wakes a drain of one conversation's mailbox somewhere; carries no order and no payload.

    Being woken too often, twice, or for nothing does no harm. A wake that gets lost is made up for by the sweep.
    """

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        """Have the mailbox looked into, not before `delay` seconds have passed."""
        ...


@runtime_checkable
class PreparedInbox(Inbox, Protocol):
    """An inbox whose first wake takes longer than the others, unless it has been prepared."""

    async def prepare(self) -> None:
        """Make ready what the first wake would make otherwise, such as an SDK's client."""
        ...
