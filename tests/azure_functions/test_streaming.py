"""What only the web extension gives: chunks as they are made, and callers that may leave."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from urllib.parse import urlsplit

import httpx2
import pytest

from .conftest import Echo, EchoStarter

pytestmark = pytest.mark.needs("functions-worker")


async def test_chunks_arrive_before_the_stream_ends(streaming_echo: Echo) -> None:
    async with streaming_echo.client() as client, client.stream("GET", "/events?count=4&pause=0.2") as response:
        assert response.headers["content-type"].startswith("text/event-stream")
        delays = [
            time.monotonic() - float(line.split()[2])
            async for line in response.aiter_lines()
            if line.startswith("data: ")
        ]
    assert len(delays) == 4
    # A buffered answer would bring the first one 0.6 s late.
    assert max(delays) < 0.15


async def test_streams_run_side_by_side(streaming_echo: Echo) -> None:
    async with streaming_echo.client() as client:
        began = time.monotonic()
        bodies = await asyncio.gather(*(client.get("/events?count=5&pause=0.1") for _ in range(40)))
        seconds = time.monotonic() - began
    assert all(body.text.count("data: ") == 5 for body in bodies)
    assert seconds < 40 * 0.5 / 4


async def test_a_caller_that_leaves_ends_the_stream(start_echo: EchoStarter) -> None:
    async with start_echo("streaming") as echo, echo.client() as client:
        async with client.stream("GET", "/events?count=1000&pause=0.05") as response:
            await anext(response.aiter_lines())
        await echo.journalled("cancelled")


async def test_the_workers_server_is_bound_to_loopback(streaming_echo: Echo) -> None:
    assert streaming_echo.worker.worker_url is not None
    server = urlsplit(streaming_echo.worker.worker_url)
    assert server.hostname == "127.0.0.1"
    assert server.port is not None
    with socket.socket() as other, pytest.raises(ConnectionRefusedError):
        other.connect(("127.0.0.2", server.port))


async def test_a_call_past_the_host_does_not_reach_the_app(streaming_echo: Echo) -> None:
    assert streaming_echo.worker.worker_url is not None
    async with httpx2.AsyncClient(base_url=streaming_echo.worker.worker_url) as client:
        response = await client.get("/docs")
        assert (response.status_code, response.text) == (403, "Only the Functions host calls this port.")
        twice = [("x-ms-invocation-id", str(uuid.uuid4())), ("x-ms-invocation-id", "2")]
        assert (await client.get("/docs", headers=twice)).status_code == 403


async def test_a_callers_own_invocation_id_is_replaced(streaming_echo: Echo) -> None:
    async with streaming_echo.client() as client:
        seen = (await client.get("/echo", headers={"x-ms-invocation-id": "mine"})).json()
    ids = [value for name, value in seen["headers"] if name == "x-ms-invocation-id"]
    assert ids == [seen["call"][2]] != ["mine"]


async def test_the_server_opens_while_the_host_still_starts(start_echo: EchoStarter) -> None:
    async with start_echo("streaming", STARTUP_SECONDS="3") as echo, echo.client() as client:
        # The Functions host gives a closed port up after about 2 s.
        assert (await client.get("/echo")).status_code == 200
