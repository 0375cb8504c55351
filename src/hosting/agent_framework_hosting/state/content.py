"""What a head names: the session and the checkpoint of its conversation."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ..errors import HostingError, StateDamaged
from ..shielding import shielded, together
from .head import INLINE_BYTES, Head, Snapshot, random_id
from .holding import Holding
from .settle import settled_put
from .store import ABSENT, StateStore, read

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from .checkpoints import CheckpointKeeper

logger = logging.getLogger("agent_framework.hosting.state")


class Content(NamedTuple):
    """A conversation's session as JSON, and its workflow's checkpoint."""

    snapshot: bytes | None = None
    checkpoint: WorkflowCheckpoint | None = None


NOTHING = Content()


@dataclass(frozen=True, slots=True)
class Unreadable:
    """In place of what cannot be read, for those who may not need it."""

    error: StateDamaged


async def load_text(store: StateStore, text: Snapshot | None, *, damaged_too: bool = False) -> bytes | None:
    """Read JSON from the head, or from its own document.

    With `damaged_too` it is read as it is; None where it is missing.

    Raises:
        StateDamaged: The document is missing, or not the one that was written.
    """
    if text is None:
        return None
    if text.name is None:
        return bytes(text.inline)
    name = text.name
    found = await read(store, name)
    if found is None:
        if damaged_too:
            return None
        raise StateDamaged(name, f"The stored session {name!r} is missing. Restore it, or reset the conversation.")
    if not damaged_too and hashlib.sha256(found[0]).hexdigest() != text.sha:
        raise StateDamaged(name, f"The stored session {name!r} is damaged. It was kept; restore it, or reset.")
    return found[0]


async def place_text(store: StateStore, path: str, epoch: int, text: bytes) -> Snapshot:
    """Give JSON a place in the head, or write it into a document of its own if it is large."""
    if len(text) <= INLINE_BYTES:
        return Snapshot(size=len(text), inline=msgspec.Raw(text))
    name = f"k/{path}/b/{epoch:012}-{random_id()}"
    await settled_put(store, name, text, if_version=ABSENT)
    return Snapshot(size=len(text), name=name, sha=hashlib.sha256(text).hexdigest())


async def load_content(
    store: StateStore, head: Head | None, keeper: CheckpointKeeper | None, *, to_reset: bool = False
) -> Content:
    """Read the session and the checkpoint that a head names, at the same time; a reset needs no checkpoint.

    Raises:
        StateDamaged: One of them cannot be read; with `to_reset` that is no obstacle.
    """
    if head is None:
        return NOTHING
    if head.checkpoint is None or keeper is None or to_reset:
        return Content(await load_text(store, head.snapshot, damaged_too=to_reset))
    return Content(*await together(load_text(store, head.snapshot), keeper.load(head.checkpoint)))


async def acquire(
    holding: Holding, head: Head, keeper: CheckpointKeeper | None, *, load: bool = True, to_reset: bool = False
) -> Content:
    """Write the lease and, at the same time, read what the conversation has; what it had earlier is removed.

    Raises:
        Lost: Somebody else wrote first.
        StateDamaged: What the conversation has cannot be read; the lease is there.
        TurnConflict: The lease got lost meanwhile.
    """
    found = holding.found if load else None
    if holding.found is not None and holding.found.garbage:
        holding.unremoved.update(holding.found.garbage)
        holding.meanwhile(remove(holding.store, keeper, holding.found.garbage, left=holding.unremoved))
    if found is None or (found.checkpoint is None and (found.snapshot is None or found.snapshot.name is None)):
        await shielded(holding.acquire(head))
        return await load_content(holding.store, found, keeper)  # All of it is in the head.
    reading = asyncio.ensure_future(load_content(holding.store, found, keeper, to_reset=to_reset))
    try:
        await shielded(holding.acquire(head))
        try:
            return await reading
        except StateDamaged:
            holding.check()  # Whoever took over may have removed what this holder was about to read.
            raise
    finally:
        reading.cancel()
        await asyncio.wait([reading])
        if not reading.cancelled():
            reading.exception()


def superseded(before: Head, after: Head) -> tuple[str, ...]:
    """Name the documents of a conversation that its new head does not name any more."""
    kept = set(names_of(after))
    # The checkpoints of a storage of the user's have other names, and are not ours to remove.
    return tuple(name for name in (*before.garbage, *names_of(before)) if name not in kept and name.startswith("k/"))


def names_of(head: Head) -> list[str]:
    """Name the documents that a head needs."""
    names = [part.name for part in head.texts if part.name is not None]
    return [*names, *(checkpoint.name for checkpoint in head.checkpoints)]


async def remove(
    store: StateStore, keeper: CheckpointKeeper | None, names: tuple[str, ...], *, left: set[str] | None = None
) -> None:
    """Remove documents that no head names, and note in `left` what is gone. A failure costs space and nothing else."""
    for name in names:
        try:
            if "/c/" not in name:
                await store.delete(name)
            elif keeper is not None:
                await keeper.remove(name)
            if left is not None:
                left.discard(name)
        except HostingError as error:
            logger.warning("A document that is not needed any more could not be removed: %s", error)
