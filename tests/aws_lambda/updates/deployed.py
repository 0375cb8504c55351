"""The host on our runtime: any number of processes on one state, and the services that they talk to."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from emulators.lambda_calls import Invocation
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime_api import RuntimeApi
from tests.aws_lambda.updates.clients import PING, SWEEP, Mailroom, message, webhook
from tests.support.places import StatePlace
from tests.support.receivers import Receiver, answered

OURS = ("agent_framework_hosting_aws_lambda", "tests.aws_lambda.updates.app:host")
STOCK = ("awslambdaric", "tests.aws_lambda.updates.stock.handler")
PATIENCE = 20.0


class Hold:
    """An answer that is kept back until `go`; `at` is when it was asked for."""

    def __init__(self, status: int = 204) -> None:
        self.status = status
        self.at = 0.0
        self.reached = asyncio.Event()
        self._go = asyncio.Event()

    def go(self) -> None:
        self._go.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.at = time.monotonic()
        self.reached.set()
        await self._go.wait()
        with suppress(OSError):  # Whoever asked may have been killed.
            writer.write(answered(self.status))
            await writer.drain()

    async def wait(self) -> None:
        async with asyncio.timeout(PATIENCE):
            await self.reached.wait()


class Deployed:
    """A function of which each process is an environment. `asked` is what its agent was run with."""

    def __init__(
        self, api: RuntimeApi, agent: Receiver, replies: Receiver, folder: Path, place: StatePlace, env: dict[str, str]
    ) -> None:
        self.api = api
        self.agent = agent
        self.receiver = replies
        self.mailroom = Mailroom(place.state_dir)
        self.folder = folder
        self.env = {
            "AGENT": agent.origin,
            "REPLY_ORIGIN": replies.origin,
            "STATE_DIR": place.state_dir,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **place.environment,
            **env,
        }

    @asynccontextmanager
    async def process(self, **env: str) -> AsyncGenerator[RuntimeProcess]:
        """One more environment, whose process waits for an invocation."""
        polls = self.api.polls
        async with self.environment(OURS, **env) as process:
            await self.api.ready(polls + 1)
            yield process

    def environment(self, command: Sequence[str], **env: str) -> RuntimeProcess:
        """One more environment, whose process begins."""
        return RuntimeProcess(self.api, [sys.executable, "-m", *command], cwd=self.folder, env={**self.env, **env})

    def hold(self, status: int = 204) -> Hold:
        """Keep the next question of the agent, or of a request, back."""
        self.agent.answers.append(hold := Hold(status))
        return hold

    def send(self, id: str, conversation: str, *, timeout: float = 30.0, hold: str = "", **fields: Any) -> Invocation:
        headers = {"x_hold": hold} if hold else {}
        return self.api.invoke(
            webhook(message(self.receiver.origin, id, conversation, **fields), **headers), timeout=timeout
        )

    async def accept(self, id: str, conversation: str, **fields: Any) -> None:
        await self.mailroom.accept(self.receiver.origin, id, conversation, **fields)

    async def sweep(self, *, timeout: float = 30.0) -> Invocation:
        """Sweep, and do the work on what is found."""
        call = self.api.invoke(SWEEP, timeout=timeout)
        await call.over()
        return call

    async def settle(self, conversation: str, answers: int) -> None:
        """Sweep until so many replies of a conversation have come: what holds it may have to age out."""
        async with asyncio.timeout(PATIENCE):
            while len(self.replies(conversation)) < answers:
                await self.sweep()
                await asyncio.sleep(0.1)  # Between two sweeps, each of which may be the one that finds it.

    async def hold_over(self, conversation: str) -> None:
        """Wait for the end of the back-off of a conversation's first update, and invoke the function then."""
        [hold] = (await self.mailroom.head(conversation)).hold.values()
        assert hold.not_before > 0
        await asyncio.sleep(max(0.0, hold.not_before - time.time()))  # As the head says, and no longer.
        await self.api.invoke(PING).over()

    def asked(self, text: str) -> int:
        """How often the agent was run with a text."""
        return sum(received.body == text.encode() for received in self.agent.received)

    def replies(self, conversation: str) -> list[str]:
        found = [msgspec.json.decode(received.body, type=dict[str, str]) for received in self.receiver.received]
        return [reply["answer"] for reply in found if reply["conversation"] == conversation]


@asynccontextmanager
async def deployed(
    folder: Path, place: StatePlace | None = None, *, freezes: bool = False, **env: str
) -> AsyncGenerator[Deployed]:
    """Give a function without processes, of which each one will have `env`; state is in `folder` by default.

    `freezes`: they are stopped whenever they wait, as on Lambda.
    """
    place = place or StatePlace("directory", str(folder / "state"))
    async with Receiver() as agent, Receiver() as replies, RuntimeApi(freeze_after_next=freezes) as api:
        yield Deployed(api, agent, replies, folder, place, env)
