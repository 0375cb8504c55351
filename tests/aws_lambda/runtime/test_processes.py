"""Managed instances: several processes behind one Runtime API, which begin and end together."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from agent_framework_hosting_aws_lambda.runtime.processes import wanted
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_runtime import wait_for
from emulators.lambda_runtime_api import RuntimeApi

from .conftest import HOST, MODULE, PATH, noted, notes, process_of

WAITING = (
    HOST
    + """
async def wait(request):
    note(f"waits {os.getpid()}")
    await asyncio.Event().wait()
async def end(request):
    os._exit(7)
host = LambdaFunction(Host(Route("/wait", wait), Route("/end", end)))
"""
)
TWO, THREE = ({"AWS_LAMBDA_MAX_CONCURRENCY": count} for count in "23")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(WAITING)
    return tmp_path


def event(path: str) -> object:
    return function_url(HttpRequest(path=path))


async def gone(pid: int) -> None:
    await wait_for(lambda: not Path(f"/proc/{pid}").exists(), f"{pid} has not ended.", timeout=10)


async def test_three_invocations_at_once_each_in_a_process_and_one_end_is_the_end_of_all(folder: Path) -> None:
    async with RuntimeApi() as api, process_of(api, folder, **THREE) as process:
        await api.ready(3)
        # Each has a host of its own.
        assert notes(folder) == ["start"] * 3
        calls = [api.invoke(event("/wait")) for _ in range(2)]
        await wait_for(lambda: len(notes(folder)) == 5, "They are not at it.", timeout=10)
        # Two are busy, and the third one serves.
        third = (await api.invoke(event("/x")).answer()).json
        pids = {int(note.removeprefix("waits ")) for note in notes(folder)[3:]}
        assert len(pids) == 2 and not any(call.finished for call in calls)
        pids.add(json.loads(third["body"])["pid"])
        assert len(pids) == 3 and process.pid not in pids
        api.invoke(event("/end"))
        assert await process.ended() == 7
        for pid in pids:
            await gone(pid)


async def test_sigterm_reaches_all(folder: Path) -> None:
    async with RuntimeApi() as api, process_of(api, folder, **TWO) as process:
        await api.ready(2)
        os.kill(process.pid, signal.SIGTERM)
        assert await process.ended() == 0
        assert notes(folder) == ["start"] * 2 + ["stop"] * 2


async def test_one_that_fails_to_start_is_told_and_the_end_of_all(folder: Path) -> None:
    (folder / "app.py").write_text("raise LookupError('no such table')")
    async with RuntimeApi() as api, process_of(api, folder, **TWO) as process:
        assert await process.ended() == 1
        assert api.init_error is not None and api.init_error.message == "no such table"


async def test_processes_end_with_their_parent_however_that_ends(folder: Path) -> None:
    async with RuntimeApi() as api:
        env = {**os.environ, **PATH, **TWO, "AWS_LAMBDA_RUNTIME_API": api.address}
        command = [sys.executable, "-m", MODULE, "app:host"]
        parent = await asyncio.create_subprocess_exec(*command, cwd=folder, env=env, start_new_session=True)
        try:
            await api.ready(2)
            parent.kill()
            await parent.wait()
            await api.desk.bell.until(lambda: api.polls == 0, "They outlive their parent.", 10)
            await noted(folder, "stop", 2)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(parent.pid, signal.SIGKILL)


@pytest.mark.parametrize("count", ["1", "", "0", "many", "-3"])
def test_otherwise_it_is_one_process(count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_MAX_CONCURRENCY", count)
    assert wanted() == 1
