"""Workflow checkpoints: staged while a turn runs, written once when it is saved."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import logging
import pickle
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from agent_framework import WorkflowCheckpointException

from ..errors import ConfigurationError, StateDamaged, StateUnavailable
from ..internals import decode_value, encode_value
from .head import FORMAT, Checkpoint, check_format, random_id
from .settle import settled_put
from .store import ABSENT, StateStore, read

if TYPE_CHECKING:
    from agent_framework import CheckpointStorage, WorkflowCheckpoint


# A request for list[str] is pickled with its type.
HARMLESS = frozenset({"types:GenericAlias"})

logger = logging.getLogger("agent_framework.hosting")

# As the framework's checkpoint encoding writes, and its allow list words it.
_PICKLED = re.compile(rb'"__pickled__":"([A-Za-z0-9+/=]+)"')
_BLOCKED = re.compile(r"blocked for (?:nested )?type '([^']+)'")


class CheckpointKeeper(Protocol):
    """Where the checkpoint of a saved turn lives, and how the conversation's head names it."""

    async def keep(self, place: str, key: str, checkpoint: WorkflowCheckpoint) -> Checkpoint:
        """Write a checkpoint; `place` begins its name in a store, `key` is its conversation's.

        Raises:
            ConfigurationError: It holds something that could not be read back.
            StateUnavailable: The storage did not take it.
        """
        ...

    async def load(self, checkpoint: Checkpoint) -> WorkflowCheckpoint:
        """Read a checkpoint.

        Raises:
            StateDamaged: It is missing, or cannot be read.
            StateUnavailable: The storage did not answer.
        """
        ...

    async def remove(self, name: str) -> None:
        """Remove a checkpoint that `keep` wrote into a store and that no conversation names any more."""
        ...


class StoredCheckpoints:
    """Checkpoints as documents of a state store.

    The encoding is the framework's: JSON with pickled values behind an allow list.
    """

    def __init__(self, store: StateStore) -> None:
        self._store = store

    async def keep(self, place: str, key: str, checkpoint: WorkflowCheckpoint) -> Checkpoint:
        name = f"{place}-{random_id()}"
        data = encode_checkpoint(key, checkpoint)
        check_readable(name, data)
        await settled_put(self._store, name, data, if_version=ABSENT)
        return Checkpoint(name, len(data))

    async def load(self, checkpoint: Checkpoint) -> WorkflowCheckpoint:
        name = checkpoint.name
        found = await read(self._store, name)
        if found is None:
            raise StateDamaged(
                name, f"The workflow checkpoint {name!r} is missing. Restore it, or reset the conversation."
            )
        return decode_checkpoint(name, found[0])

    async def remove(self, name: str) -> None:
        await self._store.delete(name)


class TransientCheckpoints:
    """Checkpoints of one process: the name is the checkpoint itself, and goes with its conversation.

    Nobody else can write them, so types of the user's own need no registration; a warning says that they would.
    """

    def __init__(self) -> None:
        self._warned = False

    async def keep(self, place: str, key: str, checkpoint: WorkflowCheckpoint) -> Checkpoint:
        data = encode_checkpoint(key, checkpoint)
        if not self._warned:
            try:
                check_readable("memory", data)
            except ConfigurationError as error:
                self._warned = True
                logger.warning("With a state_dir this workflow's turn would fail. %s", error)
        return Checkpoint(data.decode(), len(data))

    async def load(self, checkpoint: Checkpoint) -> WorkflowCheckpoint:
        return decode_checkpoint("memory", checkpoint.name.encode(), trusted=True)

    async def remove(self, name: str) -> None:
        return None


class ForeignCheckpoints:
    """Checkpoints in a storage of the user's, under the framework's own checkpoint ids; their size is not known.

    It has `timeout` seconds for each of them: a turn must not hold its conversation for ever.
    """

    def __init__(self, storage: CheckpointStorage, *, timeout: float = 10.0) -> None:
        self._storage = storage
        self._timeout = timeout

    async def keep(self, place: str, key: str, checkpoint: WorkflowCheckpoint) -> Checkpoint:
        try:
            async with asyncio.timeout(self._timeout):
                return Checkpoint(await self._storage.save(checkpoint))
        except (WorkflowCheckpointException, TypeError, ValueError) as error:
            raise ConfigurationError(f"The checkpoint storage refused the workflow's state: {error}") from error
        except Exception as error:
            why = str(error) or type(error).__name__
            raise StateUnavailable(f"The checkpoint storage did not save the workflow: {why}") from error

    async def load(self, checkpoint: Checkpoint) -> WorkflowCheckpoint:
        name = checkpoint.name
        try:
            async with asyncio.timeout(self._timeout):
                return await self._storage.load(name)
        except WorkflowCheckpointException as error:
            raise StateDamaged(
                name, f"The workflow checkpoint {name!r} cannot be read: {error}. Or reset the conversation."
            ) from error
        except Exception as error:
            why = str(error) or type(error).__name__
            raise StateUnavailable(f"The checkpoint storage did not give the workflow's state: {why}") from error

    async def remove(self, name: str) -> None:
        return None  # When it may go is for whoever owns the storage to say.


class TurnCheckpoints:
    """The `CheckpointStorage` that one turn runs with: it restores `start`, if any, and remembers the last save.

    Nothing is written before the turn is saved, so a cancelled or lost turn leaves no trace, and a long run costs
    one write instead of one for every superstep.
    """

    def __init__(self, start: WorkflowCheckpoint | None) -> None:
        # The restoring run counts as a superstep; the turns of a conversation must not add up to `max_iterations`.
        self.start = None if start is None else replace(start, iteration_count=-1)
        self.last: WorkflowCheckpoint | None = None
        self._restoring = start is not None

    def restored(self) -> None:
        """Count saves from now on; the restoring run itself ends with one."""
        self._restoring = False

    async def save(self, checkpoint: WorkflowCheckpoint) -> str:
        if not self._restoring:
            self.last = checkpoint
        return checkpoint.checkpoint_id

    async def load(self, checkpoint_id: str) -> WorkflowCheckpoint:
        for checkpoint in (self.last, self.start):
            if checkpoint is not None and checkpoint.checkpoint_id == checkpoint_id:
                return checkpoint
        raise WorkflowCheckpointException(f"No checkpoint {checkpoint_id!r} in this turn.")

    async def list_checkpoints(self, *, workflow_name: str) -> list[WorkflowCheckpoint]:
        latest = await self.get_latest(workflow_name=workflow_name)
        return [] if latest is None else [latest]

    async def delete(self, checkpoint_id: str) -> bool:
        return False

    async def get_latest(self, *, workflow_name: str) -> WorkflowCheckpoint | None:
        return self.last or self.start

    async def list_checkpoint_ids(self, *, workflow_name: str) -> list[str]:
        return [checkpoint.checkpoint_id for checkpoint in await self.list_checkpoints(workflow_name=workflow_name)]


def check_readable(name: str, data: bytes) -> None:
    """Make sure that another process can read a checkpoint.

    Raises:
        ConfigurationError: Names the type that it could not.
    """
    if any(map(_names_main, map(base64.b64decode, _PICKLED.findall(data)))):
        raise ConfigurationError(
            "The workflow's state has a type that is defined in __main__, the script that was started: no other "
            "process knows it by that name. Move the type to a module of its own."
        )
    try:
        decode_checkpoint(name, data)
    except StateDamaged as error:
        found = _BLOCKED.search(str(error.__cause__))
        what = f"The type {found[1]}" if found else f"Something ({error.__cause__})"
        raise ConfigurationError(
            f"{what} in the workflow's state is not registered, so it could not be read back. Call "
            "agent_framework.register_checkpoint_type() for it where it is defined."
        ) from None


def _names_main(pickled: bytes) -> bool:
    """Whether a pickle, of this process's own, names something in `__main__`; text may hold that word, too."""
    if b"__main__" not in pickled:
        return False
    try:
        _MainFinder(io.BytesIO(pickled)).load()
    except _InMain:
        return True
    except Exception:  # Whatever else is wrong with it, reading it back says better.
        return False
    return False


class _InMain(Exception):
    pass


class _MainFinder(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str, /) -> Any:
        if module_name == "__main__":
            raise _InMain
        return super().find_class(module_name, global_name)


def encode_checkpoint(key: str, checkpoint: WorkflowCheckpoint) -> bytes:
    """Write a checkpoint as JSON.

    Raises:
        ConfigurationError: A value in it cannot be pickled.
    """
    try:
        value = encode_value(checkpoint.to_dict())
    except Exception as error:
        raise ConfigurationError(
            f"The workflow's state cannot be stored: {error}. Keep plain, picklable values in executors and in the "
            "workflow's shared state."
        ) from error
    return json.dumps({"format": FORMAT, "key": key, "checkpoint": value}, separators=(",", ":")).encode()


def decode_checkpoint(
    name: str, data: bytes, *, trusted: bool = False, allowed: frozenset[str] = frozenset()
) -> WorkflowCheckpoint:
    """Read what `encode_checkpoint` wrote; `allowed` names types beside the framework's and the registered ones.

    Raises:
        StateDamaged: It cannot be read; the cause is chained.
    """
    from agent_framework import WorkflowCheckpoint

    try:
        document = cast("dict[str, Any]", json.loads(data))
        if document["format"] != FORMAT:
            check_format(name, data)
        value = decode_value(document["checkpoint"], allowed=None if trusted else HARMLESS | allowed)
        return WorkflowCheckpoint.from_dict(value)
    except StateDamaged:
        raise
    except Exception as error:
        raise StateDamaged(
            name,
            f"The workflow checkpoint {name!r} cannot be read ({error}). It was kept; call "
            "register_checkpoint_type() for your own types at import time, or reset the conversation.",
        ) from error
