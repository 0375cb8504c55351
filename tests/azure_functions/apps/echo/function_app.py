"""A function app for the contract tests: a host that is only a Starlette app, and triggers beside it.

Settings: JOURNAL (a file that gets one line per event), STREAMING, AUTH_LEVEL, STARTUP_SECONDS, STARTUP_FAILURES (how
many start-ups fail), SHUTDOWN_SECONDS.
"""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import azure.functions as func
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from agent_framework_hosting_azure_functions import (
    HostFunctionApp,
    current_call,
    easy_auth_identity,
    function_key_identity,
)

JOURNAL = Path(os.environ["JOURNAL"])
STREAMING = os.environ.get("STREAMING", "1") == "1"


def note(event: str) -> None:
    with JOURNAL.open("a") as journal:
        journal.write(f"{event}\n")


def noted() -> str:
    return JOURNAL.read_text() if JOURNAL.exists() else ""


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, str]]:
    attempt = noted().count("starting\n")
    note("starting")
    await asyncio.sleep(float(os.environ.get("STARTUP_SECONDS", "0")))
    if attempt < int(os.environ.get("STARTUP_FAILURES", "0")):
        raise LookupError("the blue database is away")
    note("started")
    yield {"colour": "green"}
    await asyncio.sleep(float(os.environ.get("SHUTDOWN_SECONDS", "0")))
    note("stopped")


async def echo(request: Request) -> Response:
    call = current_call(request.scope)
    return JSONResponse(
        {
            "method": request.method,
            "path": request.url.path,
            "raw_path": request.scope["raw_path"].decode(),
            "root_path": request.scope["root_path"],
            "query": request.url.query,
            "scheme": request.url.scheme,
            "client": request.scope["client"],
            "parameters": request.path_params,
            "headers": [[name.decode(), value.decode()] for name, value in request.headers.raw],
            "state": request.state.colour,
            "call": None if call is None else [call.auth_level.value, call.function_name, call.invocation_id],
        }
    )


async def digest(request: Request) -> Response:
    body = await request.body()
    return JSONResponse({"length": len(body), "sha256": hashlib.sha256(body).hexdigest()})


async def events(request: Request) -> Response:
    count, pause = int(request.query_params["count"]), float(request.query_params["pause"])

    async def stream() -> AsyncIterator[str]:
        try:
            for number in range(count):
                yield f"data: {number} {time.monotonic()}\n\n"
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            note("cancelled")
            raise

    return StreamingResponse(stream(), media_type="text/event-stream")


async def cookies(request: Request) -> Response:
    response = PlainTextResponse("crumbs")
    response.set_cookie("one", "1", max_age=60, httponly=True, secure=True, samesite="lax")
    response.set_cookie("two", "2", path="/two")
    response.headers.append("x-many", "a")
    response.headers.append("x-many", "b")
    return response


async def whole(request: Request) -> Response:
    return Response(b"0123456789abcdef" * 2**16 * 5, media_type="application/octet-stream")


async def boom(request: Request) -> Response:
    raise RuntimeError("boom in the app")


async def ours(request: Request) -> Response:
    return PlainTextResponse("ours")


async def who(request: Request) -> Response:
    found = {"easy_auth": easy_auth_identity(request), "function_key": function_key_identity(request)}
    return JSONResponse({kind: None if caller is None else caller.native_id for kind, caller in found.items()})


class Bare:
    """An ASGI endpoint that leaves out what the specification makes optional."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})


class Silent:
    """An ASGI endpoint that never answers."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...


class EchoHost:
    def __init__(self) -> None:
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
        routes = [
            Route("/echo", echo, methods=methods),
            Route("/echo/{rest:path}", echo, methods=methods),
            Route("/digest", digest, methods=["POST"]),
            Route("/events", events),
            Route("/cookies", cookies),
            Route("/whole", whole),
            Route("/boom", boom),
            Route("/docs", ours),
            Route("/openapi.json", ours),
            Route("/who", who),
            Route("/bare", Bare()),
            Route("/silent", Silent()),
            Route("/", ours),
        ]
        self.app = Starlette(routes=routes, lifespan=lifespan)

    def check_platform(self, platform: str) -> None:
        note(f"checked for {platform}")


app = HostFunctionApp(EchoHost(), auth_level=os.environ.get("AUTH_LEVEL", "anonymous"), streaming=STREAMING)


@app.timer_trigger(arg_name="timer", schedule="0 0 3 * * *")
async def nightly(timer: func.TimerRequest, context: func.Context) -> None:
    note(f"nightly {timer.past_due} {Path(context.function_directory).name}")


@app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
@app.queue_output(arg_name="out", queue_name="done", connection="AzureWebJobsStorage")
def work(message: func.QueueMessage, out: func.Out[str]) -> None:
    note(f"work {message.get_body().decode()}")
    out.set(message.get_body().decode().upper())


if STREAMING:

    @app.route(route="own/{name}", methods=["POST"])
    async def own(req: Request) -> Response:
        return PlainTextResponse(f"{req.path_params['name']}: {(await req.body()).decode()}")

    @app.route(route="odd")
    async def odd(req: Request):
        return {"not": "a response"}
else:

    @app.route(route="own/{name}", methods=["POST"])
    async def own(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(f"{req.route_params['name']}: {req.get_body().decode()}")
