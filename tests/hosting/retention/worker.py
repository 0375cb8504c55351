"""What the other processes of the tests do. Each function runs in a process of its own."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import Any

from agent_framework_hosting.errors import HostingError
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.belonging import Finder
from agent_framework_hosting.state.deletion import Deleter
from agent_framework_hosting.state.locations import open_store
from tests.hosting.retention.written import NOW, no_sleep, prune
from tests.support.stores import Fault, FaultStore

Planned = tuple[Fault, dict[str, Any]]


def faulty(path: str, plans: tuple[Planned, ...]) -> FaultStore:
    store = FaultStore(open_store(path))
    for fault, where in plans:
        store.plan(fault, **where)
    return store


def prune_once(connection: Connection, path: str, *plans: Planned) -> None:
    """Prune a store, one operation at a time, with planned faults."""
    pruned = asyncio.run(prune(faulty(path, plans), operations=1))
    connection.send((pruned.conversations, pruned.documents))


def delete_once(connection: Connection, path: str, key: str, *plans: Planned) -> None:
    """Delete a conversation, one operation at a time, with planned faults; says how many documents, or the error."""

    async def delete() -> None:
        store = faulty(path, plans)
        found = await Finder([store], operations=1).find(conversation_path(key), key)
        assert found is not None
        deleter = Deleter([store], operations=1, clock=lambda: NOW, sleep=no_sleep)
        try:
            deleted = await deleter.delete([found])
            await deleter.delete_rest(deleted)
        except HostingError as error:
            connection.send(type(error).__name__)
        else:
            connection.send(deleted.documents)

    asyncio.run(delete())
