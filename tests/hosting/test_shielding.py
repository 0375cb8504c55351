"""Work that goes on although its caller is cancelled, for a bounded time."""

from __future__ import annotations

import asyncio
import logging

import anyio
import pytest

from agent_framework_hosting.shielding import shielded


async def cancelled(task: asyncio.Task[object], times: int = 1) -> None:
    for _ in range(times):
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_result_and_the_error_of_undisturbed_work_are_its_callers() -> None:
    async def work(error: Exception | None) -> str:
        await asyncio.sleep(0)
        if error is not None:
            raise error
        return "done"

    assert await shielded(work(None), grace=1) == "done"
    with pytest.raises(LookupError):
        await shielded(work(LookupError()))


@pytest.mark.parametrize("grace", [None, 10.0])
async def test_work_is_finished_however_often_its_caller_is_cancelled(grace: float | None) -> None:
    done: list[str] = []

    async def work() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
        done.append("done")

    await cancelled(asyncio.create_task(shielded(work(), grace=grace)), times=5)
    assert done == ["done"]


async def test_what_fails_unheard_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def work() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        raise LookupError("lost")

    await cancelled(asyncio.create_task(shielded(work())))
    assert "lost" in caplog.text


async def test_work_that_does_not_end_is_given_up_after_its_grace(caplog: pytest.LogCaptureFixture) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    with caplog.at_level(logging.WARNING):
        async with asyncio.timeout(10):
            await cancelled(asyncio.create_task(shielded(work(), grace=0.01)), times=2)
    assert ended == ["cancelled"]
    assert "given up" in caplog.text


async def test_work_that_cancels_itself_is_cancelled() -> None:
    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await shielded(work())


async def test_a_scope_that_cancels_again_and_again_does_not_keep_it_from_ending() -> None:
    async def work() -> None:
        await asyncio.Event().wait()

    async with asyncio.timeout(10):
        with anyio.move_on_after(0.01):
            await shielded(work(), grace=0.05)
