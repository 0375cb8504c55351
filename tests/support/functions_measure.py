"""Measures function apps on the real worker library: calls, streamed chunks, and calls inside the worker.

Variants run side by side and take turns, so that what else the machine does hits all of them alike. `SOURCES` serves
one JSON route four ways; other comparisons pass sources of their own.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2

from emulators.functions_worker import FunctionsWorker

HOST_JSON = {"version": "2.0", "extensions": {"http": {"routePrefix": ""}}}
PATH = "/reply"

STARLETTE = """
import asyncio, time
from starlette.applications import Starlette
from starlette.responses import JSONResponse, StreamingResponse
from starlette.routing import Route

async def reply(request):
    return JSONResponse({"response": "Hello there", "session_id": "1"})

async def events(request):
    count, pause = int(request.query_params["count"]), float(request.query_params["pause"])
    async def stream():
        for _ in range(count):
            yield f"data: {time.monotonic()}\\n\\n"
            await asyncio.sleep(pause)
    return StreamingResponse(stream(), media_type="text/event-stream")

web = Starlette(routes=[Route("/reply", reply), Route("/events", events)])

class Host:
    app = web
    def check_exposure(self, platform): ...
"""

OURS = "\nfrom agent_framework_hosting_azure_functions import HostFunctionApp\n"

SOURCES: Mapping[str, str] = {
    "extension": f"{STARLETTE}{OURS}app = HostFunctionApp(Host())\n",
    "fastapi extension": """
import azure.functions as func
from azurefunctions.extensions.http.fastapi import JSONResponse, Request

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

@app.route(route="reply", methods=[func.HttpMethod.GET])
async def reply(req: Request) -> JSONResponse:
    return JSONResponse({"response": "Hello there", "session_id": "1"})
""",
    "buffered": f'{STARLETTE}{OURS}app = HostFunctionApp(Host(), streaming=False, function_name="http_app_func")\n',
    "AsgiFunctionApp": f"""{STARLETTE}
import azure.functions as func
app = func.AsgiFunctionApp(web, http_auth_level=func.AuthLevel.ANONYMOUS)
""",
}


@dataclass(frozen=True)
class Figures:
    """Times in milliseconds."""

    p50: float
    p99: float
    count: int

    @classmethod
    def of(cls, seconds: list[float]) -> Figures:
        ordered = sorted(second * 1000 for second in seconds)
        return cls(statistics.median(ordered), ordered[int(len(ordered) * 0.99)], len(ordered))


@asynccontextmanager
async def worker_of(source: str, env: Mapping[str, str] | None = None) -> AsyncIterator[FunctionsWorker]:
    """Run a function app that is one file."""
    with function_folder(source) as folder:
        async with FunctionsWorker(folder, env=env) as worker:
            yield worker


@contextmanager
def function_folder(source: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "function_app.py").write_text(source)
        (folder / "host.json").write_text(json.dumps(HOST_JSON))
        yield folder


async def compare_calls(
    sources: Mapping[str, str], *, path: str = PATH, calls: int = 1000, block: int = 5
) -> dict[str, Figures]:
    """Time one-shot calls through host and worker, in blocks by turns, after one block of warm-up."""
    async with AsyncExitStack() as stack:
        clients: dict[str, httpx2.AsyncClient] = {}
        for name, source in sources.items():
            worker = await stack.enter_async_context(worker_of(source))
            clients[name] = await stack.enter_async_context(httpx2.AsyncClient(base_url=worker.url))
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for turn in range(calls // block + 1):
            for name, client in clients.items():
                for _ in range(block):
                    began = time.perf_counter()
                    (await client.get(path)).raise_for_status()
                    if turn:
                        seconds[name].append(time.perf_counter() - began)
        return {name: Figures.of(times) for name, times in seconds.items()}


async def compare_invocations(
    sources: Mapping[str, str],
    *,
    path: str = PATH,
    function: str = "http_app_func",
    calls: int = 2000,
    block: int = 200,
) -> dict[str, Figures]:
    """Time calls inside the worker library, by turns; for apps without a web extension."""
    async with AsyncExitStack() as stack:
        workers = {name: await stack.enter_async_context(worker_of(source)) for name, source in sources.items()}
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for turn in range(calls // block + 1):
            for name, worker in workers.items():
                times = await worker.measure(function, path, block)
                if turn:
                    seconds[name] += times
        return {name: Figures.of(times) for name, times in seconds.items()}


async def chunk_delays(source: str, *, path: str = "/events", chunks: int = 200, pause: float = 0.01) -> Figures:
    """Time from sending a chunk in the app to receiving it; each chunk holds the monotonic time of its sending."""
    delays: list[float] = []
    params = {"count": chunks, "pause": pause}
    async with (
        worker_of(source) as worker,
        httpx2.AsyncClient(base_url=worker.url) as client,
        client.stream("GET", path, params=params) as response,
    ):
        async for line in response.aiter_lines():
            now = time.monotonic()
            if line.startswith("data: "):
                delays.append(now - float(line.removeprefix("data: ")))
    return Figures.of(delays)
