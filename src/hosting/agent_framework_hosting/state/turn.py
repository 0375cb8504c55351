"""One turn's hold on a conversation: from the acquired lease to the commit or the release."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING

import msgspec

from ..errors import HostingError, StateDamaged, StateUnavailable, TurnConflict
from ..shielding import shielded, together
from .clock import Clock, Instant
from .head import (
    FORMAT,
    INLINE_BYTES,
    LOG_LENGTH,
    Checkpoint,
    Head,
    Lease,
    Snapshot,
    checkpoint_place,
    decode_head,
    encode_head,
    log_entry,
    next_session,
    random_id,
)
from .renewal import Renewal, RenewalThread
from .settle import settled_put
from .store import ABSENT, Lost, StateStore, Version, read

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from .checkpoints import CheckpointKeeper

logger = logging.getLogger("agent_framework.hosting.state")

_TRIES = 3
_READ_PAUSES = (0.1, 0.3, 0.9, 2.0)


async def load_snapshot(store: StateStore, snapshot: Snapshot | None, *, damaged_too: bool = False) -> bytes | None:
    """Read a session as JSON, from the head or from its own document.

    With `damaged_too` it is read as it is; None where it is missing.

    Raises:
        StateDamaged: The document is missing, or not the one that was written.
    """
    if snapshot is None:
        return None
    if snapshot.name is None:
        return bytes(snapshot.inline)
    name = snapshot.name
    found = await read(store, name)
    if found is None:
        if damaged_too:
            return None
        raise StateDamaged(name, f"The stored session {name!r} is missing. Restore it, or reset the conversation.")
    if not damaged_too and hashlib.sha256(found[0]).hexdigest() != snapshot.sha:
        raise StateDamaged(name, f"The stored session {name!r} is damaged. It was kept; restore it, or reset.")
    return found[0]


async def load_content(
    store: StateStore, head: Head | None, keeper: CheckpointKeeper | None, *, to_reset: bool = False
) -> tuple[bytes | None, WorkflowCheckpoint | None]:
    """Read the session and the checkpoint that a head names, at the same time; a reset needs no checkpoint.

    Raises:
        StateDamaged: One of them cannot be read; with `to_reset` that is no obstacle.
    """
    if head is None:
        return None, None
    if head.checkpoint is None or keeper is None or to_reset:
        return await load_snapshot(store, head.snapshot, damaged_too=to_reset), None
    return await together(load_snapshot(store, head.snapshot), keeper.load(head.checkpoint))


class StoredTurn:
    """A `Turn` of a conversation in a store: as it was found, and the lease."""

    def __init__(
        self,
        store: StateStore,
        path: str,
        key: str,
        turn_id: str,
        *,
        head: Head | None,
        version: Version | None,
        keeper: CheckpointKeeper | None,
        leave: Callable[[], None],
    ) -> None:
        self.store = store
        self.keeper = keeper
        self.path = path
        self.key = key
        self.stored_key = key
        self.snapshot: bytes | None = None
        self.checkpoint: WorkflowCheckpoint | None = None
        self.session = head.session if head is not None else key
        self.generation = head.generation if head is not None else "0"
        self.epoch = (head.epoch if head is not None else 0) + 1
        self.reset_requested = False
        self.committed = False
        self._id = turn_id
        self._head = head
        self._version = version
        self._leave = leave
        self._renewal: Renewal | None = None
        self._lease: Lease | None = None
        self._settled = False
        self._ended = False

    @property
    def guarded(self) -> bool:
        return self._renewal is not None

    @property
    def name(self) -> str:
        return f"k/{self.path}/head"

    async def acquire(
        self,
        *,
        ttl: float,
        clock: Clock,
        thread: RenewalThread,
        attempt: int,
        to_reset: bool = False,
    ) -> None:
        """Write the lease and, at the same time, read a large snapshot and the checkpoint.

        With `to_reset` the snapshot is taken as it is.

        Raises:
            Lost: Somebody else wrote first.
            StateDamaged: One of them cannot be read.
        """
        lease = Lease(random_id(), ttl, attempt)
        found = self._head
        head = (
            Head(format=FORMAT, key=self.key, rev=random_id(), epoch=self.epoch, session=self.session, lease=lease)
            if found is None
            else found.next(epoch=self.epoch, lease=lease)
        )
        began = clock.now()
        reading = asyncio.ensure_future(load_content(self.store, found, self.keeper, to_reset=to_reset))
        try:
            await shielded(self._write_lease(head, clock, began, thread))
            self.snapshot, self.checkpoint = await reading
        finally:
            reading.cancel()
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()

    async def _write_lease(self, head: Head, clock: Clock, began: Instant, thread: RenewalThread) -> None:
        assert head.lease is not None
        expected = ABSENT if self._version is None else self._version
        version = await settled_put(self.store, self.name, encode_head(head), if_version=expected)
        self._head, self._version, self._lease = head, version, head.lease
        self._renewal = Renewal(self.store, self.name, head, version, clock=clock, ttl=head.lease.ttl, began=began)
        self._renewal.start(thread)

    def check(self) -> None:
        if self._renewal is not None and self._renewal.fenced:
            raise TurnConflict("This turn lost its lease on the conversation and was stopped; nothing of it was saved.")

    @contextlib.asynccontextmanager
    async def guard(self) -> AsyncGenerator[None]:
        if self._renewal is None:
            yield
            return
        self.check()
        loop = asyncio.get_running_loop()
        scope = asyncio.timeout(None)

        def stop() -> None:
            with contextlib.suppress(RuntimeError):  # The body has ended meanwhile.
                scope.reschedule(loop.time())

        def on_lost() -> None:
            with contextlib.suppress(RuntimeError):  # The loop has ended meanwhile.
                loop.call_soon_threadsafe(stop)

        try:
            async with scope:
                self._renewal.watch(on_lost)
                try:
                    yield
                finally:
                    self._renewal.watch(None)
        except TimeoutError:
            if scope.expired():
                self.check()
            raise

    async def commit(self, *, snapshot: bytes | None, checkpoint: WorkflowCheckpoint | None) -> None:
        self.check()
        await shielded(self._commit(snapshot, checkpoint))

    async def _commit(self, snapshot: bytes | None, checkpoint: WorkflowCheckpoint | None) -> None:
        entry = log_entry(self._id)
        head = await self._result(snapshot, checkpoint, entry)
        self._settled = True
        if not await self._replace(head, entry):
            raise TurnConflict("Another turn took this conversation over; nothing of this turn was saved. Try again.")
        self.committed = True

    async def _result(self, snapshot: bytes | None, checkpoint: WorkflowCheckpoint | None, entry: str) -> Head:
        before = self._head
        log = (*(before.log if before is not None else ()), entry)[-LOG_LENGTH:]
        generation, session, placed, kept = self.generation, self.session, None, None
        if self.reset_requested:
            await archive(self.store, self.path, generation, self.epoch, snapshot)
            generation, session = next_session(self.key)
        elif checkpoint is None:
            placed = await self._place(snapshot)
        else:
            placed, kept = await together(self._place(snapshot), self._keep(checkpoint))
        return Head(
            format=FORMAT,
            key=self.key,
            rev=random_id(),
            epoch=self.epoch,
            session=session,
            generation=generation,
            snapshot=placed,
            checkpoint=kept,
            log=log,
        )

    async def _keep(self, checkpoint: WorkflowCheckpoint) -> Checkpoint | None:
        if self.keeper is None:
            return None
        return await self.keeper.keep(checkpoint_place(self.path, self.generation, self.epoch), self.key, checkpoint)

    async def _place(self, snapshot: bytes | None) -> Snapshot | None:
        if snapshot is None:
            return None
        if len(snapshot) <= INLINE_BYTES:
            return Snapshot(size=len(snapshot), inline=msgspec.Raw(snapshot))
        name = f"k/{self.path}/b/{self.epoch:012}-{random_id()}"
        await settled_put(self.store, name, snapshot, if_version=ABSENT)
        return Snapshot(size=len(snapshot), name=name, sha=hashlib.sha256(snapshot).hexdigest())

    async def _replace(self, head: Head, entry: str | None = None) -> bool:
        """Put a head in the place of this turn's lease; False if that was lost, and the head has left no trace.

        `entry` is what the head adds to the log: there it is found when others went on since.

        Raises:
            StateUnavailable: The store does not say what became of it.
        """
        data = encode_head(head)
        version = await self._renewal.stop() if self._renewal is not None else self._version
        for _ in range(_TRIES):
            try:
                await settled_put(self.store, self.name, data, if_version=ABSENT if version is None else version)
            except Lost:
                found = await self._read_head()
            else:
                return True
            if found is None:
                return False
            if entry in found[0].log:
                return True
            if self._lease is None or found[0].lease != self._lease:
                return False
            version = found[1]  # Of a renewal whose answer was lost.
        return False

    async def _read_head(self) -> tuple[Head, Version] | None:
        for pause in _READ_PAUSES:
            try:
                return await self._find_head()
            except StateUnavailable:
                await asyncio.sleep(pause)
        return await self._find_head()

    async def _find_head(self) -> tuple[Head, Version] | None:
        found = await read(self.store, self.name)
        if found is None:
            return None
        return decode_head(self.name, found[0], self.key), found[1]

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
        if self._lease is not None and not self._settled:
            self._settled = True
            await shielded(self._release())

    async def _release(self) -> None:
        assert self._head is not None
        try:
            await self._replace(self._head.next(lease=None))
        except HostingError as error:
            logger.warning("A lease could not be given back and will age out: %s", error)


async def archive(store: StateStore, path: str, generation: str, epoch: int, snapshot: bytes | None) -> None:
    """Keep the session that a reset puts aside, under a name of its own."""
    if snapshot is not None:
        await settled_put(store, f"k/{path}/s/{generation}/{epoch:012}", snapshot)
