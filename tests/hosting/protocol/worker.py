"""What the other processes of the tests do. Each function runs in a process of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.errors import HostingError
from agent_framework_hosting.state.locations import open_store
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import SHORT, Diary, hosted, request
from tests.hosting.protocol.modes import target_of, text_of
from tests.hosting.protocol.questions import answer, asking
from tests.support.stores import Fault, FaultStore

Planned = tuple[Fault, dict[str, Any]]


def take_turn(connection: Connection, path: str, key: str, word: str, how: dict[str, Any], *plans: Planned) -> None:
    """Take one turn on a store with planned faults; says every update, then the answer or the error's name.

    `how` may hold `stream`, `reset`, `fresh`, `turn`, `padding`, `limits`, `workflow` (the answer is followed by the
    ids of what it asks) and `responses` (instead of the word). A word that starts with `hold` is held in the middle
    of the run until the other side says something.
    """
    asyncio.run(turn(connection, path, key, word, how, plans))


async def turn(
    connection: Connection, path: str, key: str, word: str, how: dict[str, Any], plans: tuple[Planned, ...]
) -> None:
    store = planned(FaultStore(open_store(path)), plans)
    async with hosted(store, target_of(how, holding(connection)), how.get("limits", SHORT)) as context:
        try:
            if how.get("reset"):
                await context.reset_session(key)
                connection.send("reset")
            elif how.get("stream"):
                stream = await context.run_stream(request(key, word, turn=how.get("turn")))
                async for update in stream:
                    connection.send(update.text)
                connection.send((await stream.get_final_response()).text)
            elif "responses" in how:
                connection.send(text_of((await answer(context, key, how["responses"])).result))
            else:
                asked = request(key, word, turn=how.get("turn"), fresh=how.get("fresh", False))
                result = await context.run(asked)
                connection.send(text_of(result.result))
                if result.pending:
                    connection.send([pending.id for pending in result.pending])
        except HostingError as error:
            connection.send(type(error).__name__)


def planned(store: FaultStore, plans: Iterable[Planned]) -> FaultStore:
    """Plan faults of what a process does itself: how often it renews its lease meanwhile is up to the machine."""
    for fault, where in plans:
        store.plan(fault, **{**where, "name": partial(named, where.get("name", ""))})
    return store


def named(part: str, name: str) -> bool:
    return part in name and threading.current_thread().name != "hosting-lease-renewal"


def holding(connection: Connection) -> Callable[[str], Awaitable[None]]:
    async def between(word: str) -> None:
        if word.startswith("hold"):
            connection.send("holding")
            await asyncio.to_thread(connection.recv)

    return between


def post_workflow_turn(connection: Connection, path: str, key: str) -> None:
    """Take one turn of the asking workflow over HTTP; says the status."""

    async def post() -> None:
        target = asking(holding(connection))
        host = AgentFrameworkHost(target, channels=[TurnChannel()], state_dir=path, limits=SHORT)
        async with started(host) as app:
            connection.send((await post_turn(app, key, "hold")).status)

    asyncio.run(post())


def post_turns(connection: Connection, path: str, key: str, name: str, count: int) -> None:
    """Take turns over HTTP as fast as they go, beginning when told; says the answers."""

    async def post() -> None:
        host = AgentFrameworkHost(Diary(), channels=[TurnChannel()], state_dir=path)
        async with started(host) as app:
            connection.send("ready")
            await asyncio.to_thread(connection.recv)
            replies = [await post_turn(app, key, f"{name}{n}") for n in range(count)]
        connection.send([(reply.status, reply.json) for reply in replies])

    asyncio.run(post())
