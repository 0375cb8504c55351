"""One start-up for all callers, without a worker."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from starlette.applications import Starlette

from agent_framework_hosting_azure_functions import HostNotStarted
from agent_framework_hosting_azure_functions.startup import Startup


def app_with(*, fails: int = 0, hangs: bool = False, breaks: bool = False) -> tuple[Starlette, list[str]]:
    events: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        events.append("starting")
        await asyncio.sleep(0)
        if events.count("starting") <= fails:
            raise LookupError("no database")
        yield
        if hangs:
            await asyncio.Event().wait()
        if breaks:
            raise LookupError("no goodbye")
        events.append("stopped")

    return Starlette(lifespan=lifespan), events


async def test_concurrent_callers_share_one_start_up() -> None:
    app, events = app_with()
    startup = Startup(app)
    startup.begin()
    await asyncio.gather(*(startup.ready() for _ in range(10)))
    await startup.stop()
    assert events == ["starting", "stopped"]


async def test_concurrent_callers_share_one_failure_and_the_next_tries_again() -> None:
    app, events = app_with(fails=1)
    startup = Startup(app)
    outcomes = await asyncio.gather(*(startup.ready() for _ in range(10)), return_exceptions=True)
    assert {str(outcome) for outcome in outcomes} == {
        "The host could not start, and the next call will try again: LookupError: no database"
    }
    assert all(isinstance(outcome, HostNotStarted) for outcome in outcomes)
    await startup.ready()
    await startup.stop()
    assert events == ["starting", "starting", "stopped"]


async def test_a_start_up_that_nobody_waits_for_logs_its_failure(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = app_with(fails=1)
    startup = Startup(app)
    with caplog.at_level(logging.CRITICAL):
        startup.begin()
        async with asyncio.timeout(5):
            while not caplog.records:  # noqa: ASYNC110 - a log record sets no event
                await asyncio.sleep(0)
    assert "LookupError: no database" in caplog.text


async def test_a_shutdown_that_hangs_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    app, events = app_with(hangs=True)
    startup = Startup(app, stop_seconds=0.05)
    await startup.ready()
    await startup.stop()
    assert "given up" in caplog.text
    assert "stopped" not in events


async def test_a_shutdown_that_fails_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    app, _ = app_with(breaks=True)
    startup = Startup(app)
    await startup.ready()
    await startup.stop()
    assert "no goodbye" in caplog.text


async def test_stopping_what_never_started_is_nothing() -> None:
    app, events = app_with()
    await Startup(app).stop()
    assert events == []
