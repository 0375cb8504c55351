"""Calls through the Functions worker library: our adapter against Microsoft's, with the same route.

`inside` is the worker's own part, without the stand-in for the Functions host; a web extension cannot be called that
way, since the host reaches it over HTTP.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx2

from emulators.functions_worker import FunctionsWorker

from .measure import Block, Ratio, interleave
from .table import Row, compared

APPS = Path(__file__).parent / "apps"
PATH = "/reply"
CALLS = 20
INSIDE_CALLS = 100
ROUNDS = 40


def measure(python: str) -> list[Row]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        try:
            blocks: dict[str, Block] = {}
            for name in ("buffered", "asgi", "streaming", "fastapi_extension"):
                worker = runner.run(stack.enter_async_context(worker_of(name, python)))
                client = runner.run(stack.enter_async_context(httpx2.AsyncClient(base_url=worker.url)))
                blocks[name] = calling(runner, client)
                if name in ("buffered", "asgi"):
                    blocks[f"{name} inside"] = calling_inside(runner, worker)
            samples = interleave(blocks, rounds=ROUNDS, warm_up=3)
        finally:
            runner.run(stack.aclose())
    asgi, fastapi = "AsgiFunctionApp", "the FastAPI extension"
    return [
        compared("Functions, buffered", Ratio.of(samples["buffered"], samples["asgi"]), to=asgi, target=1.2),
        compared(
            "the same inside the worker, without the host",
            Ratio.of(samples["buffered inside"], samples["asgi inside"]),
            to=asgi,
        ),
        compared(
            "Functions, one-shot through our extension",
            Ratio.of(samples["streaming"], samples["fastapi_extension"]),
            to=fastapi,
            target=1.0,
        ),
    ]


def worker_of(name: str, python: str) -> FunctionsWorker:
    """Make a worker for one of the apps."""
    return FunctionsWorker(APPS, env={"PYTHON_SCRIPT_FILE_NAME": f"{name}.py"}, python=python)


def calling(runner: asyncio.Runner, client: httpx2.AsyncClient) -> Block:
    async def block() -> float:
        seconds: list[float] = []
        for _ in range(CALLS):
            began = time.perf_counter()
            (await client.get(PATH)).raise_for_status()
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds)

    return lambda: runner.run(block())


def calling_inside(runner: asyncio.Runner, worker: FunctionsWorker) -> Block:
    function = worker.functions[0]["name"]
    return lambda: statistics.median(runner.run(worker.measure(function, PATH, INSIDE_CALLS)))
