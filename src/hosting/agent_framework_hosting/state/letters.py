"""Accepted updates as an operator sees them: those that wait, and those that were set aside."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Literal

from ..errors import ConfigurationError, StateDamaged, StateUnavailable
from .documents import find_head, pages
from .head import Head
from .held import known_as_done
from .mail import DEAD, WAITING, Letter, SetAside, Waiting, decode_dead, decode_waiting, sent_again
from .settle import settled_put
from .store import StateStore, read

SHORTEST = 4
AT_ONCE = 16

State = Literal["waiting", "working", "held", "dead", "done"]


@dataclass(frozen=True, slots=True)
class Seen:
    """An update where it stands; `document` is None where it cannot be read. Times are POSIX seconds.

    `done` is one whose document is only left to be removed. Of one on hold `not_before` says until when.
    """

    name: str
    letter: Letter
    state: State
    document: Waiting | SetAside | None
    attempts: int = 0
    error: str | None = None
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Survey:
    """How long the first unfinished update has waited, in seconds, and how many were set aside."""

    oldest: float
    set_aside: int


class Letters:
    """The updates in a store."""

    def __init__(self, store: StateStore, *, wall: Callable[[], float] = time.time) -> None:
        self._store = store
        self._wall = wall

    async def all(self) -> AsyncIterator[Seen]:
        """Give every update, those that wait first, each conversation's in order."""
        path, head = "", None
        async for names in pages(self._store, f"{WAITING}/"):
            for letter in Letter.all(names):
                if letter.path != path:
                    path, head = letter.path, await self._head(letter.path)
                if (seen := await self._waiting(letter.waiting, letter, head)) is not None:
                    yield seen
        async for names in pages(self._store, f"{DEAD}/"):
            for name in names:
                if (seen := await self._dead(name, Letter.named(name))) is not None:
                    yield seen

    async def survey(self, *, looked_at: int = 1000) -> Survey:
        """Look how long updates wait, in at most so many conversations, and how many were set aside.

        Raises:
            StateUnavailable: The store did not answer.
        """
        firsts: dict[str, Letter] = {}
        async for names in pages(self._store, f"{WAITING}/"):
            for letter in Letter.all(names):
                if len(firsts) < looked_at:
                    firsts.setdefault(letter.path, letter)
        letters = [*firsts.values()]
        now = oldest = self._wall()
        for start in range(0, len(letters), AT_ONCE):
            some = letters[start : start + AT_ONCE]
            for seen in await asyncio.gather(*(self._waiting(letter.waiting, letter, None) for letter in some)):
                if seen is not None and isinstance(seen.document, Waiting):
                    oldest = min(oldest, seen.document.accepted)
        set_aside = 0
        async for names in pages(self._store, f"{DEAD}/"):
            set_aside += len(names)
        return Survey(now - oldest, set_aside)

    async def find(self, uid: str) -> Seen:
        """Give the update whose uid begins like that.

        Raises:
            ConfigurationError: There is none, or there are several.
        """
        uid = uid.lower()
        if len(uid) < SHORTEST:
            raise ConfigurationError(f"Give at least {SHORTEST} digits of an update's uid, as `inbox list` shows it.")
        found: list[str] = []
        for place in (WAITING, DEAD):
            async for names in pages(self._store, f"{place}/"):
                found += [name for name in names if Letter.named(name).uid.startswith(uid)]
        if len({Letter.named(name).uid for name in found}) > 1:
            raise ConfigurationError(f"Several updates have a uid that begins with {uid}: give more digits.")
        for name in found:
            letter = Letter.named(name)
            if name == letter.dead:
                seen = await self._dead(name, letter)
            else:
                seen = await self._waiting(name, letter, await self._head(letter.path))
            if seen is not None:
                return seen
        raise ConfigurationError(f"There is no update whose uid begins with {uid}. It may be done by now.")

    async def retry(self, seen: Seen, *, run_again: bool = False) -> str:
        """Enter an update that was set aside once more, under a uid of its own, and give that.

        Repeating this after a failure enters the same one. One whose turn is in the conversation is not entered
        unless `run_again` says that it may be there twice.

        Raises:
            ConfigurationError: It was not set aside, or cannot be read.
            StateUnavailable: The store did not answer.
        """
        if not isinstance(seen.document, SetAside):
            raise ConfigurationError("Only an update that was set aside, and can be read, can be tried again.")
        if seen.document.damaged:
            raise ConfigurationError("This update could not be read when it was accepted: it can only be dropped.")
        if seen.document.saved and not run_again:
            raise ConfigurationError(
                f"The turn of {seen.letter.uid[:12]} is in its conversation; only its reply may be missing. To run "
                "the agent with it again all the same, say --run-again; otherwise drop it."
            )
        text = f"{seen.letter.uid} again {seen.document.when}"
        letter = seen.letter._replace(uid=hashlib.sha256(text.encode()).hexdigest())
        await settled_put(self._store, letter.waiting, sent_again(seen.document, self._wall()))
        await self._store.delete(seen.name)
        return letter.uid

    async def drop(self, seen: Seen) -> None:
        """Remove an update. One that is being worked on may still be finished."""
        await self._store.delete(seen.name)

    async def _head(self, path: str) -> Head | None:
        try:
            found = await find_head(self._store, path)
        except (StateDamaged, StateUnavailable):
            return None
        return None if found is None else found[0]

    async def _waiting(self, name: str, letter: Letter, head: Head | None) -> Seen | None:
        document: Waiting | None = None
        error: str | None = None
        try:
            if (found := await read(self._store, name)) is None:
                return None
            document = decode_waiting(name, found[0])
        except (StateDamaged, StateUnavailable) as unreadable:
            error = str(unreadable)
        if head is None:
            return Seen(name, letter, "waiting", document, error=error)
        if known_as_done(head, letter.uid):
            return Seen(name, letter, "done", document)
        hold = head.hold.get(letter.uid)
        if hold is None:
            return Seen(name, letter, "waiting", document, error=error)
        working = head.lease is not None and letter.uid in head.lease.updates
        state: State = "working" if working else "held"
        return Seen(name, letter, state, document, hold.attempts, error or hold.error, hold.not_before)

    async def _dead(self, name: str, letter: Letter) -> Seen | None:
        try:
            if (found := await read(self._store, name)) is None:
                return None
            document = decode_dead(name, found[0])
        except (StateDamaged, StateUnavailable) as unreadable:
            return Seen(name, letter, "dead", None, error=str(unreadable))
        return Seen(name, letter, "dead", document, document.attempts, document.error)
