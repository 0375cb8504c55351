"""What is stored, for an operator to look at."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any, cast

import msgspec

from ..errors import StateDamaged
from .archives import decode_archive
from .bounded import BoundedStore, each
from .documents import (
    BATCH,
    CONVERSATIONS,
    SET_ASIDE,
    WAITING,
    all_names,
    find_head,
    head_name,
    is_tombstone,
    pages,
    part_of,
    path_of,
    when_of,
)
from .head import Head, Snapshot
from .store import StateStore, read
from .tombstones import OPERATIONS

SECRET = "reply_token"  # noqa: S105 - the name of a field, which is never shown


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A conversation in a list.

    `hash` is the last part of its path, `last_used` POSIX seconds (None: an earlier release did not say), `size` what a
    next turn has to read in bytes, `updates` how many are waiting. `state` is `idle`, `leased` (a turn is running, or
    was when its process died), `new` (nothing but updates yet), `deleted` or `damaged`.
    """

    key: str | None
    hash: str
    last_used: float | None = None
    size: int = 0
    updates: int = 0
    state: str = "idle"


class Inspection:
    """Looks into `stores` (see `documents.stores_of`) and changes nothing."""

    def __init__(self, stores: Sequence[StateStore], *, operations: int = OPERATIONS) -> None:
        slots = asyncio.Semaphore(operations)
        self._stores = [BoundedStore(store, slots) for store in stores]
        self._sessions = self._stores[0]

    async def rows(self, *, batch: int = BATCH) -> AsyncGenerator[Sequence[Row]]:
        """All conversations, in the order of their hashes; first those that have only updates."""
        waiting: Counter[str] = Counter()
        async for names in pages(self._sessions, WAITING, batch):
            waiting.update(path for path in map(path_of, names) if path is not None)
        new: list[Row] = []

        async def look_for_head(path: str) -> None:
            if await self._sessions.get(head_name(path)) is None:
                key = await self._key_of_update(path)
                new.append(Row(key=key, hash=path[3:], updates=waiting[path], state="new"))

        await each(waiting, look_for_head)
        if new:
            yield sorted(new, key=lambda row: row.hash)
        async for names in pages(self._sessions, CONVERSATIONS, batch):
            rows: list[Row] = []

            async def look(name: str, rows: list[Row] = rows) -> None:
                path = path_of(name)
                if path is not None and name == head_name(path) and (row := await self._row(path, waiting[path])):
                    rows.append(row)

            await each(names, look)
            yield sorted(rows, key=lambda row: row.hash)

    async def _row(self, path: str, updates: int) -> Row | None:
        try:
            found = await find_head(self._sessions, path)
        except StateDamaged:
            return Row(key=None, hash=path[3:], updates=updates, state="damaged")
        if found is None:
            return None
        head = found[0]
        return Row(
            key=head.key or None,
            hash=path[3:],
            last_used=head.deleted or head.when or None,
            size=head.size,
            updates=updates,
            state=state_of(head),
        )

    async def _key_of_update(self, path: str) -> str | None:
        for name in await self._sessions.list(f"{WAITING}{path}/", limit=1):
            found = await read(self._sessions, name)
            key = None if found is None else plain(found[0]).get("key")
            return key if isinstance(key, str) else None
        return None

    async def resolve(self, beginning: str) -> list[str]:
        """Give the paths of conversations whose hash begins like that, at most two."""
        paths: list[str] = []
        for place in (CONVERSATIONS, WAITING, SET_ASIDE):
            for store in self._stores if place == CONVERSATIONS else self._stores[:1]:
                after = ""
                while len(paths) < 2:
                    names = await store.list(f"{place}{beginning[:2]}/{beginning}", after=after, limit=1)
                    if not names:
                        break
                    path = path_of(names[0])
                    if path is not None and path not in paths:
                        paths.append(path)
                    # Beyond all of this conversation: its names have a slash there, which comes before "0".
                    after = names[0] if path is None else f"{place}{path}0"
        return paths

    async def show(self, path: str, key: str | None = None, *, content: bool = False) -> dict[str, Any] | None:
        """Describe one conversation; with `content` its session, its archives and its updates as well.

        What would let somebody reply in our name (reply tokens, the lease's token) is never part of it.

        Raises:
            StateDamaged: Its head, or with `content` its session, cannot be read.
        """
        found = await find_head(self._sessions, path)
        shown: dict[str, Any] = {"key": key, "hash": path[3:]}
        if found is not None:
            shown |= await self._describe(path, found[0], content)
        updates = [await self._document(name, content) for name in await all_names(self._sessions, f"{WAITING}{path}/")]
        failed = [
            await self._document(name, content) for name in await all_names(self._sessions, f"{SET_ASIDE}{path}/")
        ]
        if found is None and not updates and not failed:
            return None
        return shown | {"updates": updates, "set_aside": failed}

    async def _describe(self, path: str, head: Head, content: bool) -> dict[str, Any]:
        parts = [
            part
            for store in self._stores
            for name in await all_names(store, f"{CONVERSATIONS}{path}/")
            if (part := part_of(name)) is not None
        ]
        shown: dict[str, Any] = {
            "state": state_of(head),
            "last_used": head.when or None,
            "epoch": head.epoch,
            "size": head.size,
            "documents": sorted({part.name for part in parts}),
        }
        if head.deleted is not None:
            return shown | {"deleted": head.deleted}
        shown |= {
            "key": head.key,
            "session": head.session,
            "generation": head.generation,
            "snapshot": None if head.snapshot is None else head.snapshot.name or "in the head",
            "checkpoint": None if head.checkpoint is None else head.checkpoint.name,
            "lease": None if head.lease is None else {"ttl": head.lease.ttl, "attempt": head.lease.attempt},
            "replying": None if head.ran is None else head.ran.update,
            "hold": msgspec.to_builtins(head.hold),
            "people": list(head.people),
            "archives": [await self._archive(part.name, content) for part in parts if part.kind == "s"],
        }
        if content:
            shown["content"] = await self._session(head.snapshot)
        return shown

    async def _session(self, snapshot: Snapshot | None) -> Any:
        from .content import load_text

        data = await load_text(self._sessions, snapshot)
        return None if data is None else msgspec.json.decode(data)

    async def _archive(self, name: str, content: bool) -> dict[str, Any]:
        found = await read(self._sessions, name)
        archive = None if found is None else decode_archive(found[0])
        shown: dict[str, Any] = {"name": name, "when": None if archive is None else archive.when or None}
        if content and archive is not None:
            shown["content"] = msgspec.json.decode(archive.snapshot)
        return shown

    async def _document(self, name: str, content: bool) -> dict[str, Any]:
        found = await read(self._sessions, name)
        data = b"" if found is None else found[0]
        shown: dict[str, Any] = {"name": name, "when": when_of(data)}
        document = plain(data)
        for told in ("attempts", "error"):
            if told in document:
                shown[told] = document[told]
        if content:
            shown["content"] = document
        return shown


def state_of(head: Head) -> str:
    return "deleted" if is_tombstone(head) else "idle" if head.lease is None else "leased"


def plain(data: bytes) -> dict[str, Any]:
    """Read a JSON object without the secrets in it; what is no object is shown as none."""
    try:
        document: object = msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return {}
    shown = without_secrets(document)
    return cast("dict[str, Any]", shown) if isinstance(shown, dict) else {}


def without_secrets(value: object) -> object:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        return {name: without_secrets(item) for name, item in items.items() if name != SECRET}
    if isinstance(value, list):
        return [without_secrets(item) for item in cast("list[object]", value)]
    return value
