"""Which of a workflow's checkpoints is the latest: one document says it, however many there are.

A save notes in it what is about to be stored (`pending`), stores that, and then settles the note. The stored document
is what counts: until it is there, no reader finds anything of it; from then on the note leads to it, also if the saver
is killed before it settles. A reader looks at the settled checkpoint and at the pending ones after it, all at once.

What this keeps up: every stored checkpoint is pending, or does not come after `settled`. Only a deletion, or a save
that sets an old id back in time, makes the settled one other than it was noted; then a reader has to search.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Literal

import msgspec

from ..errors import StateDamaged, StateUnavailable
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


class LatestPointer:
    """One workflow's document, as the savers of one event loop share it: they write for each other.

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
        self._wanted: list[Entry] = []
        self._landed: set[Entry] = set()

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

    async def note(self, entry: Entry) -> None:
        """Say that a checkpoint is about to be stored.

        Raises:
            StateDamaged: The document cannot be read.
            StateUnavailable: It may not have been noted.
        """
        self._wanted.append(entry)
        try:
            async with self._lock:
                if entry in self._wanted:  # Otherwise the one before has noted it along with its own.
                    noted = [*self._wanted]
                    await self._change(noted)
                    self._wanted = [wanted for wanted in self._wanted if wanted not in noted]
        finally:
            if entry in self._wanted:
                self._wanted.remove(entry)

    async def settle(self, entry: Entry) -> None:
        """Say that a checkpoint is stored. If that fails its note goes on leading to it."""
        self._landed.add(entry)
        async with self._lock:
            if entry in self._landed:
                with suppress(StateUnavailable, StateDamaged):  # The next save settles it.
                    await self._change([])

    async def repair(self, known: Known, settled: Entry | None) -> None:
        """Replace what turned out to be gone; nothing happens where the document has changed since."""
        latest, version = known
        repaired = msgspec.structs.replace(latest, settled=settled, rev=random_id())
        with suppress(Lost, StateUnavailable):  # The next reader searches again.
            await self._store.put(self._name, msgspec.json.encode(repaired), if_version=version)

    async def _change(self, noted: list[Entry]) -> None:
        """Note these, and settle what has landed; only for notes is it worth to go on where others are faster."""
        for attempt in range(TRIES if noted else 1):
            if attempt:
                await self._sleep(min(FIRST_PAUSE * 2**attempt, LAST_PAUSE) * (0.5 + self._jitter()))
            fresh = self._known is None
            latest, version = self._known or await self.read()
            self._known = None
            landed = {*self._landed}
            changed = latest.changed(noted, landed)
            if len(changed.pending) > PENDING:
                changed = await self._thinned(changed, noted)
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

    async def _thinned(self, latest: Latest, noted: list[Entry]) -> Latest:
        """Settle what others have stored and did not settle, and drop the oldest of what was never stored."""
        others = [entry for entry in latest.pending if entry not in noted]
        found = await asyncio.gather(*map(self._stored, others))
        landed = [
            entry
            for entry, there in zip(others, found, strict=True)
            if there is not None and there.order >= entry.order
        ]
        thinned = latest.changed([], landed)
        return msgspec.structs.replace(thinned, pending=thinned.pending[-max(PENDING, len(noted)) :])
