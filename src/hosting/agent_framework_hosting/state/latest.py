"""Which of a workflow's checkpoints is the latest: one document says it, however many there are.

A save notes in it what is about to be stored (`pending`), stores that, and then settles the note. The stored document
is what counts: until it is there, no reader finds anything of it; from then on the note leads to it, also if the saver
is killed before it settles. A reader looks at the settled checkpoint and at the pending ones after it, all at once.

What this keeps up: every stored checkpoint is pending, or does not come after `settled`. Only a deletion, or a save
that sets an old id back in time, makes the settled one other than it was noted; then a reader has to search.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Literal

import msgspec

from ..errors import HostingError, StateDamaged, StateUnavailable
from .head import FORMAT, check_format, random_id
from .settle import ATTEMPTS, settled_put
from .store import ABSENT, Lost, Marker, StateStore, Version, read

PENDING = 64
TRIES = 40
FIRST_PAUSE, LAST_PAUSE = 0.005, 0.5

Order = tuple[datetime, str]


class Entry(msgspec.Struct, frozen=True):
    """A checkpoint by the hash of its id, and its timestamp (ISO 8601)."""

    id: str
    timestamp: str

    @property
    def order(self) -> Order:
        """What the framework compares; an equal time is decided by the id, the same for everybody."""
        return moment(self.timestamp), self.id


class Latest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document; `pending` in the order in which they were noted."""

    format: int
    workflow: str
    rev: str
    settled: Entry | None = None
    pending: tuple[Entry, ...] = ()

    def candidates(self) -> list[Entry]:
        """The entries that may be the latest, the settled one first."""
        settled = self.settled
        if settled is None:
            return [*self.pending]
        return [settled, *(entry for entry in self.pending if entry.order > settled.order)]

    def changed(self, noted: Iterable[Entry], landed: Iterable[Entry]) -> Latest:
        """Note some, and settle others that are stored by now."""
        landed = {*landed}
        return msgspec.structs.replace(
            self,
            settled=later(self.settled, *landed),
            pending=tuple(entry for entry in dict.fromkeys((*self.pending, *noted)) if entry not in landed),
        )


Known = tuple[Latest, Version | Literal[Marker.ABSENT]]


def moment(timestamp: str) -> datetime:
    """Read a timestamp; without an offset it is UTC.

    Raises:
        ValueError: It is none.
    """
    read = datetime.fromisoformat(timestamp)
    return read if read.tzinfo is not None else read.replace(tzinfo=UTC)


def later(*entries: Entry | None) -> Entry | None:
    return max((entry for entry in entries if entry is not None), key=lambda entry: entry.order, default=None)


_decoder = msgspec.json.Decoder(Latest)


def decode_latest(name: str, data: bytes, workflow: str) -> Latest:
    """Read the document.

    Raises:
        StateDamaged: It is damaged, of a later release, or another workflow's. It is kept.
    """
    try:
        latest = _decoder.decode(data)
        for entry in latest.candidates():
            moment(entry.timestamp)
    except (msgspec.MsgspecError, ValueError):
        check_format(name, data)
        message = (
            f"The stored document {name!r} is damaged, or of a later release. It was kept: restore it, or update the "
            "package everywhere that shares this store."
        )
        raise StateDamaged(name, message) from None
    if latest.format != FORMAT:
        check_format(name, data)
    if latest.workflow != workflow:
        raise StateDamaged(name, f"The stored document {name!r} belongs to another workflow. It was kept.")
    return latest


class Wanted:
    """A note that a saver waits for."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.done = False
        self.error: HostingError | None = None


class LatestPointer:
    """One workflow's document, as the savers of one event loop share it: they write for each other, and fail together.

    `stored` tells what is stored under an entry's id.
    """

    def __init__(
        self,
        store: StateStore,
        name: str,
        workflow: str,
        *,
        stored: Callable[[Entry], Awaitable[Entry | None]],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        jitter: Callable[[], float],
    ) -> None:
        self._store = store
        self._name = name
        self._workflow = workflow
        self._stored = stored
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._lock = asyncio.Lock()
        self._known: Known | None = None
        self._under_way: list[Entry] = []
        self._wanted: list[Wanted] = []
        self._landed: set[Entry] = set()
        self._failures = 0

    async def read(self) -> Known:
        """Read the document; it is empty where nothing was ever saved.

        Raises:
            StateDamaged: It cannot be read.
            StateUnavailable: The store did not answer.
        """
        found = await read(self._store, self._name)
        if found is None:
            return Latest(FORMAT, self._workflow, ""), ABSENT
        return decode_latest(self._name, found[0], self._workflow), found[1]

    @asynccontextmanager
    async def saving(self, entry: Entry) -> AsyncGenerator[None]:
        """Note a checkpoint that the body stores, and settle it then.

        Raises:
            StateDamaged: The document cannot be read.
            StateUnavailable: It may not have been noted.
        """
        self._under_way.append(entry)
        try:
            await self._note(entry)
            yield
        finally:
            self._under_way.remove(entry)
        await self._settle(entry)

    async def _note(self, entry: Entry) -> None:
        mine = Wanted(entry)
        self._wanted.append(mine)
        try:
            async with self._lock:
                if not mine.done:  # Otherwise the one before has noted it along with its own, or failed to.
                    await self._note_all([each for each in self._wanted if not each.done])
        finally:
            if mine in self._wanted:
                self._wanted.remove(mine)
        if mine.error is not None:
            raise mine.error

    async def _note_all(self, wanted: Sequence[Wanted]) -> None:
        error: HostingError | None = None
        try:
            await self._change([each.entry for each in wanted])
        except HostingError as failed:
            error = failed
        for each in wanted:
            each.done, each.error = True, error

    async def _settle(self, entry: Entry) -> None:
        """Say that a checkpoint is stored. If that fails its note goes on leading to it, and the next save says it."""
        self._landed.add(entry)
        failures = self._failures
        async with self._lock:
            if entry in self._landed and failures == self._failures:
                try:
                    await self._change([])
                except HostingError:
                    self._failures += 1

    async def repair(self, known: Known, settled: Entry | None) -> None:
        """Replace what turned out to be gone; nothing happens where the document has changed since."""
        latest, version = known
        repaired = msgspec.structs.replace(latest, settled=settled, rev=random_id())
        with suppress(Lost, StateUnavailable):  # The next reader searches again.
            await self._store.put(self._name, msgspec.json.encode(repaired), if_version=version)

    async def _change(self, noted: Sequence[Entry]) -> None:
        """Note these, and settle what has landed; only for notes is it worth to go on where others are faster."""
        for attempt in range(TRIES if noted else 1):
            if attempt:
                await self._sleep(min(FIRST_PAUSE * 2**attempt, LAST_PAUSE) * (0.5 + self._jitter()))
            fresh = self._known is None
            latest, version = self._known or await self.read()
            self._known = None
            landed = {*self._landed}
            changed = await self._thinned(latest.changed(noted, landed))
            if changed != latest or not fresh:
                changed = msgspec.structs.replace(changed, rev=random_id())
                try:
                    version = await settled_put(
                        self._store,
                        self._name,
                        msgspec.json.encode(changed),
                        if_version=version,
                        attempts=ATTEMPTS if noted else 1,
                        clock=self._clock,
                        sleep=self._sleep,
                        jitter=self._jitter,
                    )
                except Lost:
                    continue
            self._known = changed, version
            self._landed -= landed
            return
        raise StateUnavailable(f"{self._name} changes faster than it can be written. Try again.")

    async def _thinned(self, latest: Latest) -> Latest:
        """Where others have left too many notes: settle what is stored, and drop the oldest of the rest."""
        others = [entry for entry in latest.pending if entry not in self._under_way]
        if len(others) <= PENDING:
            return latest
        found = await asyncio.gather(*map(self._stored, others))
        landed = {
            entry
            for entry, there in zip(others, found, strict=True)
            if there is not None and there.order >= entry.order
        }
        dropped = [entry for entry in others if entry not in landed][:-PENDING]
        thinned = latest.changed([], landed)
        return msgspec.structs.replace(
            thinned, pending=tuple(entry for entry in thinned.pending if entry not in dropped)
        )
