"""Functions of the app's author beside the host's."""

from __future__ import annotations

import pytest

from emulators.functions_worker import WorkerFailed

from .conftest import Echo, EchoStarter

pytestmark = pytest.mark.needs("functions-worker")


async def test_all_functions_are_indexed(echo: Echo) -> None:
    names = [function["name"] for function in echo.worker.functions]
    assert names[:4] == ["agent_host", "nightly", "work", "own"]


async def test_the_catch_all_lists_its_methods_and_fits_any_prefix(echo: Echo) -> None:
    trigger = echo.worker.functions[0]["bindings"][0]
    assert trigger["route"] == "{*route}"
    assert trigger["methods"] == ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"]
    assert trigger["authLevel"].lower() == "anonymous"


async def test_a_timer_keeps_its_folder(echo: Echo) -> None:
    await echo.worker.invoke("nightly", {"IsPastDue": True})
    await echo.journalled("nightly True echo")


async def test_a_queue_message_on_a_thread_with_an_output(echo: Echo) -> None:
    result = await echo.worker.invoke("work", "sums", {"Id": "1", "DequeueCount": "1"})
    assert result["outputs"] == {"out": {"string": "SUMS"}}
    assert "work sums" in echo.journal


async def test_an_http_function_goes_before_the_catch_all(echo: Echo) -> None:
    async with echo.client() as client:
        response = await client.post("/own/ada", content="hello")
    assert response.text == "ada: hello"


async def test_an_http_function_that_returns_something_else_is_told_so(streaming_echo: Echo) -> None:
    async with streaming_echo.client() as client:
        assert (await client.get("/odd")).status_code == 500
    assert "must return a starlette Response, not dict" in streaming_echo.worker.log


async def test_a_trigger_waits_for_the_start_up(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode, STARTUP_SECONDS="0.3") as echo:
        await echo.worker.invoke("nightly", {"IsPastDue": False})
        await echo.worker.invoke("work", "sums", {"Id": "1"})
        assert echo.journal[-4:] == ["starting", "started", "nightly False echo", "work sums"]


async def test_a_trigger_of_a_host_that_cannot_start_fails(start_echo: EchoStarter, mode: str) -> None:
    async with start_echo(mode, STARTUP_FAILURES="99") as echo:
        for name, data in (("nightly", {"IsPastDue": False}), ("work", "sums")):
            with pytest.raises(WorkerFailed, match="the blue database is away"):
                await echo.worker.invoke(name, data)
        assert "work sums" not in echo.journal
