"""One turn of a conversation in a store: what it found, and what it leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..errors import TurnConflict
from ..shielding import shielded, together
from .archives import encode_archive
from .content import NOTHING, Content, acquire, place_text, superseded
from .head import LOG_LENGTH, Checkpoint, Head, Lease, Snapshot, checkpoint_place, log_entry, next_session, random_id
from .holding import Holding
from .people import with_person
from .settle import settled_put

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from ..requests import ChannelIdentity
    from .checkpoints import CheckpointKeeper


class Leaving(NamedTuple):
    """What a turn leaves behind: the session, an answer for a repeat of it, and an attachment as JSON.

    Where it is `amended`, all but the attachment stays as it was.
    """

    snapshot: bytes | None
    checkpoint: WorkflowCheckpoint | None
    result: bytes | None
    attachment: bytes | None
    amended: bool = False


class StoredTurn:
    """A `Turn` of a conversation in a store."""

    remembered: bytes | None = None
    remembers = False

    def __init__(
        self,
        holding: Holding,
        turn_id: str,
        *,
        keeper: CheckpointKeeper | None,
        leave: Callable[[], None] = lambda: None,
        content: Content = NOTHING,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.key = self.stored_key = holding.key
        self.name = holding.name
        self.snapshot, self.checkpoint = content
        self.session = holding.head.session
        self.identity: ChannelIdentity | None = None
        self.reset_requested = self.to_copy = False
        self.committed = False
        self._holding = holding
        self._keeper = keeper
        self._id = turn_id
        self._leave = leave
        self._wall = wall
        self._ended = False

    @property
    def guarded(self) -> bool:
        return self._holding.guarded

    async def acquire(self, *, ttl: float, attempt: int, to_reset: bool = False) -> None:
        """Take the lease and read the conversation; with `to_reset` it is taken as it is.

        Raises:
            Lost: Somebody else wrote first.
            StateDamaged: What is stored cannot be read.
        """
        lease = Lease(random_id(), ttl, attempt)
        head = self._holding.head.next(epoch=self._holding.epoch, lease=lease, garbage=())
        self.snapshot, self.checkpoint = await acquire(self._holding, head, self._keeper, to_reset=to_reset)

    def check(self) -> None:
        self._holding.check()

    def watch(self, on_lost: Callable[[], None]) -> None:
        self._holding.watch(on_lost)

    def unwatch(self, on_lost: Callable[[], None]) -> None:
        self._holding.unwatch(on_lost)

    async def commit(
        self,
        *,
        snapshot: bytes | None,
        checkpoint: WorkflowCheckpoint | None,
        result: bytes | None = None,
        attachment: bytes | None = None,
    ) -> None:
        self.check()
        await shielded(self._commit(Leaving(snapshot, checkpoint, result, attachment)))

    async def amend(self, attachment: bytes) -> None:
        self.check()
        await shielded(self._commit(Leaving(self.snapshot, None, None, attachment, amended=True)))

    async def _commit(self, leaving: Leaving) -> None:
        entry = log_entry(self._id)
        head = await self._result(leaving, entry)
        if not await self._holding.write(head, lambda found: entry in found.log):
            raise TurnConflict("Another turn took this conversation over; nothing of this turn was saved. Try again.")
        self.committed = True

    async def _result(self, leaving: Leaving, entry: str) -> Head:
        before, snapshot, checkpoint = self._holding.head, leaving.snapshot, leaving.checkpoint
        after = before.next(
            epoch=self._holding.epoch,
            log=(*before.log, entry)[-LOG_LENGTH:],
            lease=None,
            when=self._wall(),
            people=with_person(before.people, self.identity),
        )
        if self.reset_requested:
            await self._archive(snapshot)
            generation, session = next_session(self.key)
            after = after.next(session=session, generation=generation, snapshot=None, checkpoint=None)
        elif leaving.amended:
            pass
        elif checkpoint is None or self._keeper is None:
            after = after.next(snapshot=await self._place(snapshot), checkpoint=None)
        else:
            placed, kept = await together(self._place(snapshot), self._keep(self._keeper, checkpoint))
            after = after.next(snapshot=placed, checkpoint=kept)
        if leaving.attachment is not None:
            after = after.next(attachment=await self._place(leaving.attachment))
        garbage = dict.fromkeys((*superseded(before, after), *sorted(self._holding.unremoved)))
        return after.next(garbage=tuple(garbage))

    async def _archive(self, snapshot: bytes | None) -> None:
        """Keep the session that a reset puts aside, under a name of its own."""
        if snapshot is not None:
            holding = self._holding
            name = f"k/{holding.path}/s/{holding.head.generation}/{holding.epoch:012}"
            await settled_put(holding.store, name, encode_archive(self.key, self._wall(), snapshot))

    async def _keep(self, keeper: CheckpointKeeper, checkpoint: WorkflowCheckpoint) -> Checkpoint:
        holding = self._holding
        place = checkpoint_place(holding.path, holding.head.generation, holding.epoch)
        return await keeper.keep(place, self.key, checkpoint)

    async def _place(self, snapshot: bytes | None) -> Snapshot | None:
        if snapshot is None:
            return None
        return await place_text(self._holding.store, self._holding.path, self._holding.epoch, snapshot)

    async def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        try:
            await self.release()
        finally:
            self._leave()

    async def release(self) -> None:
        """Give the lease back unless the commit has."""
        await self._holding.end()
