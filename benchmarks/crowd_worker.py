"""What the processes of `crowd` do; each function runs in a process of its own."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

from agent_framework import AgentResponse, AgentSession, Message

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelContext,
    ChannelContribution,
    ChannelRequest,
    ChannelSession,
    HostLimits,
    InboundUpdate,
    StateUnavailable,
)
from agent_framework_hosting.lifespan import Lifespan

from .stubs import FixedAgent, Probe

PATIENT = HostLimits(turn_timeout=timedelta(minutes=5))
RESTLESS = HostLimits(lease=timedelta(seconds=2), turn_timeout=timedelta(minutes=5))
"""For processes of which one is killed every second: who lives shorter than a lease never takes one over."""


class ListAgent(FixedAgent):
    """Keeps what it hears in its session, and takes `seconds` for it."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds

    async def run(self, messages: Any = None, *, session: AgentSession | None = None, **kwargs: Any) -> AgentResponse:
        word = messages[-1].text
        if self.seconds:
            await asyncio.sleep(self.seconds)
        if session is not None:
            session.state.setdefault("words", []).append(word)
        return AgentResponse(messages=[Message("assistant", [word])])


class Hook:
    """A channel whose updates are words; it replies by writing their ids into a file."""

    name = "hook"
    path = "/hook"
    context: ChannelContext

    def __init__(self, replies: str | None = None) -> None:
        self._replies = None if replies is None else os.open(replies, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.context = context
        return ChannelContribution(on_update=self.on_update, authenticated=True)

    async def on_update(self, update: InboundUpdate) -> None:
        await self.context.run(request(update.isolation_key, update.payload.decode()))
        if self._replies is not None:
            os.write(self._replies, f"{update.id}\n".encode())


def request(key: str, word: str, *, parent: str | None = None) -> ChannelRequest:
    """Ask for a turn; one that goes on from a parent, under a key that nobody knows, needs no lease."""
    session = ChannelSession(key, parent=parent, fresh=parent is not None)
    return ChannelRequest("probe", "run", word, session=session)


def begin(environment: dict[str, str], work: Callable[..., None], *arguments: Any) -> None:
    """Work in the environment of whoever asks: this is a fork of a process that began earlier, in another one."""
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments)


def take_turns(connection: Connection, state_dir: str, key: str, name: str, count: int) -> None:
    """Take turns of one conversation, one after another, beginning when told; says when they began and ended."""

    async def work() -> None:
        probe = Probe()
        lifespan = Lifespan(AgentFrameworkHost(ListAgent(), channels=[probe], state_dir=state_dir, limits=PATIENT).app)
        await lifespan.start()
        connection.send("ready")
        await asyncio.to_thread(connection.recv)
        began = time.monotonic()
        for number in range(count):
            await probe.context.run(request(key, f"{name}{number}"))
        connection.send((began, time.monotonic()))
        await lifespan.stop()

    asyncio.run(work())


def converse(connection: Connection, state_dir: str, count: int, seconds: float) -> None:
    """Take one turn in each of `count` conversations at once, as often as told: with a lease, or without.

    Both read the conversation and save it; without a lease under a new key, where nobody else can be. Says when they
    began and ended.
    """

    async def work() -> None:
        probe = Probe()
        host = AgentFrameworkHost(ListAgent(seconds), channels=[probe], state_dir=state_dir, limits=PATIENT)
        lifespan = Lifespan(host.app)
        await lifespan.start()
        keys = [f"{os.getpid()} {number}" for number in range(count)]
        await asyncio.gather(*(probe.context.run(request(key, "first")) for key in keys))
        connection.send("ready")
        while (round_ := await asyncio.to_thread(connection.recv)) is not None:
            name, leased = round_
            began = time.monotonic()
            turns = [request(key, "word") if leased else request(f"{key} {name}", "word", parent=key) for key in keys]
            await asyncio.gather(*map(probe.context.run, turns))
            connection.send((began, time.monotonic()))
        await lifespan.stop()

    asyncio.run(work())


def drain(connection: Connection, state_dir: str, replies: str) -> None:
    """Work on updates until killed."""

    async def work() -> None:
        host = AgentFrameworkHost(ListAgent(), channels=[Hook(replies)], state_dir=state_dir, limits=RESTLESS)
        lifespan = Lifespan(host.app)
        await lifespan.start()
        connection.send("ready")
        await asyncio.get_running_loop().create_future()
        await lifespan.stop()

    asyncio.run(work())


def accept(connection: Connection, state_dir: str, updates: Sequence[tuple[str, str, int]], at_once: int) -> None:
    """Accept updates (id, conversation, number) as a webhook whose platform repeats what was not taken; says when."""

    async def work() -> None:
        hook = Hook()
        host = AgentFrameworkHost(ListAgent(), channels=[hook], state_dir=state_dir, limits=RESTLESS, inbox=NoInbox())
        _ = host.app
        slots = asyncio.Semaphore(at_once)

        async def post(id_: str, key: str, number: int) -> None:
            update = InboundUpdate("hook", id_, key, str(number).encode(), str(number))
            async with slots:
                while True:
                    with suppress(StateUnavailable):
                        await hook.context.accept(update)
                        return
                    await asyncio.sleep(0.5)

        began = time.monotonic()
        # In the order of the platform within a conversation; conversations side by side.
        waves: dict[str, list[tuple[str, str, int]]] = {}
        for item in updates:
            waves.setdefault(item[1], []).append(item)

        async def conversation(items: Sequence[tuple[str, str, int]]) -> None:
            for item in items:
                await post(*item)

        await asyncio.gather(*map(conversation, waves.values()))
        connection.send((began, time.monotonic()))

    asyncio.run(work())


class NoInbox:
    """Wakes nobody: what is accepted is found by sweeps."""

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        return None
