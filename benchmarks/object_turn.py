"""A turn with its state in S3 or Azure Blob Storage, against the bare obstore calls that its protocol asks for.

That is: get the head, make the session of it; put the lease; make a dictionary of the session, put the commit. Both
puts expect the version before. The services are moto and Azurite on this machine, whose times say nothing about AWS or
Azure: there a request takes several times as long, and what the host adds weighs less.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from agent_framework import AgentSession

from agent_framework_hosting.state.locations import locate
from agent_framework_hosting.state.object_places import BlobPlace, S3Place

from .directory_turn import Host
from .measure import Block, Ratio, interleave
from .places import OBJECT_PLACES, Place
from .stubs import RememberingAgent
from .table import Row, compared

if TYPE_CHECKING:
    from agent_framework_hosting.state.object_places import Client

MESSAGES = 6
TURNS = 12
ROUNDS = 60


def measure() -> list[Row]:
    rows: list[Row] = []
    for place in OBJECT_PLACES:
        with place() as state, asyncio.Runner() as runner:
            rows.append(turn(runner, state))
    return rows


def turn(runner: asyncio.Runner, state: Place) -> Row:
    host = Host(state.below("ours"), MESSAGES)
    bare = BareProtocol(state.below("bare"), RememberingAgent(MESSAGES).create_session(session_id="order-42"))
    runner.run(host.start())
    runner.run(bare.start())
    try:
        samples = interleave(
            {"bare": awaiting(runner, bare.turn), "ours": awaiting(runner, host.turn)}, rounds=ROUNDS, warm_up=4
        )
    finally:
        runner.run(host.stop())
    figure = f"a turn with {len(bare.data) / 1000:.0f} KB, {state.name}"
    to = "to_dict, from_dict, one get and two puts of obstore"
    return compared(figure, Ratio.of(samples["ours"], samples["bare"]), to=to, target=1.2)


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
