"""Clients of conversations that several processes serve, in processes that are killed and frozen at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import replace
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from agent_framework_hosting import AgentFrameworkHost, ChannelContext, ChannelContribution, HostLimits, InboundUpdate
from agent_framework_hosting.errors import StateUnavailable, TurnBusy, TurnConflict, TurnRepeated
from agent_framework_hosting.lifespan import Lifespan
from tests.hosting.protocol.diary import SHORT, Diary, request

# A conversation knows the last 64 turns. More must not come while a client is frozen, or its process is replaced.
PAUSE, POST_PAUSE = 1.0, 1.0
# An update whose every process is killed is set aside some day: not in this test, which kills so often.
LIMITS: HostLimits = replace(
    SHORT, lease=timedelta(seconds=1), turn_timeout=timedelta(seconds=30), update_attempts=1000
)

Stream = tuple[str, str]
"""A client and the conversation it speaks in; its words are `<client> <number>`."""
Streams = Mapping[Stream, int]
"""The number of the next word in each."""


class RoundsChannel:
    """Its updates are words; the reply to one is to say `("replied", conversation, word, answer)`."""

    name = "test"
    path = "/updates"
    context: ChannelContext

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.context = context
        return ChannelContribution(on_update=self.on_update, authenticated=True)

    async def on_update(self, update: InboundUpdate) -> None:
        result = (await self.context.run(request(update.isolation_key, update.payload.decode()))).result
        self._connection.send(("replied", update.isolation_key, update.payload.decode(), result.text))


def converse(
    connection: Connection, state_dir: str, turns: Mapping[Stream, int], updates: Mapping[Stream, int]
) -> None:
    """Serve a host whose clients speak in their conversations until told to stop, and drain until told again.

    Says `(what, conversation, word, answer or "")`:
    `asks` before a turn and `heard` or `lost` after it, `posts` before an update and `accepted` after it, `replied`
    with each reply, `stopped` when the clients have, and `failed` with an error that no client expects.
    """

    async def work() -> None:
        channel = RoundsChannel(connection)
        lifespan = Lifespan(AgentFrameworkHost(Diary(), channels=[channel], state_dir=state_dir, limits=LIMITS).app)
        await lifespan.start()
        stop = asyncio.Event()
        clients = Clients(connection, channel.context, stop)
        async with asyncio.TaskGroup() as group:
            for stream, number in turns.items():
                group.create_task(clients.speak(clients.take_turns(*stream, number)))
            for stream, number in updates.items():
                group.create_task(clients.speak(clients.post_updates(*stream, number)))
            await asyncio.to_thread(connection.recv)
            stop.set()
        connection.send(("stopped", "", "", ""))
        await asyncio.to_thread(connection.recv)
        await lifespan.stop()

    asyncio.run(work())


class Clients:
    """What the clients of one process do, each one thing after another."""

    def __init__(self, connection: Connection, context: ChannelContext, stop: asyncio.Event) -> None:
        self._connection = connection
        self._context = context
        self._stop = stop

    async def speak(self, words: Coroutine[Any, Any, None]) -> None:
        try:
            await words
        except Exception as error:
            self._say("failed", "", repr(error))

    async def take_turns(self, client: str, key: str, number: int) -> None:
        """Ask, and go on to the next word; a client called `again…` repeats what it heard no answer to."""
        while not self._stop.is_set():
            word = f"{client} {number}"
            self._say("asks", key, word)
            while (said := await self._ask(key, word)) is None and client.startswith("again"):
                pass
            self._say("lost" if said is None else "heard", key, word, said or "")
            number += 1
            await asyncio.sleep(PAUSE)

    async def _ask(self, key: str, word: str) -> str | None:
        try:
            return (await self._context.run(request(key, word, turn=word))).result.text
        except TurnRepeated:
            return "repeated"
        except (StateUnavailable, TurnBusy, TurnConflict):
            return None

    async def post_updates(self, client: str, key: str, number: int) -> None:
        """Post updates as a platform does, which repeats each until it is accepted."""
        while not self._stop.is_set():
            word = f"{client} {number}"
            self._say("posts", key, word)
            update = InboundUpdate("test", f"{key} {word}", key, word.encode(), str(number))
            while True:
                try:
                    await self._context.accept(update)
                    break
                except StateUnavailable:
                    await asyncio.sleep(PAUSE)
            self._say("accepted", key, word)
            number += 1
            await asyncio.sleep(POST_PAUSE)

    def _say(self, what: str, key: str, word: str, answer: str = "") -> None:
        self._connection.send((what, key, word, answer))
