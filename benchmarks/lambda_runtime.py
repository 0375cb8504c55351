"""Our runtime on Lambda: an event's way through it, a warm call, a stream's chunks, and its init."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mangum import Mangum

from agent_framework_hosting_aws_lambda import LambdaHandler
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime import LambdaEmulator
from emulators.lambda_runtime_api import RuntimeApi
from scripts.toolchain import lambda_emulator

from . import import_time
from .apps import web
from .lambda_call import bare_app, calling, event
from .measure import Ratio, interleave, percentile
from .table import Row, bounded, compared, reported

ROUNDS = 60
CALLS = 40
WARM_ROUNDS = 30
CHUNKS = 1_000
INITS = 20
SAMPLES = Path(__file__).parent.parent / "samples"

# What every such function imports: the agent, the web framework, and what the channels need themselves.
IMPORTS = """
from agent_framework import Agent
import starlette.applications, starlette.requests, starlette.responses, starlette.routing
import agent_framework_hosting_invocations, agent_framework_hosting_responses
"""
# Our runtime up to the moment in which it asks for the first invocation; nobody is there to answer.
INIT = """
import os, sys
from time import process_time
began = process_time()
os.environ["AWS_LAMBDA_RUNTIME_API"] = "127.0.0.1:9"
from agent_framework_hosting_aws_lambda.__main__ import main
from agent_framework_hosting_aws_lambda.runtime.api import RuntimeApi

async def asked(self):
    print(process_time() - began, flush=True)
    os._exit(0)

RuntimeApi.next = asked
main(["app.handler"])
"""
FUNCTION = """
from mangum import Mangum
from benchmarks.apps.web import Host, app
handler = Mangum(app, lifespan="off")
host = Host()
from agent_framework_hosting_aws_lambda import LambdaFunction
function = LambdaFunction(host)
"""
STREAMING = """
import asyncio, time
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Route
from agent_framework_hosting_aws_lambda import LambdaFunction
from benchmarks.apps import web

async def stream(request):
    async def chunks():
        for _ in range(int(request.query_params["chunks"])):
            yield f"data: {time.monotonic()}\\n\\n"
            await asyncio.sleep(0.002)
    return StreamingResponse(chunks(), media_type="text/event-stream")

class Host(web.Host):
    app = Starlette(routes=[Route("/stream", stream)])

function = LambdaFunction(Host(), streaming=["function_url"])
"""


def measure() -> list[Row]:
    return [*in_process_rows(), *asyncio.run(emulator_rows()), *asyncio.run(stream_rows()), *init_rows()]


def in_process_rows() -> list[Row]:
    """Time an event's way to a bare route and back, without any host."""
    context = SimpleNamespace(
        function_name="benchmark",
        aws_request_id="1",
        memory_limit_in_mb="512",
        get_remaining_time_in_millis=lambda: 30_000,
    )
    known = event({"message": "Where is it?", "session_id": "order-42"})

    class Host(web.Host):
        app = bare_app()

    ours = LambdaHandler(Host())
    try:
        samples = interleave(
            {
                "mangum": calling(Mangum(bare_app(), lifespan="off"), known, context),
                "ours": calling(ours, known, context),
            },
            rounds=ROUNDS,
        )
    finally:
        ours.close()
    ratio = Ratio.of(samples["ours"], samples["mangum"])
    return [compared("event to ASGI to result, in process", ratio, to="Mangum, lifespan off", target=1.0)]


async def emulator_rows() -> list[Row]:
    """Call the same app on both runtimes, in two emulators that take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "function.py").write_text(FUNCTION)
        ours = folder / "python"
        ours.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m agent_framework_hosting_aws_lambda "$3"\n')
        ours.chmod(0o755)
        env = {"PYTHONPATH": os.pathsep.join([str(SAMPLES.parent), *sys.path])}
        binary = lambda_emulator()
        async with (
            LambdaEmulator("function.handler", binary=binary, cwd=folder, env=env) as stock,
            LambdaEmulator("function.function", binary=binary, cwd=folder, env=env, python=str(ours)) as own,
        ):
            request = function_url(HttpRequest(path="/reply"))
            samples: dict[str, list[float]] = {"stock": [], "own": []}
            order = [("stock", stock), ("own", own)]
            for number in range(WARM_ROUNDS + 2):
                for runtime, function in order:
                    took = await warm_call(function, request)
                    if number >= 2:
                        samples[runtime].append(took)
                order.reverse()
    ratio = Ratio.of(samples["own"], samples["stock"])
    return [compared("warm call through the emulator, our runtime", ratio, to="awslambdaric and Mangum", target=1.1)]


async def warm_call(function: LambdaEmulator, request: dict[str, Any]) -> float:
    """Give the median of some calls' seconds."""
    took: list[float] = []
    for _ in range(CALLS):
        began = time.perf_counter()
        result = await function.invoke(request)
        took.append(time.perf_counter() - began)
        if result["statusCode"] != 200 or json.loads(result["body"]) != web.ANSWER:
            raise RuntimeError(f"The call was not answered as it should be: {result}")
    return percentile(took, 0.5)


async def stream_rows() -> list[Row]:
    """Take the time from the making of each chunk, which is its text, to its arrival at the Runtime API."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "function.py").write_text(STREAMING)
        env = {"PYTHONPATH": os.pathsep.join([str(SAMPLES.parent), *sys.path])}
        command = [sys.executable, "-m", "agent_framework_hosting_aws_lambda", "function:function"]
        async with RuntimeApi() as api, RuntimeProcess(api, command, cwd=folder, env=env):
            await api.ready()
            call = api.invoke(function_url(HttpRequest(path="/stream", query=f"chunks={CHUNKS}")), timeout=60)
            await call.answer(60)
            delays: list[float] = []
            for arrival, data in call.chunks:
                delays += [
                    arrival - float(line.removeprefix("data: "))
                    for line in data.decode().splitlines()
                    if line.startswith("data: ")
                ]
    if len(delays) != CHUNKS:
        raise RuntimeError(f"{len(delays)} of {CHUNKS} chunks arrived.")
    return [
        bounded(
            f"SSE chunk delay through our runtime, 99th percentile of {CHUNKS:,}", percentile(delays, 0.99), bound=0.02
        ),
        reported("the same, median", percentile(delays, 0.5)),
    ]


def init_rows() -> list[Row]:
    """Compare the CPU time of an init of the sample, with its offline client, with that of its imports alone."""
    os.environ |= {"API_KEYS": "benchmark=benchmark-key-0123456789", "SAMPLE_OFFLINE": "1"}
    path = os.pathsep.join([str(SAMPLES / "aws_lambda"), str(SAMPLES)])

    def init() -> float:
        said = import_time.python("-c", f"import sys; sys.path[:0] = {path.split(os.pathsep)!r}\n{INIT}").stdout
        return float(said.splitlines()[-1])

    samples = interleave({"imports": import_time.importing(IMPORTS), "init": init}, rounds=INITS)
    ratio = Ratio.of(samples["init"], samples["imports"])
    to = "imports of Agent, starlette, channels"
    return [compared("init of our runtime with the sample", ratio, to=to, target=1.1)]
