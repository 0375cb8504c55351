"""What `af-hosting serve` serves in tests; the environment says how. Every step leaves a line in `LOG`.

A turn that is told to hang says so on standard error. `GRACE` is passed to `serve()` as its `graceful_timeout`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from agent_framework import AgentResponseUpdate, AgentSession, Message
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError, Provisioning
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.channels import ProbeChannel, request_of
from tests.support.targets import ScriptedAgent, text_update


def note(line: str) -> None:
    with Path(os.environ["LOG"]).open("a") as log:
        log.write(f"{line} {os.getpid()}\n")


async def start() -> None:
    if message := os.environ.get("START_FAILS"):
        raise ConfigurationError(message)
    note("start")


async def stop() -> None:
    note("stop")


async def provision(provisioning: Provisioning) -> None:
    note("provision")


class HangingAgent(ScriptedAgent):
    """Never ends a turn that says `hang`, unless it is cancelled, nor one that says `stay`."""

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        if messages[-1].text == "hang":
            yield text_update("begun")
            print("hanging", file=sys.stderr, flush=True)  # noqa: T201 - the test reads it
            try:
                await asyncio.Event().wait()
            finally:
                note("ended")
        if messages[-1].text == "stay":
            print("hanging", file=sys.stderr, flush=True)  # noqa: T201 - the test reads it
            while True:
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()
        async for update in super().updates(messages, session):
            yield update


class Host(AgentFrameworkHost):
    def serve(self, **how: Any) -> None:
        if "GRACE" in os.environ:
            how["graceful_timeout"] = float(os.environ["GRACE"])
        super().serve(**how)


async def turn(request: Request) -> JSONResponse:
    hosted = await channel.context.run(request_of(request.path_params["key"], "x"))
    return JSONResponse({"pid": os.getpid(), "text": hosted.result.text})


channel = ProbeChannel(
    routes=[Route("/{key}", turn)],
    on_startup=[start],
    on_shutdown=[stop],
    on_provision=[provision],
    authenticated="OPEN" not in os.environ,
)
host = Host(
    HangingAgent(), channels=[channel, InvocationsChannel(allow_anonymous=True)], state_dir=os.environ.get("STATE")
)
