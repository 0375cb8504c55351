"""How late a chunk of a hosted agent's stream reaches the caller, through the Functions worker."""

from __future__ import annotations

import asyncio
import time

import httpx2

from .functions_call import worker_of
from .measure import percentile
from .table import Row, bounded, reported

STREAMS = 3
CHUNKS = 200
PAUSE = 0.01


def measure(python: str) -> list[Row]:
    delays = asyncio.run(chunk_delays(python))
    return [
        bounded(f"SSE chunk delay, 99th percentile of {len(delays)}", percentile(delays, 0.99), bound=0.02),
        reported("the same, median", percentile(delays, 0.5)),
    ]


async def chunk_delays(python: str) -> list[float]:
    """Give the seconds from the making of each chunk, which is its text, to its arrival."""
    delays: list[float] = []
    body = {"message": f'{{"chunks": {CHUNKS}, "pause": {PAUSE}}}', "stream": True}
    async with worker_of("events", python) as worker, httpx2.AsyncClient(base_url=worker.url) as client:
        for _ in range(STREAMS):
            async with client.stream("POST", "/invocations", json=body) as response:
                response.raise_for_status()
                async for line in response.aiter_lines():
                    now = time.monotonic()
                    if line.startswith("event: "):
                        break
                    if line.startswith("data: "):
                        delays.append(now - float(line.removeprefix("data: ")))
    if len(delays) != STREAMS * CHUNKS:
        raise RuntimeError(f"{len(delays)} of {STREAMS * CHUNKS} chunks arrived.")
    return delays
