"""A deployed sample whose processes come and go."""

from __future__ import annotations

import asyncio
import os
import secrets
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from scripts.demo_platforms import SAMPLES, SECONDS, Platform, Process

CALLER = "ada"


class Answer(NamedTuple):
    """An HTTP answer; `seconds` count from the start of the process where the call was its first (`cold`)."""

    status: int
    text: str
    seconds: float
    cold: bool

    @property
    def body(self) -> dict[str, Any]:
        return msgspec.json.decode(self.text, type=dict[str, Any])


class Piece(NamedTuple):
    """What arrived at once of a streamed answer, `seconds` after the request."""

    seconds: float
    text: str


@dataclass
class Deployment:
    """One sample on one platform, on a state directory that outlives its processes.

    `settings` come on top of what the sample is set up with here.
    """

    platform: Platform
    state_dir: Path
    key: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    target: str = "agent"
    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    process: Process | None = None
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def environ(self) -> dict[str, str]:
        # An empty key keeps the sample offline on a machine where one is set.
        return {
            "SAMPLE_TARGET": self.target,
            "STATE_DIR": str(self.state_dir),
            "API_KEYS": f"{CALLER}={self.key}",
            "OPENAI_API_KEY": "",
            **self.settings,
        }

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stack.aclose()

    async def serve(self, target: str) -> None:
        """Serve `agent` or `workflow` from now on; a process that serves the other one is killed."""
        if target != self.target:
            await self.kill()
        self.target = target

    async def call(self, body: Mapping[str, Any]) -> Answer:
        """POST to the process, which is started if there is none."""
        began = time.perf_counter()
        cold = self.process is None
        process = await self.started()
        status, text = await process.post(body, self.headers)
        return Answer(status, text, time.perf_counter() - began, cold)

    async def stream(self, body: Mapping[str, Any]) -> AsyncGenerator[Piece]:
        process = await self.started()
        began = time.perf_counter()
        async with aclosing(process.stream({**body, "stream": True}, self.headers)) as texts:
            async for text in texts:
                yield Piece(time.perf_counter() - began, text)

    async def started(self) -> Process:
        if self.process is None:
            self.process = await self.stack.enter_async_context(self.platform.start(self.environ))
        return self.process

    async def kill(self) -> None:
        """SIGKILL the process, if there is one, and wait until it is gone."""
        if self.process is not None:
            await self.process.kill()
            self.process = None
        await self.stack.aclose()

    async def reset(self, session_id: str) -> float:
        """Reset a conversation from a process of its own; returns how long that took, in seconds."""
        began = time.perf_counter()
        command = [sys.executable, "reset.py", CALLER, session_id]
        environ = {**os.environ, **self.environ}
        process = await asyncio.create_subprocess_exec(
            *command, cwd=SAMPLES / "server", env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        output, _ = await asyncio.wait_for(process.communicate(), SECONDS)
        if process.returncode != 0:
            raise RuntimeError(f"reset.py failed: {output.decode(errors='replace')}")
        return time.perf_counter() - began
