"""A turn with its state in S3 or Azure Blob Storage, against the bare obstore calls that its protocol asks for.

That is: get the head, make the session of it; put the lease; make a dictionary of the session, put the commit. Both
puts expect the version before. The services are moto and Azurite on this machine, whose times say nothing about AWS or
Azure: there a request takes several times as long, and what the host adds weighs less.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from agent_framework import AgentSession

from agent_framework_hosting.state.locations import locate
from agent_framework_hosting.state.object_places import BlobPlace, S3Place
from emulators.object_stores import Azurite, Emulator, Moto
from scripts import toolchain

from .directory_turn import Host
from .measure import Block, Ratio, interleave
from .stubs import RememberingAgent
from .table import Row, compared

if TYPE_CHECKING:
    from agent_framework_hosting.state.object_places import Client

MESSAGES = 6
TURNS = 4
ROUNDS = 150


def measure() -> list[Row]:
    return [*turns("moto", moto(), "s3://bucket"), *turns("Azurite", azurite(), "az://container")]


def moto() -> Moto:
    return Moto()


def azurite() -> Azurite:
    return Azurite(toolchain.azurite(), node=toolchain.node())


def turns(service: str, emulator: Emulator, place: str) -> list[Row]:
    with emulator, variables(emulator.environment), asyncio.Runner() as runner:
        if isinstance(emulator, Azurite):
            emulator.make_container("container")
        elif isinstance(emulator, Moto):
            emulator.make_bucket("bucket")
        host = Host(f"{place}/ours", MESSAGES)
        bare = BareProtocol(f"{place}/bare", RememberingAgent(MESSAGES).create_session(session_id="order-42"))
        runner.run(host.start())
        runner.run(bare.start())
        try:
            samples = interleave(
                {"bare": awaiting(runner, bare.turn), "ours": awaiting(runner, host.turn)}, rounds=ROUNDS, warm_up=4
            )
        finally:
            runner.run(host.stop())
    size = f"{len(bare.data) / 1000:.0f} KB"
    to = "to_dict, from_dict, one get and two puts of obstore"
    return [compared(f"a turn with {size}, {service}", Ratio.of(samples["ours"], samples["bare"]), to=to, target=1.2)]


@contextmanager
def variables(environment: dict[str, str]) -> Generator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def awaiting(runner: asyncio.Runner, turn: Callable[[], Awaitable[None]]) -> Block:
    async def block() -> float:
        began = time.perf_counter()
        for _ in range(TURNS):
            await turn()
        return (time.perf_counter() - began) / TURNS

    return lambda: runner.run(block())


class BareProtocol:
    """What no implementation of the protocol can do without, and nothing else."""

    def __init__(self, place: str, session: AgentSession) -> None:
        located = locate(place, "place")
        assert isinstance(located, S3Place | BlobPlace)
        self.client: Client = located.connect(3.0).client
        self.path = located.root + "head"
        self.session = session
        self.data = json.dumps(session.to_dict()).encode()
        self.document: dict[str, Any] = json.loads(self.data)
        self.version = ""

    async def start(self) -> None:
        self.version = (await self.client.put_async(self.path, self.data))["e_tag"] or ""

    async def turn(self) -> None:
        found = await self.client.get_async(self.path)
        await found.bytes_async()
        session = AgentSession.from_dict(self.document)
        await self.write()
        session.to_dict()
        await self.write()

    async def write(self) -> None:
        written = await self.client.put_async(self.path, self.data, mode={"e_tag": self.version}, use_multipart=False)
        self.version = written["e_tag"] or ""
