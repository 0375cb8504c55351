"""Start-up once, one loop, one process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

from agent_framework_hosting.errors import ConfigurationError
from agent_framework_hosting_aws_lambda import LambdaHandler
from emulators.lambda_events import HttpRequest, function_url

from .conftest import StubHost

EVENT = function_url(HttpRequest())


class Recorded:
    """An app that notes its start-up, its shutdown and the loops it runs on."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.loops: set[asyncio.AbstractEventLoop] = set()
        self.app = Starlette(routes=[Route("/", self.serve)], lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        self.notes.append("start")
        self.loops.add(asyncio.get_running_loop())
        yield {"shared": self.notes}
        self.notes.append("stop")

    async def serve(self, request: Request) -> PlainTextResponse:
        self.loops.add(asyncio.get_running_loop())
        request.state.shared.append("request")
        request.state.own = "gone with the request"
        return PlainTextResponse("ok")


def test_start_up_runs_once_and_before_the_first_invocation(serve: Any) -> None:
    recorded = Recorded()
    handler = serve(recorded.app)
    assert recorded.notes == ["start"]
    for _ in range(3):
        handler(EVENT, None)
    assert recorded.notes == ["start", "request", "request", "request"]
    assert len(recorded.loops) == 1


def test_exposure_is_checked_before_the_app_is_built() -> None:
    class OpenHost(StubHost):
        def __init__(self) -> None: ...

        @property
        def app(self) -> Starlette:  # pyright: ignore[reportIncompatibleVariableOverride]
            raise AssertionError("built")

        def check_platform(self, where: str, *, within: str) -> None:
            raise ConfigurationError(f"not on {where}")

    with pytest.raises(ConfigurationError, match="not on AWS Lambda"):
        LambdaHandler(OpenHost())


def test_failed_start_up_surfaces() -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise LookupError("no such table")
        yield

    with pytest.raises(LookupError, match="no such table"):
        LambdaHandler(StubHost(Starlette(lifespan=lifespan)))


def test_other_event_loops_do_not_disturb(serve: Any) -> None:
    recorded = Recorded()
    handler = serve(recorded.app)

    async def other() -> None: ...

    asyncio.run(other())
    assert handler(EVENT, None)["statusCode"] == 200
    asyncio.set_event_loop(None)
    assert handler(EVENT, None)["statusCode"] == 200
    assert len(recorded.loops) == 1


def test_objects_bound_to_the_loop_work_in_later_invocations(serve: Any) -> None:
    made: list[asyncio.Queue[int]] = []

    async def count(request: Request) -> JSONResponse:
        if not made:
            made.append(asyncio.Queue())
            waiting = asyncio.create_task(made[0].get())
            await made[0].put(0)
            await waiting
        async with asyncio.timeout(5):
            put = asyncio.create_task(made[0].put(1))
            got = await made[0].get()
            await put
        return JSONResponse(got)

    handler = serve(Starlette(routes=[Route("/", count)]))
    assert [handler(EVENT, None)["body"] for _ in range(3)] == ["1", "1", "1"]


def test_task_left_behind_goes_on_in_the_next_invocation(serve: Any) -> None:
    """What the documentation warns of; it must not break the next caller."""
    steps: list[str] = []

    async def linger() -> None:
        for number in range(3):
            steps.append(f"step {number}")
            await asyncio.sleep(0)

    tasks: list[asyncio.Task[None]] = []

    async def leave(request: Request) -> PlainTextResponse:
        tasks.append(asyncio.create_task(linger()))
        return PlainTextResponse("left")

    async def wait(request: Request) -> PlainTextResponse:
        await asyncio.wait(tasks)
        return PlainTextResponse("waited")

    handler = serve(Starlette(routes=[Route("/leave", leave), Route("/wait", wait)]))
    handler(function_url(HttpRequest(path="/leave")), None)
    assert len(steps) < 3
    handler(function_url(HttpRequest(path="/wait")), None)
    assert len(steps) == 3


async def test_use_within_an_event_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="module level"):
        LambdaHandler(StubHost(Recorded().app))


def test_invocations_do_not_overlap(serve: Any) -> None:
    handlers: list[LambdaHandler] = []
    entered, leave = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            with pytest.raises(RuntimeError, match="one invocation at a time"):
                handlers[0](EVENT, None)  # type: ignore[arg-type]
            entered.set()
            await asyncio.to_thread(leave.wait, 10)
            await PlainTextResponse("ok")(scope, receive, send)

    handlers.append(serve(app))
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(handlers[0](EVENT, None)))  # type: ignore[arg-type]
    thread.start()
    assert entered.wait(10)
    with pytest.raises(RuntimeError, match="one invocation at a time"):
        handlers[0](EVENT, None)  # type: ignore[arg-type]
    leave.set()
    thread.join(10)
    assert results[0]["body"] == "ok"


def test_close_runs_shutdown() -> None:
    recorded = Recorded()
    handler = LambdaHandler(StubHost(recorded.app))
    handler(EVENT, None)  # type: ignore[arg-type]
    handler.close()
    assert recorded.notes[-1] == "stop"


SCRIPT = """
import os, signal, sys
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from agent_framework_hosting_aws_lambda import LambdaHandler
from emulators.lambda_events import HttpRequest, function_url

@asynccontextmanager
async def lifespan(app):
    print("start", flush=True)
    yield
    print("stop", flush=True)

class Host:
    app, updates = Starlette(lifespan=lifespan), None
    def check_platform(self, platform, **how): ...

handler = LambdaHandler(Host())
"""


def run(script: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    command = [sys.executable, "-W", "error", "-c", SCRIPT + script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_sigterm_runs_shutdown_and_still_ends_the_process() -> None:
    ended = run("os.kill(os.getpid(), signal.SIGTERM)\nprint('survived')")
    assert ended.stdout.split() == ["start", "stop"]
    assert ended.returncode == -signal.SIGTERM
    assert ended.stderr == ""


def test_sigterm_of_somebody_else_is_left_alone() -> None:
    ended = run(
        "handler.close()\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('theirs', flush=True))\n"
        "LambdaHandler(Host())\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
    )
    assert ended.stdout.split() == ["start", "stop", "start", "theirs", "stop"]
    assert ended.stderr == ""


def test_end_of_the_interpreter_runs_shutdown() -> None:
    ended = run("")
    assert (ended.stdout.split(), ended.stderr, ended.returncode) == (["start", "stop"], "", 0)


def test_fork_is_refused_by_name() -> None:
    ended = run(
        "if os.fork() == 0:\n"
        "    try:\n"
        "        handler(function_url(HttpRequest()), None)\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error, flush=True)\n"
        "    os._exit(0)\n"
        "os.wait()\n"
    )
    assert "ConfigurationError LambdaHandler was made before this process was forked" in ended.stdout
    assert ended.stdout.count("stop") == 1


def test_import_loads_nothing_heavy() -> None:
    script = (
        "import gc, sys, msgspec, starlette.requests\n"
        "import agent_framework_hosting.exchange, agent_framework_hosting.keys, agent_framework_hosting.lifespan\n"
        "import agent_framework_hosting.auth, agent_framework_hosting.problems\n"
        "import agent_framework_hosting.requests\n"
        "before = set(sys.modules)\n"
        "import agent_framework_hosting_aws_lambda\n"
        "ours = 'agent_framework_hosting_aws_lambda'\n"
        "print(*(name for name in set(sys.modules) - before if not name.startswith(ours)))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert ended.stdout.split() == []


def test_something_else_than_a_host_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="takes an AgentFrameworkHost, not object"):
        LambdaHandler(object())  # pyright: ignore[reportArgumentType]
