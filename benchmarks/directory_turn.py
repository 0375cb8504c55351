"""A turn with its state in a directory, against the least work that its protocol asks for.

That is: read the head, make the session of it; write the lease; make a dictionary of the session, write the commit. A
durable write is a new file, flushed, linked to its final name, and the folder flushed; each file operation is blocking
code on a thread. Both write to the disk that this repository is on.
"""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agent_framework import AgentSession, FileSessionStore

from agent_framework_hosting import AgentFrameworkHost, ChannelRequest, ChannelSession
from agent_framework_hosting.lifespan import Lifespan

from .measure import Block, Ratio, interleave
from .stubs import Probe, RememberingAgent
from .table import Row, compared, reported

MESSAGES = 200
TURNS = 3
ROUNDS = 120
PLACE = Path(__file__).parents[1] / ".state"


def measure() -> list[Row]:
    PLACE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=PLACE, prefix="benchmark-") as folder, asyncio.Runner() as runner:
        session = RememberingAgent(MESSAGES).create_session(session_id="order-42")
        durable, transient = Host(f"{folder}/state"), Host(None)
        bare = BareProtocol(folder, session)
        framework = FrameworkStore(folder, session)
        runner.run(durable.start())
        runner.run(transient.start())
        try:
            samples = interleave(
                {
                    "bare": awaiting(runner, bare.turn),
                    "ours": awaiting(runner, durable.turn),
                    "memory": awaiting(runner, transient.turn),
                    "framework": awaiting(runner, framework.turn),
                },
                rounds=ROUNDS,
                warm_up=4,
            )
        finally:
            runner.run(durable.stop())
            runner.run(transient.stop())
    to = "to_dict, from_dict, one read and two durable writes"
    turn = f"a turn with {MESSAGES} messages, directory state"
    return [
        compared(turn, Ratio.of(samples["ours"], samples["bare"]), to=to, target=1.3),
        compared(
            "the same against the framework's file store",
            Ratio.of(samples["ours"], samples["framework"]),
            to="get and set, neither durable nor guarded",
        ),
        reported("the same turn, memory state", Ratio.of(samples["memory"], samples["bare"]).ours),
    ]


def awaiting(runner: asyncio.Runner, turn: Callable[[], Awaitable[None]]) -> Block:
    async def block() -> float:
        began = time.perf_counter()
        for _ in range(TURNS):
            await turn()
        return (time.perf_counter() - began) / TURNS

    return lambda: runner.run(block())


class Host:
    """A host whose turns are run without HTTP."""

    def __init__(self, state_dir: str | None, messages: int = MESSAGES) -> None:
        self.probe = Probe()
        host = AgentFrameworkHost(RememberingAgent(messages), channels=[self.probe], state_dir=state_dir)
        self.lifespan = Lifespan(host.app)

    async def start(self) -> None:
        await self.lifespan.start()
        await self.turn()

    async def stop(self) -> None:
        await self.lifespan.stop()

    async def turn(self) -> None:
        request = ChannelRequest("probe", "run", "Where is it?", session=ChannelSession("order-42"))
        hosted = await self.probe.context.run(request)
        if not hosted.saved:
            raise RuntimeError("The turn was not saved.")


class BareProtocol:
    """What no implementation of the protocol can do without, and nothing else."""

    def __init__(self, folder: str, session: AgentSession) -> None:
        self.folder = f"{folder}/bare"
        Path(self.folder).mkdir()
        self.data = json.dumps(session.to_dict()).encode()
        self.document: dict[str, Any] = json.loads(self.data)
        self.number = 0
        self.write()

    async def turn(self) -> None:
        await asyncio.to_thread(self.read)
        session = AgentSession.from_dict(self.document)
        await asyncio.to_thread(self.write)
        session.to_dict()
        await asyncio.to_thread(self.write)

    def read(self) -> bytes:
        return Path(f"{self.folder}/v{self.number}").read_bytes()

    def write(self) -> None:
        folder = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
        file = os.open("~new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=folder)
        os.write(file, self.data)
        os.fsync(file)
        os.close(file)
        self.number += 1
        os.link("~new", f"v{self.number}", src_dir_fd=folder, dst_dir_fd=folder)
        os.unlink("~new", dir_fd=folder)
        os.fsync(folder)
        os.close(folder)


class FrameworkStore:
    """The framework's own store, for comparison: it neither flushes what it writes nor keeps writers apart."""

    def __init__(self, folder: str, session: AgentSession) -> None:
        with warnings.catch_warnings(action="ignore"):  # it is experimental
            self.store = FileSessionStore(f"{folder}/framework")
        self.session = session

    async def turn(self) -> None:
        await self.store.set("order-42", self.session)
        await self.store.get("order-42")
