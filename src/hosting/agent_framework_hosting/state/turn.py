"""One turn's hold on a conversation: from the acquired lease to the commit or the release."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeVar

import msgspec

from ..errors import StateDamaged, StateUnavailable, TurnConflict
from .clock import Clock, Instant
from .head import INLINE_BYTES, LOG_LENGTH, Head, Lease, Snapshot, decode_head, encode_head, random_id
from .renewal import Renewal, RenewalThread
from .settle import settled_put
from .store import ABSENT, UNCHANGED, Lost, StateStore, Version

logger = logging.getLogger("agent_framework.hosting.state")

T = TypeVar("T")
_COMMIT_TRIES = 3


async def shielded(work: Awaitable[T]) -> T:
    """Finish `work` even if the caller is cancelled meanwhile; then be cancelled."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError as error:
            if task.cancelled():
                raise
            cancelled = error
        except Exception:
            break
    if cancelled is not None:
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.warning("A write failed while its caller was being cancelled: %s", failure)
        raise cancelled
    return task.result()


async def load_snapshot(store: StateStore, snapshot: Snapshot | None) -> bytes | None:
    """Read a session as JSON, from the head or from its own document.

    Raises:
        StateDamaged: The document is missing, or not the one that was written.
    """
    if snapshot is None:
        return None
    if snapshot.name is None:
        return bytes(snapshot.inline)
    name = snapshot.name
    found = await store.get(name)
    if found is None or found is UNCHANGED:
        raise StateDamaged(name, f"The stored session {name!r} is missing. Restore it, or reset the conversation.")
    if hashlib.sha256(found[0]).hexdigest() != snapshot.sha:
        raise StateDamaged(name, f"The stored session {name!r} is damaged. It was kept; restore it, or reset.")
    return found[0]


class Turn:
    """A `Hold` on a conversation in a store: as this turn found it, and its lease."""

    def __init__(
        self,
        store: StateStore,
        path: str,
        key: str,
        turn_id: str,
        *,
        head: Head | None,
        version: Version | None,
        leave: Callable[[], None],
    ) -> None:
        self.store = store
        self.path = path
        self.key = key
        self.stored_key = key
        self.id = turn_id
        self.snapshot: bytes | None = None
        self.checkpoint = head.checkpoint if head is not None else None
        self.session = head.session if head is not None else key
        self.generation = head.generation if head is not None else "0"
        self.epoch = (head.epoch if head is not None else 0) + 1
        self.reset_requested = False
        self._head = head
        self._version = version
        self._leave = leave
        self._renewal: Renewal | None = None
        self._lease: Lease | None = None
        self._settled = False

    @property
    def guarded(self) -> bool:
        return self._renewal is not None

    @property
    def name(self) -> str:
        return f"k/{self.path}/head"

    async def acquire(self, *, ttl: float, clock: Clock, thread: RenewalThread, attempt: int) -> None:
        """Write the lease and, at the same time, read a large snapshot.

        Raises:
            Lost: Somebody else wrote first.
        """
        lease = Lease(random_id(), ttl, attempt)
        found = self._head
        head = (
            Head(key=self.key, rev=random_id(), epoch=self.epoch, session=self.session, lease=lease)
            if found is None
            else found.next(epoch=self.epoch, lease=lease)
        )
        began = clock.now()
        reading = asyncio.ensure_future(load_snapshot(self.store, found.snapshot if found else None))
        try:
            await shielded(self._write_lease(head, clock, began, thread))
            self.snapshot = await reading
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

    async def commit(self, *, snapshot: bytes | None, checkpoint: str | None) -> None:
        self.check()
        self._settled = True
        await shielded(self._commit(snapshot, checkpoint))

    async def _commit(self, snapshot: bytes | None, checkpoint: str | None) -> None:
        version = await self._renewal.stop() if self._renewal is not None else self._version
        head = await self._result(snapshot, checkpoint)
        for _ in range(_COMMIT_TRIES):
            try:
                await self._put_head(head, version)
                return
            except Lost:
                found = await self._read_head()
                if found is not None and self.id in found[0].log:
                    return
                if found is None or self._lease is None or found[0].lease != self._lease:
                    break
                version = found[1]
        raise TurnConflict("Another turn took this conversation over; nothing of this turn was saved. Try again.")

    async def _result(self, snapshot: bytes | None, checkpoint: str | None) -> Head:
        before = self._head
        log = (*(before.log if before is not None else ()), self.id)[-LOG_LENGTH:]
        generation, session = self.generation, self.session
        placed = await self._place(snapshot)
        if self.reset_requested:
            await archive(self.store, self.path, generation, self.epoch, snapshot)
            generation = random_id()[:8]
            session, placed, checkpoint = f"{self.key}#{generation}", None, None
        return Head(
            key=self.key,
            rev=random_id(),
            epoch=self.epoch,
            session=session,
            generation=generation,
            snapshot=placed,
            checkpoint=checkpoint,
            log=log,
        )

    async def _place(self, snapshot: bytes | None) -> Snapshot | None:
        if snapshot is None or self.reset_requested:
            return None
        if len(snapshot) <= INLINE_BYTES:
            return Snapshot(size=len(snapshot), inline=msgspec.Raw(snapshot))
        name = f"k/{self.path}/b/{self.epoch:012}-{random_id()}"
        await settled_put(self.store, name, snapshot, if_version=ABSENT)
        return Snapshot(size=len(snapshot), name=name, sha=hashlib.sha256(snapshot).hexdigest())

    async def _put_head(self, head: Head, version: Version | None) -> None:
        expected = ABSENT if version is None else version
        await settled_put(self.store, self.name, encode_head(head), if_version=expected)

    async def _read_head(self) -> tuple[Head, Version] | None:
        found = await self.store.get(self.name)
        if found is None or found is UNCHANGED:
            return None
        return decode_head(self.name, found[0], self.key), found[1]

    async def end(self) -> None:
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
        assert self._renewal is not None and self._head is not None
        version = await self._renewal.stop()
        try:
            await settled_put(self.store, self.name, encode_head(self._head.next(lease=None)), if_version=version)
        except Lost:
            pass  # Taken over, or deleted: nothing of ours is left to give back.
        except StateUnavailable as error:
            logger.warning("A lease could not be given back and will age out: %s", error)


async def archive(store: StateStore, path: str, generation: str, epoch: int, snapshot: bytes | None) -> None:
    """Keep the session that a reset puts aside, under a name of its own."""
    if snapshot is not None:
        await store.put(f"k/{path}/s/{generation}/{epoch:012}", snapshot)
