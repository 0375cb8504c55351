"""Our runtime against the tests' Runtime API: within the test's own loop, or in a process as on Lambda."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.types import ASGIApp

from agent_framework_hosting_aws_lambda import LambdaFunction
from agent_framework_hosting_aws_lambda.runtime.loop import Runtime
from emulators.lambda_environment import Environment
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_routes import Routes
from emulators.lambda_runtime import wait_for
from emulators.lambda_runtime_api import RuntimeApi
from tests.aws_lambda.conftest import StubHost

MODULE = "agent_framework_hosting_aws_lambda"
PATH = {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
STREAMS = ("function_url", "rest_api")

HOST = '''
"""A host without an agent, which costs less to start. It tells in `notes` what happens to it."""
import asyncio, os, sys
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from agent_framework_hosting_aws_lambda import LambdaFunction

def note(what):
    with open("notes", "a") as notes:
        notes.write(what + "\\n")

@asynccontextmanager
async def lifespan(app):
    note("start")
    yield
    note("stop")

async def tell(request):
    return JSONResponse({"pid": os.getpid(), "path": request.url.path, "cwd": os.getcwd(), "argv": sys.argv})

class Host:
    updates = None
    def __init__(self, *routes):
        self.app = Starlette(routes=[*routes, Route("/{rest:path}", tell)], lifespan=lifespan)
    def check_platform(self, where, *, within): ...
    def path_of(self, channel): return None
    async def let_go(self): note("let go of conversations")

host = LambdaFunction(Host())
'''


@pytest.fixture(autouse=True)
def no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a runtime in this process sets is not to stay."""
    monkeypatch.setenv("_X_AMZN_TRACE_ID", "")


class Running:
    """A runtime in the test's loop, in an environment of its own; `over` is its end, with its exit code."""

    def __init__(self, api: RuntimeApi, environment: Environment, runtime: Runtime) -> None:
        self.api = api
        self.environment = environment
        self.runtime = runtime
        self.invoke = api.invoke
        self.over = asyncio.create_task(runtime.run())


@asynccontextmanager
async def running(
    load: Callable[[], LambdaFunction], *, snap_start: bool = False, **options: Any
) -> AsyncIterator[Running]:
    """Run what `load` gives, and end it as SIGTERM does. `options` are those of `RuntimeApi`."""
    async with RuntimeApi(**options) as api:
        environment = Environment(api.desk, lambda environment: Routes(environment).serve, snap_start=snap_start)
        await environment.open()
        it = Running(api, environment, Runtime(load, environment.address))
        await asyncio.sleep(0)  # It runs.
        try:
            yield it
        finally:
            it.runtime.terminate()
            await asyncio.wait({it.over})
        it.over.result()


def serving(app: ASGIApp, **options: Any) -> AbstractAsyncContextManager[Running]:
    """As `running`, for an app: `streaming`, `on_event` and the like are its function's."""
    named = {name: options.pop(name) for name in ("base_path", "exclude_headers", "on_event") if name in options}
    streaming = options.pop("streaming", ())
    return running(lambda: LambdaFunction(StubHost(app), streaming=streaming, **named), **options)


def process_of(api: RuntimeApi, folder: Path, name: str = "app:host", **env: str) -> RuntimeProcess:
    """A process that runs what is named of the modules in `folder`, as a container's command does."""
    return RuntimeProcess(api, [sys.executable, "-m", MODULE, name], cwd=folder, env={**PATH, **env})


def notes(folder: Path) -> list[str]:
    """What the host in `folder` has told."""
    file = folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


async def noted(folder: Path, what: str, times: int = 1) -> None:
    """Wait until the host in `folder` has told something so many times."""
    await wait_for(lambda: notes(folder).count(what) >= times, f"Nobody tells {what!r}.", timeout=20)
