"""The framework's `CheckpointStorage` over any `StateStore`."""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import random
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakKeyDictionary

from agent_framework import WorkflowCheckpointException

from ..errors import ConfigurationError, StateDamaged
from .checkpoints import decode_checkpoint, encode_checkpoint
from .head import FORMAT, check_format
from .latest import Entry, Known, LatestPointer, Order, moment
from .names import check_name
from .settle import settled_put
from .store import ScopedStore, StateStore, read

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

logger = logging.getLogger("agent_framework.hosting.state")

AT_ONCE = 16
PAGE = 1000
REMEMBERED = 256


class CheckpointRefused(ConfigurationError, WorkflowCheckpointException):
    """A checkpoint that could not be read back was not saved."""


class CheckpointDamaged(StateDamaged, WorkflowCheckpointException):
    """A stored checkpoint cannot be read. It is kept as it is."""


class StateCheckpointStorage:
    """Keeps workflow checkpoints in `store`, below `prefix`; any number of instances may share them.

    The latest checkpoint is found in two store round trips, however many there are. `allowed_checkpoint_types` names
    types (`module:qualname`) that checkpoints may hold, beside the framework's and those of
    `register_checkpoint_type`. A checkpoint's id belongs to one workflow.

    Raises:
        ValueError: `prefix` is not made of segments of `A-Za-z0-9._-`, joined by `/`.
    """

    def __init__(
        self,
        store: StateStore,
        *,
        prefix: str = "checkpoints",
        allowed_checkpoint_types: Collection[str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = ScopedStore(store, check_name(prefix))
        self._allowed = frozenset(allowed_checkpoint_types or ())
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self._pointers: WeakKeyDictionary[asyncio.AbstractEventLoop, OrderedDict[str, LatestPointer]] = (
            WeakKeyDictionary()
        )

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        """Store a copy and give its id. One that is not saved, or in doubt, is there wholly or not at all.

        Raises:
            CheckpointRefused: It could not be read back. (A `WorkflowCheckpointException`.)
            StateUnavailable: The store did not take it; `Unknown` where it may have.
        """
        name, data = self._encoded(checkpoint)
        entry = Entry(digest(checkpoint.checkpoint_id), checkpoint.timestamp)
        checkpoint_id = checkpoint.checkpoint_id
        async with self._pointer(checkpoint.workflow_name).saving(entry):
            await settled_put(self._store, name, data, clock=self._clock, sleep=self._sleep, jitter=self._jitter)
        return checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        """Read a checkpoint.

        Raises:
            WorkflowCheckpointException: There is none with this id.
            CheckpointDamaged: It cannot be read. (A `WorkflowCheckpointException`.)
            StateUnavailable: The store did not answer.
        """
        found = [await self._read(name) for name in await self._names_of(checkpoint_id)]
        stored = [checkpoint for checkpoint in found if checkpoint is not None]
        if not stored:
            raise WorkflowCheckpointException(f"No checkpoint found with ID {checkpoint_id}")
        return max(stored, key=order_of)

    async def delete(self, checkpoint_id: str) -> bool:
        """Remove a checkpoint; False if there is none. Do not save the same id again while this may be under way.

        Raises:
            StateUnavailable: The store did not answer.
        """
        names = await self._names_of(checkpoint_id)
        for name in names:
            await self._store.delete(name)
        return bool(names)

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        """Read all checkpoints of a workflow, oldest first. One that cannot be read is left out, with a warning.

        Raises:
            StateUnavailable: The store did not answer.
        """
        found: list[WorkflowCheckpoint] = []
        async with aclosing(self._documents(workflow_name)) as documents:
            async for name, data in documents:
                try:
                    found.append(self._decoded(name, data))
                except CheckpointDamaged as error:
                    logger.warning("%s", error)
        return sorted(found, key=order_of)

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        """Give the ids of what `list_checkpoints` gives."""
        return [found.checkpoint_id for found in await self.list_checkpoints(workflow_name=workflow_name)]

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        """Read the checkpoint with the latest timestamp; None where a workflow has none.

        It takes two store round trips, and a search through all checkpoints once after the latest was deleted.

        Raises:
            CheckpointDamaged: The latest cannot be read; no older one is given in its place.
            StateDamaged: What says which is the latest cannot be read.
            StateUnavailable: The store did not answer.
        """
        pointer = self._pointer(workflow_name)
        known = await pointer.read()
        latest = known[0]
        names = [self._name(entry.id, workflow_name) for entry in latest.candidates()]
        there = [checkpoint for checkpoint in await asyncio.gather(*map(self._read, names)) if checkpoint is not None]
        best = max(there, key=order_of, default=None)
        if latest.settled is not None and (best is None or order_of(best) < latest.settled.order):
            return await self._search(pointer, known)
        return best

    async def _search(self, pointer: LatestPointer, known: Known) -> WorkflowCheckpoint | None:
        """Look through all checkpoints for the latest, and write down which it is."""
        best: tuple[Entry, str, bytes] | None = None
        async with aclosing(self._documents(known[0].workflow)) as documents:
            async for name, data in documents:
                entry = opened(name, data)
                if best is None or entry.order > best[0].order:
                    best = entry, name, data
        await pointer.repair(known, None if best is None else best[0])
        return None if best is None else self._decoded(best[1], best[2])

    async def _documents(self, workflow_name: str) -> AsyncGenerator[tuple[str, bytes]]:
        """Read all checkpoints of a workflow, some at a time."""
        ending, after = f"/{digest(workflow_name)}", ""
        while page := await self._store.list("c/", after=after, limit=PAGE):
            names = [name for name in page if name.endswith(ending)]
            for first in range(0, len(names), AT_ONCE):
                batch = names[first : first + AT_ONCE]
                for name, found in zip(batch, await self._read_all(batch), strict=True):
                    if found is not None:
                        yield name, found[0]
            after = page[-1]

    async def _read_all(self, names: Sequence[str]) -> list[tuple[bytes, str] | None]:
        return await asyncio.gather(*(read(self._store, name) for name in names))

    async def _read(self, name: str) -> WorkflowCheckpoint | None:
        found = await read(self._store, name)
        return None if found is None else self._decoded(name, found[0])

    async def _names_of(self, checkpoint_id: str) -> Sequence[str]:
        return await self._store.list(f"c/{digest(checkpoint_id)}/")

    def _pointer(self, workflow_name: str) -> LatestPointer:
        # A lock belongs to its loop. What is forgotten is only what the loop's savers could have shared.
        pointers = self._pointers.setdefault(asyncio.get_running_loop(), OrderedDict())
        if (pointer := pointers.get(workflow_name)) is None:

            async def stored(entry: Entry) -> Entry | None:
                name = self._name(entry.id, workflow_name)
                found = await read(self._store, name)
                try:
                    return None if found is None else opened(name, found[0])
                except StateDamaged:
                    return entry  # It is for readers to say so.

            pointer = pointers[workflow_name] = LatestPointer(
                self._store,
                f"latest/{digest(workflow_name)}",
                workflow_name,
                stored=stored,
                clock=self._clock,
                sleep=self._sleep,
                jitter=self._jitter,
            )
        pointers.move_to_end(workflow_name)
        if len(pointers) > REMEMBERED:
            pointers.popitem(last=False)
        return pointer

    def _name(self, hashed: str, workflow_name: str) -> str:
        return f"c/{hashed}/{digest(workflow_name)}"

    def _encoded(self, checkpoint: WorkflowCheckpoint) -> tuple[str, bytes]:
        """Give a checkpoint's name and document, having read it once for proof."""
        given = checkpoint.checkpoint_id
        try:
            for text in (given, checkpoint.workflow_name):
                text.encode()
            moment(checkpoint.timestamp)
        except (AttributeError, TypeError, ValueError) as error:
            raise CheckpointRefused(
                f"The checkpoint {given!r} was not saved: its id and workflow name have to be text that UTF-8 can "
                f"carry, and its timestamp one of ISO 8601 ({error})."
            ) from error
        name = self._name(digest(given), checkpoint.workflow_name)
        try:
            data = encode_checkpoint(given, checkpoint)
            decode_checkpoint(name, data, allowed=self._allowed)
        except (ConfigurationError, StateDamaged) as error:
            raise CheckpointRefused(
                f"The checkpoint {given!r} was not saved, for it could not be read back "
                f"({error.__cause__ or error}). Keep picklable values in the workflow's state, and name their types in "
                "allowed_checkpoint_types or call register_checkpoint_type() where they are defined."
            ) from error
        return name, data

    def _decoded(self, name: str, data: bytes) -> WorkflowCheckpoint:
        try:
            checkpoint = decode_checkpoint(name, data, allowed=self._allowed)
        except StateDamaged as error:
            if error.__cause__ is None:
                raise CheckpointDamaged(name, str(error)) from error
            raise unreadable(name, error.__cause__) from error
        if name != self._name(digest(checkpoint.checkpoint_id), checkpoint.workflow_name):
            raise unreadable(name, "it holds another checkpoint")
        return checkpoint


def opened(name: str, data: bytes) -> Entry:
    """Say which checkpoint a document holds, without decoding what is in it.

    Raises:
        CheckpointDamaged: It cannot be read.
    """
    try:
        document = cast("dict[str, Any]", json.loads(data))
        if document["format"] != FORMAT:
            check_format(name, data)
        entry = Entry(digest(document["checkpoint"]["checkpoint_id"]), document["checkpoint"]["timestamp"])
        moment(entry.timestamp)
    except StateDamaged as error:
        raise CheckpointDamaged(name, str(error)) from None
    except Exception as error:
        raise unreadable(name, error) from error
    return entry


def unreadable(name: str, why: object) -> CheckpointDamaged:
    return CheckpointDamaged(
        name,
        f"The workflow checkpoint {name!r} cannot be read ({why}). It was kept; call register_checkpoint_type() for "
        "your own types at import time, or delete the checkpoint.",
    )


def order_of(checkpoint: WorkflowCheckpoint) -> Order:
    return Entry(digest(checkpoint.checkpoint_id), checkpoint.timestamp).order


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
