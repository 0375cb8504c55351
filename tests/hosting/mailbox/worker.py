"""What the other processes of the tests do. Each function runs in a process of its own."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from agent_framework_hosting import AgentFrameworkHost, InboundUpdate
from agent_framework_hosting.errors import HostingError, StateUnavailable
from agent_framework_hosting.state.locations import open_store
from tests.hosting.mailbox.desk import Desk, PostChannel, desk, post, reply, word_of
from tests.hosting.protocol.channel import started
from tests.hosting.protocol.diary import SHORT, Diary
from tests.hosting.protocol.worker import Planned, holding, planned
from tests.support.stores import FaultStore


class TellingChannel(PostChannel):
    """Says each reply over a connection, after `reply`."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(self.answer)
        self.connection = connection

    async def answer(self, channel: PostChannel, update: InboundUpdate) -> None:
        word = word_of(update)
        if word.startswith("die"):
            self.connection.send("dying")
            os.kill(os.getpid(), signal.SIGKILL)
        if word.startswith("reset"):
            await self.context.reset_session(update.isolation_key)
            await self.send("reset")
        else:
            await reply(self, update)

    async def send(self, text: str) -> None:
        self.connection.send(text)


def work(
    connection: Connection, place: str, key: str, words: Sequence[str], how: dict[str, Any], *plans: Planned
) -> None:
    """Accept updates with these words and process them, on a store with planned faults; says what becomes of them.

    That is `accepted <word>` for each, every reply, and `empty`. `how` may hold `padding`, `limits`, and `accept`
    (False: they are there already). A word that starts with `hold` is held in the middle of the run until the other
    side says something; at `die` the process is killed.
    """
    asyncio.run(worked(connection, place, key, words, how, plans))


async def worked(
    connection: Connection,
    place: str,
    key: str,
    words: Sequence[str],
    how: dict[str, Any],
    plans: tuple[Planned, ...],
) -> None:
    store = planned(FaultStore(open_store(place)), plans)
    channel = TellingChannel(connection)
    target = Diary(holding(connection), padding=how.get("padding", 0))
    async with desk(store, channel.act, target=target, limits=how.get("limits", SHORT)) as worker:
        channel.context = worker.channel.context
        for word in words if how.get("accept", True) else ():
            try:
                await worker.accept(post(word, key=key))
            except StateUnavailable:
                connection.send(f"refused {word}")
            else:
                connection.send(f"accepted {word}")
        await emptied(worker, key)
        connection.send("empty")


async def emptied(worker: Desk, key: str) -> None:
    delay: float | None = 0.0
    while delay is not None:
        await asyncio.sleep(min(delay, 0.1))
        try:
            delay = await worker.drain(key)
        except HostingError:
            delay = 0.1


def serve(connection: Connection, place: str, *words: str) -> None:
    """Serve a host, and accept an update with each word, in a conversation of that name; says every reply."""

    async def served() -> None:
        channel = TellingChannel(connection)
        host = AgentFrameworkHost(Diary(holding(connection)), channels=[channel], state_dir=place, limits=SHORT)
        async with started(host):
            for word in words:
                await channel.context.accept(post(word, key=word))
            await asyncio.Event().wait()  # until it is killed

    asyncio.run(served())
