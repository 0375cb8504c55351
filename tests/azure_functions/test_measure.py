"""Calls inside the worker, without the host before it: what the benchmarks time."""

from __future__ import annotations

import pytest

from emulators.functions_worker import WorkerFailed

from .conftest import EchoStarter

pytestmark = pytest.mark.needs("functions-worker")


async def test_each_call_is_timed(start_echo: EchoStarter) -> None:
    async with start_echo("buffered") as echo:
        seconds = await echo.worker.measure("agent_host", "/docs", 3)
    assert len(seconds) == 3 and min(seconds) > 0


async def test_a_call_that_fails_is_no_figure(start_echo: EchoStarter) -> None:
    async with start_echo("buffered", STARTUP_FAILURES="99") as echo:
        with pytest.raises(WorkerFailed, match="the blue database is away"):
            await echo.worker.measure("agent_host", "/docs", 3)
