"""The handler on AWS's own runtime client: ends that only a process can show, and SnapStart."""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agent_framework_hosting import ConfigurationError
from agent_framework_hosting.deadline import DeadlineReached
from agent_framework_hosting_aws_lambda import LambdaHandler, NoResponse
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime_api import RuntimeApi
from tests.aws_lambda.conftest import Serve
from tests.aws_lambda.runtime.conftest import HOST, PATH, notes

TIME = 10.0
"""Seconds of an invocation, of which half a second is for the process to end: enough also on a busy machine."""
PING = {"af-hosting": "ping"}
FUNCTION = (
    HOST
    + """
import random
from agent_framework_hosting_aws_lambda import LambdaHandler

@asynccontextmanager
async def lifespan(app):
    note(f"start {random.random()}")
    if os.environ.get("BROKEN"):
        raise LookupError("no such table")
    yield
    note("stop")

async def swallow(*given):
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("swallowed")

random.seed(7)
handler = LambdaHandler(Host(Route("/swallow", swallow)), on_event=swallow)
note("imported")
"""
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(FUNCTION)
    return tmp_path


def stock(api: RuntimeApi, folder: Path, **env: str) -> RuntimeProcess:
    command = [sys.executable, "-m", "awslambdaric", "app.handler"]
    return RuntimeProcess(api, command, cwd=folder, env={**PATH, **env})


@pytest.mark.parametrize("event", [function_url(HttpRequest(path="/swallow")), {"own": 1}], ids=["request", "event"])
async def test_an_app_that_cannot_be_stopped_ends_the_process_in_time(event: object, folder: Path) -> None:
    async with RuntimeApi() as api, stock(api, folder) as process:
        call = api.invoke(event, timeout=TIME)
        answer = await call.answer()
        assert answer.error is not None and answer.error.type == "Runtime.ExitError"
        assert await process.ended() != 0
        assert "This environment ends: The app does not end" in process.logs()
        assert {"swallowed", "let go of conversations"} <= {*notes(folder)}
        # Lambda makes another environment, and would have ended this one later.
        assert call.started is not None and call.finished is not None and call.finished < call.started + TIME
        async with stock(api, folder):
            assert (await api.invoke(function_url(HttpRequest(path="/tell"))).answer()).status == 200


async def test_start_up_follows_each_restore_from_a_snapshot(folder: Path) -> None:
    async with (
        RuntimeApi(freeze_after_next=True) as api,
        stock(api, folder, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start") as process,
    ):
        await api.snapshot()
        assert process.frozen and notes(folder) == ["imported"]
        api.restore()
        assert (await api.invoke(function_url(HttpRequest(path="/tell"))).answer()).status == 200
        [imported, start] = notes(folder)
        # Every clone would go on with the same numbers.
        assert imported == "imported" and start.startswith("start ") and start != f"start {random.Random(7).random()}"


async def test_a_start_up_that_fails_after_a_restore_is_a_restore_error(folder: Path) -> None:
    async with (
        RuntimeApi() as api,
        stock(api, folder, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start", BROKEN="1") as process,
    ):
        await api.snapshot()
        api.restore()
        assert await process.ended() != 0
        assert api.restore_error is not None and api.restore_error.message == "no such table"


def context(seconds: float) -> Any:
    return SimpleNamespace(aws_request_id="1", get_remaining_time_in_millis=lambda: int(1000 * seconds))


def failing(serve: Serve, on_event: Any) -> LambdaHandler:
    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return serve(nothing, on_event=on_event)


def test_an_event_of_the_operators_own_has_its_time(serve: Serve) -> None:
    async def wait(event: object, context: Any) -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlineReached):
        failing(serve, wait)({"own": 1}, context(0.3))


def test_an_event_of_the_operators_own_that_cancels_itself_fails_its_invocation(serve: Serve) -> None:
    async def cancel(event: object, context: Any) -> None:
        raise asyncio.CancelledError

    handler = failing(serve, cancel)
    with pytest.raises(NoResponse, match="cancelled its own request"):
        handler({"own": 1}, context(30))
    assert handler(PING, context(30)) == {"ready": True}


def test_secrets_that_our_runtime_would_read_are_not_left_out_silently(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AF_HOSTING_SSM", "API_KEYS=/bot/keys")
    with pytest.raises(ConfigurationError, match="AWS_LAMBDA_EXEC_WRAPPER"):
        failing(serve, None)
