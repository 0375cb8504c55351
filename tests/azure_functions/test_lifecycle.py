"""Start-up and shutdown, in the worker's life."""

from __future__ import annotations

import asyncio
import signal

import pytest

from .conftest import EchoStarter, until

pytestmark = pytest.mark.needs("functions-worker")


async def test_the_host_starts_with_the_worker_before_any_call(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode) as echo:
        await echo.journalled("started")


async def test_concurrent_first_calls_start_the_host_once(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode, STARTUP_SECONDS="0.3") as echo, echo.client() as client:
        responses = await asyncio.gather(*(client.get("/echo") for _ in range(8)))
        assert [response.status_code for response in responses] == [200] * 8
        assert echo.journal[1:] == ["starting", "started"]


async def test_a_failed_start_up_names_its_cause_and_the_next_call_tries_again(
    start_echo: EchoStarter, mode: str
) -> None:
    async with start_echo(mode, STARTUP_FAILURES="2") as echo, echo.client() as client:
        await echo.journalled("starting")
        assert (await client.get("/echo")).status_code == 500
        assert "HostNotStarted" in echo.worker.failures[0]
        assert "LookupError: the blue database is away" in echo.worker.failures[0]
        assert "CRITICAL agent_framework.hosting.azure_functions" in echo.worker.log
        assert (await client.get("/echo")).status_code == 200
        assert echo.journal[-1] == "started"


async def test_sigterm_runs_the_shutdown(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode) as echo, echo.client() as client:
        assert (await client.get("/echo")).status_code == 200
        ended = await echo.worker.terminate()
        assert echo.journal[-1] == "stopped"
        assert ended.code == -signal.SIGTERM


async def test_sigterm_lets_a_running_call_end(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode) as echo, echo.client() as client:
        await echo.journalled("started")
        running = asyncio.create_task(client.get("/events?count=3&pause=0.3"))
        await until(lambda: "Function name: agent_host" in echo.worker.log)
        ending = asyncio.create_task(echo.worker.terminate())
        assert (await running).text.count("data: ") == 3
        await ending
        assert echo.journal[-1] == "stopped"


async def test_a_killed_worker_has_no_shutdown(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode) as echo, echo.client() as client:
        await echo.journalled("started")
        ended = await echo.worker.kill()
        assert ended.code == -signal.SIGKILL
        assert "stopped" not in echo.journal
        assert (await client.get("/echo")).status_code in (500, 502)
