"""What `af-hosting serve` serves in tests; the environment says how. Every step leaves a line in `LOG`."""

from __future__ import annotations

import os
from pathlib import Path

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError, Provisioning
from tests.support.channels import ProbeChannel, request_of
from tests.support.targets import ScriptedAgent


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
host = AgentFrameworkHost(ScriptedAgent(), channels=[channel], state_dir=os.environ.get("STATE"))
