"""What the other processes of the tests do. Each function runs in a process of its own."""

from __future__ import annotations

import asyncio
from multiprocessing.connection import Connection
from typing import Any

from agent_framework import Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting.errors import HostingError
from agent_framework_hosting.state.directory import DirectoryStore
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import SHORT, Diary, hosted, request, say
from tests.support.stores import Fault, FaultStore

Planned = tuple[Fault, dict[str, Any]]


def take_turn(connection: Connection, path: str, key: str, word: str, how: dict[str, Any], *plans: Planned) -> None:
    """Take one turn on a store with planned faults; says every update, then the answer or the error's name.

    `how` may hold `stream`, `reset`, `fresh`, `turn` and `padding`. A word that starts with `hold` is held in the
    middle of the run until the other side says something.
    """
    asyncio.run(turn(connection, path, key, word, how, plans))


async def turn(
    connection: Connection, path: str, key: str, word: str, how: dict[str, Any], plans: tuple[Planned, ...]
) -> None:
    store = FaultStore(DirectoryStore(path))
    for fault, where in plans:
        store.plan(fault, **where)

    async def between(word: str) -> None:
        if word.startswith("hold"):
            connection.send("holding")
            await asyncio.to_thread(connection.recv)

    async with hosted(store, Diary(between, padding=how.get("padding", 0)), SHORT) as context:
        try:
            if how.get("reset"):
                await context.reset_session(key)
                connection.send("reset")
            elif how.get("stream"):
                stream = await context.run_stream(request(key, word, turn=how.get("turn")))
                async for update in stream:
                    connection.send(update.text)
                connection.send((await stream.get_final_response()).text)
            else:
                connection.send(await say(context, key, word, turn=how.get("turn"), fresh=how.get("fresh", False)))
        except HostingError as error:
            connection.send(type(error).__name__)


class Counter(Executor):
    """Counts its turns, in what it checkpoints; a turn of the word `hold` waits for the other side."""

    def __init__(self, connection: Connection | None) -> None:
        super().__init__("counter")
        self.connection = connection
        self.count = 0

    @handler
    async def add(self, word: str, context: WorkflowContext[Any, str]) -> None:
        self.count += 1
        if word == "hold" and self.connection is not None:
            self.connection.send("holding")
            await asyncio.to_thread(self.connection.recv)
        await context.yield_output(f"{self.count}: {word}")

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"count": self.count}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def counting(connection: Connection | None = None) -> Workflow:
    return WorkflowBuilder(name="counting", start_executor=Counter(connection)).build()


def post_workflow_turn(connection: Connection, path: str, key: str) -> None:
    """Take one turn of the counting workflow over HTTP; says the status."""

    async def post() -> None:
        host = AgentFrameworkHost(counting(connection), channels=[TurnChannel()], state_dir=path, limits=SHORT)
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
