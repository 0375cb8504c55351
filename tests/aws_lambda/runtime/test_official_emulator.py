"""Our runtime in AWS's own emulator: framing, limits, time-outs and errors are real there."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from emulators.lambda_events import HttpRequest, function_url, http_api, load_balancer, rest_api
from emulators.lambda_runtime import EmulatorFailed, InvocationFailed, LambdaEmulator, members, post

from .conftest import HOST, MODULE, PATH, noted, notes

pytestmark = pytest.mark.needs("lambda-emulator")

APP = (
    HOST
    + """
from starlette.responses import Response
if os.environ.get("BROKEN"):
    raise LookupError("no such table")

async def binary(request):
    return Response(bytes(range(256)), media_type="application/octet-stream")
async def big(request):
    return PlainTextResponse("x" * 7_000_000)
async def hang(request):
    note("hangs")
    await asyncio.Event().wait()
async def stuck(request):
    note("is stuck")
    import time
    time.sleep(60)  # Blocks the loop: only Lambda itself can end that.
async def stream(request):
    async def parts():
        yield "é"
        yield "€"
        if "fail" in request.query_params:
            raise LookupError("long " * 100_000)
    response = StreamingResponse(parts(), 201)
    response.set_cookie("a", "1")
    return response

app = Host(*(Route(f"/{one.__name__}", one) for one in (binary, big, hang, stuck, stream)))
inner = app.app

async def outer(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/raise":
        raise OSError("lost")
    await inner(scope, receive, send)

app.app = outer
host = LambdaFunction(
    app, streaming=os.environ.get("STREAM", "").split(), on_event=lambda event, context: "x" * event["size"])
"""
)
Emulate = Callable[..., LambdaEmulator]


@pytest.fixture
def emulate(tmp_path: Path, lambda_emulator: Path) -> Emulate:
    (tmp_path / "app.py").write_text(APP)

    def make(timeout: int = 30, **env: str) -> LambdaEmulator:
        command = (sys.executable, "-m", MODULE)
        options: dict[str, Any] = {"cwd": tmp_path, "env": {**PATH, **env}, "timeout": timeout, "command": command}
        return LambdaEmulator("app:host", binary=lambda_emulator, **options)

    return make


def get(path: str, query: str = "") -> Any:
    return function_url(HttpRequest(path=path, query=query))


async def test_a_function(emulate: Emulate, tmp_path: Path) -> None:
    async with emulate(timeout=2) as function:
        pids: set[int] = set()
        for make in (function_url, http_api, rest_api, load_balancer):
            result = await function.invoke(make(HttpRequest(path="/é%20x")))
            assert result["statusCode"] == 200, function.logs()
            pids.add(json.loads(result["body"])["pid"])
        assert len(pids) == 1 and notes(tmp_path) == ["start"]
        assert (await function.invoke(get("/binary")))["isBase64Encoded"] is True

        with pytest.raises(InvocationFailed) as caught:
            await function.invoke(get("/raise"))
        assert (caught.value.kind, caught.value.message) == ("OSError", "lost")
        with pytest.raises(InvocationFailed) as caught:
            await function.invoke({"message": "a"})
        assert caught.value.kind == "ConfigurationError"

        # 6 MB are the emulator's limit as well, and ours is not above it.
        big = await function.invoke(get("/big"))
        assert (big["statusCode"], json.loads(big["body"])["error"]["code"]) == (500, "response_too_large")
        assert len(await function.invoke({"size": 6 * 2**20 - 2})) == 6 * 2**20 - 2
        with pytest.raises(InvocationFailed, match="at most 6 MB"):
            await function.invoke({"size": 6 * 2**20})

        # In time, and by the process that goes on serving.
        late = await function.invoke(get("/hang"))
        assert (late["statusCode"], json.loads(late["body"])["error"]["code"]) == (504, "deadline_reached")
        assert json.loads((await function.invoke(get("/x")))["body"])["pid"] in pids
        assert notes(tmp_path) == ["start", "hangs"]

        # What blocks the loop is ended by the platform.
        with pytest.raises(InvocationFailed, match="timed out after 2"):
            await function.invoke(get("/stuck"))


async def test_streams_as_the_emulator_delivers_them(emulate: Emulate) -> None:
    """Whole, with the prelude before them and the trailers lost: so far their framing can be seen there."""
    async with emulate(STREAM="function_url") as function:
        for query in ("", "fail"):
            payload = json.dumps(get("/stream", query)).encode()
            status, whole = await asyncio.to_thread(post, function.port, payload, 20)
            start, nuls, body = whole.partition(bytes(8))
            prelude = members(json.loads(start))
            assert (status, nuls, body.decode()) == (200, bytes(8), "é€"), function.logs()
            assert prelude["statusCode"] == 201 and prelude["cookies"][0].startswith("a=1")
        assert (await function.invoke(load_balancer(HttpRequest(path="/x"))))["statusCode"] == 200


async def test_a_failed_start_is_an_init_error(emulate: Emulate) -> None:
    async with emulate(BROKEN="1") as function:
        with pytest.raises(InvocationFailed) as caught:
            await function.invoke(get("/x"))
        assert (caught.value.kind, caught.value.message) == ("LookupError", "no such table")


async def test_a_kill_within_an_invocation(emulate: Emulate, tmp_path: Path) -> None:
    async with emulate() as function:
        call = asyncio.create_task(function.invoke(get("/hang")))
        await noted(tmp_path, "hangs")
        await function.kill()
        with pytest.raises(EmulatorFailed):
            await call
        await function.start()
        assert (await function.invoke(get("/x")))["statusCode"] == 200
