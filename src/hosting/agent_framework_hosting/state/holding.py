"""The right to write one conversation's head: taken with a lease, renewed, and given up with the last write."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from ..errors import HostingError, StateUnavailable, TurnConflict
from ..shielding import shielded
from .clock import Clock
from .head import FORMAT, Head, Lease, decode_head, encode_head, random_id
from .renewal import Renewal
from .renewal_thread import RenewalThread
from .settle import settled_put
from .store import ABSENT, Lost, StateStore, Version, read

logger = logging.getLogger("agent_framework.hosting.state")

_TRIES = 3
_READ_PAUSES = (0.1, 0.3, 0.9, 2.0)


class Holding:
    """One conversation as it was found, and the lease on it once `acquire` has returned.

    Without a lease the one write there may be is on the condition that nobody else has written.
    """

    def __init__(
        self,
        store: StateStore,
        path: str,
        key: str,
        head: Head | None,
        version: Version | None,
        *,
        clock: Clock,
        thread: RenewalThread,
    ) -> None:
        self.store = store
        self.path = path
        self.key = key
        self.found = head
        self.head = anew(key, head) if head is None or head.deleted is not None else head
        self._before = 0 if head is None else head.epoch
        self._version = version
        self._clock = clock
        self._thread = thread
        self._renewal: Renewal | None = None
        self._lease: Lease | None = None
        self._ended = False
        self._gone = False
        self._chores: set[asyncio.Task[None]] = set()
        self.unremoved: set[str] = set()
        """Garbage that is being removed: what is left of it when a turn is saved stays named."""

    @property
    def name(self) -> str:
        return f"k/{self.path}/head"

    @property
    def epoch(self) -> int:
        """The epoch of everything that is written under this holding."""
        return self._before + 1

    @property
    def guarded(self) -> bool:
        """Whether there is a lease, which can get lost."""
        return self._lease is not None

    async def acquire(self, head: Head) -> None:
        """Write `head`, which holds the lease, in place of what was found.

        Raises:
            Lost: Somebody else wrote first.
            StateUnavailable: It was not written, or nobody knows.
        """
        assert head.lease is not None
        began = self._clock.now()
        expected = ABSENT if self._version is None else self._version
        version = await settled_put(self.store, self.name, encode_head(head), if_version=expected)
        self.head, self._version, self._lease = head, version, head.lease
        self._renewal = Renewal(
            self.store, self.name, head, version, clock=self._clock, ttl=head.lease.ttl, began=began
        )
        self._renewal.start(self._thread)

    def check(self) -> None:
        """Make sure that the lease, if there is one, is still ours.

        Raises:
            TurnConflict: It is not.
        """
        if self._gone:
            raise TurnConflict("Another instance took this conversation over and goes on from what was saved here.")
        if self._renewal is not None and self._renewal.fenced:
            raise TurnConflict("This turn lost its lease on the conversation and was stopped; nothing of it was saved.")

    @contextlib.asynccontextmanager
    async def guard(self) -> AsyncGenerator[None]:
        """Cancel the body when the lease is lost.

        Raises:
            TurnConflict: That happened.
        """
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
                    self._renewal.unwatch(on_lost)
        except TimeoutError:
            if scope.expired():
                self.check()
            raise

    def watch(self, on_lost: Callable[[], None]) -> None:
        """Have `on_lost` called from the renewal thread when the lease is lost, until `unwatch`.

        Raises:
            TurnConflict: It is lost already.
        """
        self.check()
        if self._renewal is not None:
            self._renewal.watch(on_lost)

    def unwatch(self, on_lost: Callable[[], None]) -> None:
        if self._renewal is not None:
            self._renewal.unwatch(on_lost)

    async def write(self, head: Head, applied: Callable[[Head], bool]) -> bool:
        """Put `head` in place of the one of this holding; False if the lease was lost, and `head` has left no trace.

        With a lease in it the holding goes on, otherwise this was its last write. `applied` tells by a later head
        whether others have gone on from this one: then the lease is theirs, and `check` says so.

        Raises:
            StateUnavailable: The store does not say what became of it.
        """
        if self._gone:
            return False
        self._ended = head.lease is None
        version = await self._renewal.stop() if self._renewal is not None else self._version
        try:
            return await self._write(head, version, applied)
        except BaseException:
            if self._renewal is not None and not self._ended:
                # Whether it was written or not: the lease is there, and whoever holds it may have to conclude.
                self._renewal.go_on()
            raise

    async def _write(self, head: Head, version: Version | None, applied: Callable[[Head], bool]) -> bool:
        data, began = encode_head(head), self._clock.now()
        for _ in range(_TRIES):
            try:
                version = await settled_put(
                    self.store, self.name, data, if_version=ABSENT if version is None else version
                )
            except Lost:
                found = await self._read_head()
            else:
                self.head, self._version = head, version
                if self._renewal is not None and not self._ended:
                    self._renewal.resume(head, version, began)
                return True
            if found is None:
                break
            if applied(found[0]):
                self._gone = not self._ended
                return True
            if self._lease is None or found[0].lease is None or found[0].lease.token != self._lease.token:
                break
            version = found[1]  # Of a renewal whose answer was lost.
        self._gone = self._lease is not None
        return False

    def meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for, and that is given up with the holding."""
        self._chores.add(asyncio.create_task(work))

    async def end(self) -> None:
        """Give back what is still held."""
        try:
            await self.release()
        finally:
            for chore in self._chores:
                chore.cancel()
            if self._chores:
                await asyncio.wait(self._chores)

    async def release(self, **changes: Any) -> None:
        """Give the lease back, with other changes, unless the last write has or is about to."""
        if self._lease is not None and not self._ended:
            self._ended = True
            await shielded(self._release(self.head.next(lease=None, **changes)))

    async def _release(self, head: Head) -> None:
        try:
            await self.write(head, lambda found: False)
        except HostingError as error:
            logger.warning("A lease could not be given back and will age out: %s", error)

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


def anew(key: str, tombstone: Head | None) -> Head:
    """Give the head of a conversation that is not stored yet, or was removed; the updates it had stay done."""
    head = Head(format=FORMAT, key=key, rev=random_id(), epoch=0, session=key)
    return head if tombstone is None else head.next(done=tombstone.done, garbage=tombstone.garbage)
