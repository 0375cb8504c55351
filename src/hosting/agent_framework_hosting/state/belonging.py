"""What is stored of a conversation, or of somebody."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from ..errors import StateDamaged
from ..keys import isolation_key
from .bounded import BoundedStore, each
from .documents import (
    CHANNELS,
    CONVERSATIONS,
    SET_ASIDE,
    WAITING,
    all_names,
    find_head,
    is_tombstone,
    pages,
    path_of,
)
from .head import Head
from .names import SEGMENT
from .people import person
from .store import StateStore, read
from .tombstones import OPERATIONS


@dataclass(frozen=True)
class Candidate:
    """A conversation to delete, as it was seen; without a head only updates or leftovers were.

    `documents` are those of its channel, `shared` tells whether others than the one who asks took part.
    """

    path: str
    key: str | None
    head: Head | None
    documents: tuple[str, ...] = ()
    shared: bool = False


@dataclass
class Found:
    """What belongs to somebody: conversations, and documents of a channel. `damaged` names what could not be read."""

    conversations: list[Candidate] = field(default_factory=list[Candidate])
    documents: list[str] = field(default_factory=list[str])
    damaged: list[str] = field(default_factory=list[str])


class _Mention(msgspec.Struct):
    """What tells whose an update is, or a channel's document."""

    key: str | None = None
    conversation: str | None = None
    identity: dict[str, Any] | None = None


_mention_decoder = msgspec.json.Decoder(_Mention)


class Finder:
    """Looks through `stores` (see `documents.stores_of`), with at most `operations` under way at once."""

    def __init__(self, stores: Sequence[StateStore], *, operations: int = OPERATIONS) -> None:
        slots = asyncio.Semaphore(operations)
        self._stores = [BoundedStore(store, slots) for store in stores]
        self._sessions = self._stores[0]

    async def find(self, path: str, key: str | None = None) -> Candidate | None:
        """Look for one conversation; None if nothing is stored of it.

        Raises:
            StateDamaged: Its head cannot be read.
        """
        found = await find_head(self._sessions, path)
        head = None if found is None else found[0]
        if head is not None and head.key:
            key = head.key
        documents = () if key is None else await self._documents_of(key)
        if head is None or is_tombstone(head):
            places = [(store, f"{CONVERSATIONS}{path}/") for store in self._stores]
            places += [(self._sessions, f"{prefix}{path}/") for prefix in (WAITING, SET_ASIDE)]
            for store, prefix in places:
                if any(not name.endswith("/head") for name in await store.list(prefix, limit=2)):
                    break
            else:
                if not documents:
                    return None
        return Candidate(path, key, head, documents)

    async def find_person(self, channel: str, native_id: str) -> Found:
        """Look for all that is somebody's: every head and every waiting or failed update is read.

        A conversation is somebody's if its head remembers the identity, if its key begins with
        `isolation_key(channel, native_id)`, or if an update of it has that identity.
        """
        found = Found()
        whose = person(channel, native_id)
        prefix = isolation_key(channel, native_id)
        candidates: dict[str, Candidate] = {}

        async def look_at_head(name: str) -> None:
            path = path_of(name)
            if path is None or not name.endswith("/head"):
                return
            try:
                at = await find_head(self._sessions, path)
            except StateDamaged as error:
                found.damaged.append(error.name)
                return
            head = None if at is None else at[0]
            if head is not None and (whose in head.people or is_below(head.key, prefix)):
                # Below their own key are documents of theirs, all of which are found below.
                documents = () if is_below(head.key, prefix) else await self._documents_of(head.key)
                candidates[path] = Candidate(path, head.key, head, documents, has_others(head, whose))

        async def look_at_update(name: str) -> None:
            path = path_of(name)
            document = await read(self._sessions, name)
            if path is None or document is None or path in candidates:
                return
            try:
                mention = _mention_decoder.decode(document[0])
            except (msgspec.MsgspecError, UnicodeDecodeError):
                found.damaged.append(name)
                return
            identity = mention.identity or {}
            same = (identity.get("channel"), identity.get("native_id")) == (channel, native_id)
            if same or is_below(mention.key or "", prefix):
                try:
                    candidate = await self.find(path, mention.key)
                except StateDamaged as error:
                    found.damaged.append(error.name)
                    return
                if candidate is not None:
                    candidates[path] = replace(candidate, shared=has_others(candidate.head, whose))

        for place, look in ((CONVERSATIONS, look_at_head), (WAITING, look_at_update), (SET_ASIDE, look_at_update)):
            async for names in pages(self._sessions, place):
                await each(names, look)
        found.conversations = [candidates[path] for path in sorted(candidates)]
        if (folder := documents_folder(channel, isolation_key(native_id))) is not None:
            found.documents = await all_names(self._sessions, folder)
        return found

    async def _documents_of(self, key: str) -> tuple[str, ...]:
        """Name the channel's documents of a conversation: they stand below its caller, and say whose they are."""
        channel, _, rest = key.partition(":")
        folder = documents_folder(channel, rest.partition(":")[0]) if rest else None
        if folder is None:
            return ()
        theirs: list[str] = []

        async def look(name: str) -> None:
            found = await read(self._sessions, name)
            try:
                if found is not None and _mention_decoder.decode(found[0]).conversation == key:
                    theirs.append(name)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                pass

        async for names in pages(self._sessions, folder):
            await each(names, look)
        return tuple(sorted(theirs))


def has_others(head: Head | None, whose: str) -> bool:
    return head is not None and any(other != whose for other in head.people)


def is_below(key: str, prefix: str) -> bool:
    return key == prefix or key.startswith(prefix + ":")


def documents_folder(channel: str, owner: str) -> str | None:
    """Give where a channel keeps the documents of a caller; `owner` is its part of an isolation key."""
    if re.fullmatch(SEGMENT, channel) is None:
        return None
    return f"{CHANNELS}{channel}/{hashlib.sha256(owner.encode()).hexdigest()}/"
