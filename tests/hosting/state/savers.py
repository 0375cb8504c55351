"""Checkpoints to save, and processes that save them. Each function with a connection runs in a process of its own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from typing import Any

from agent_framework import CheckpointStorage, WorkflowCheckpoint

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.store import StateStore
from agent_framework_hosting.storage import StateCheckpointStorage, StateSessionStore
from tests.support.stores import Fault, FaultStore

Planned = tuple[Fault, dict[str, Any]]
Shared = Callable[[str], StateStore]

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def shared_directory(path: str) -> StateStore:
    return DirectoryStore(path)


SHARED: dict[str, Shared] = {"directory": shared_directory}
"""The stores that processes can share, each made from the path of an empty folder of the test's own."""


def checkpoint(id: str, second: float = 0, *, workflow: str = "w", **more: Any) -> WorkflowCheckpoint:
    timestamp = (BEGIN + timedelta(seconds=second)).isoformat()
    return WorkflowCheckpoint(workflow, "hash", checkpoint_id=id, timestamp=timestamp, **more)


async def seen(storage: CheckpointStorage, id: str, workflow: str = "w") -> tuple[bool, bool, bool]:
    """Tell whether load, list and latest find a checkpoint that is later than all others."""
    try:
        loaded = (await storage.load(id)).checkpoint_id == id
    except Exception:
        loaded = False
    latest = await storage.get_latest(workflow_name=workflow)
    listed = await storage.list_checkpoint_ids(workflow_name=workflow)
    return loaded, id in listed, latest is not None and latest.checkpoint_id == id


def save_one(connection: Connection, make: Shared, path: str, id: str, second: float, *plans: Planned) -> None:
    """Save a checkpoint on a store with planned faults; says when it is saved."""

    async def save() -> None:
        await StateCheckpointStorage(planned(make(path), plans)).save(checkpoint(id, second))
        connection.send("saved")

    asyncio.run(save())


def save_many(connection: Connection, make: Shared, path: str, name: str, count: int) -> None:
    """Save checkpoints, some at a time, beginning when told; says when all are saved."""

    async def save() -> None:
        storage = StateCheckpointStorage(make(path))
        connection.send("ready")
        await asyncio.to_thread(connection.recv)
        for first in range(0, count, 5):
            numbers = range(first, min(first + 5, count))
            await asyncio.gather(*(storage.save(checkpoint(f"{name}{number}", number)) for number in numbers))
        connection.send("saved")

    asyncio.run(save())


def save_on(connection: Connection, make: Shared, path: str, name: str, second: int) -> None:
    """Save one checkpoint after another until killed; says each when it is saved."""

    async def save() -> None:
        storage = StateCheckpointStorage(make(path))
        for number in itertools.count():
            connection.send(await storage.save(checkpoint(f"{name}{number}", second + number)))

    asyncio.run(save())


def change_session(connection: Connection, make: Shared, path: str, id: str, text: str | None, *plans: Planned) -> None:
    """Store a session, or delete it, on a store with planned faults; says when that is done."""
    from agent_framework import AgentSession

    async def change() -> None:
        store = StateSessionStore(planned(make(path), plans))
        if text is None:
            await store.delete(id)
        else:
            session = AgentSession(session_id=id)
            session.state["text"] = text
            await store.set(id, session)
        connection.send("done")

    asyncio.run(change())


def planned(store: StateStore, plans: tuple[Planned, ...]) -> StateStore:
    faulty = FaultStore(store)
    for fault, where in plans:
        faulty.plan(fault, **where)
    return faulty
