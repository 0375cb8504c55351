"""A host's work on accepted updates: what accepts them, what wakes the work, and what does it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from .backlog import Backlog, Substitute, prepared
from .drains import Drains
from .inbox import LocalInbox, Sweeper
from .updates import InboundUpdate, Inbox, Standing

if TYPE_CHECKING:
    from .channels import OnUpdate
    from .state.letters import Survey
    from .state.mailboxes import Mailboxes
    from .state.store import StateStore

WAKE_PATIENCE = 3.0
"""Seconds that the acknowledgement of an update waits for an inbox elsewhere."""

logger = logging.getLogger("agent_framework.hosting")


class HostUpdates:
    """Accepts updates, and has them worked on in this process unless an `inbox` wakes the work elsewhere.

    Where `in_background` is false nothing happens beside the platform's own invocations: those call `drains`, and the
    `backlog`'s `work` where there is one. `at_work` tells whether what is accepted is worked on at all, here or where
    the inbox wakes that.
    """

    def __init__(
        self, mailboxes: Mailboxes, handlers: Mapping[str, OnUpdate], inbox: Inbox | None, *, store: StateStore
    ) -> None:
        self.drains = Drains(mailboxes, handlers)
        self.in_background = self.at_work = True
        self._mailboxes = mailboxes
        self._store = store
        self._local = LocalInbox(self.drains.drain)
        self._elsewhere = inbox
        self._inbox: Inbox = self._local if inbox is None else inbox
        self._sweeper = Sweeper(self.drains.keys, self._inbox)
        self.backlog: Backlog | None = None

    async def accept(self, update: InboundUpdate) -> bool:
        """Keep an update and wake the work on it; False if it is known already.

        Raises:
            ConfigurationError: Its channel has no `on_update`.
            InvalidRequest: It cannot be kept as it is.
            StateUnavailable: It was not kept.
        """
        new = await self.drains.accept(update)
        try:
            async with asyncio.timeout(WAKE_PATIENCE):
                await self._inbox.wake(update.isolation_key)
        except Exception:
            # It is kept, and so acknowledged: the sweep makes up for the wake.
            logger.warning("The inbox could not be told of an update; a sweep will find it.", exc_info=True)
        return new

    async def standing(self, update: InboundUpdate) -> Standing | None:
        """Tell what becomes of an update: as `Mailboxes.standing`."""
        return await self._mailboxes.standing(update)

    async def interrupt(self, update: InboundUpdate) -> None:
        """End an attempt at an update: as `Mailboxes.interrupt`."""
        await self._mailboxes.interrupt(update)

    def work_within(self, *, accepted: bool) -> None:
        """Have work done within the platform's own invocations, by the backlog's `work`.

        That is what is `accepted` there, or else only what a sweep finds and the inbox elsewhere cannot be told of.
        """
        self.in_background = False
        self.backlog = Backlog(self._local, self._elsewhere, let_go=self.drains.let_go)
        if accepted:
            self._inbox = self.backlog

    async def sweep(self) -> None:
        """Wake every conversation with unfinished updates.

        Raises:
            StateUnavailable: The store did not answer.
            Exception: An inbox could not be told of all of them.
        """
        inbox = self._inbox
        if self.backlog is not None and inbox is not self.backlog:
            inbox = Substitute(inbox, self.backlog)
        await Sweeper(self.drains.keys, inbox).sweep()

    async def survey(self) -> Survey:
        """Tell how long updates wait, and how many were set aside.

        Raises:
            StateUnavailable: The store did not answer.
        """
        from .state.letters import Letters

        return await Letters(self._store).survey()

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        """Have a conversation looked into at another time, elsewhere if there is an inbox for that: as `Inbox.wake`."""
        await (self._elsewhere or self._inbox).wake(isolation_key, delay=delay)

    async def prepare(self, until: float) -> None:
        """Prepare the inbox elsewhere, if there is one that can be, before a time of the loop's clock."""
        await prepared(self._elsewhere, until)

    def start(self) -> None:
        if self.in_background:
            self._local.start()
            self._sweeper.start()

    async def stop(self) -> None:
        """Work off what is ready, for some seconds; what is left stays accepted."""
        await self._sweeper.stop()
        try:
            await self._local.stop()
        finally:
            await self._mailboxes.close()
