"""The handler on the real runtime, in AWS's own emulator."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emulators.lambda_events import HttpRequest, function_url, http_api, load_balancer, rest_api
from emulators.lambda_runtime import EmulatorFailed, EmulatorMissing, InvocationFailed, LambdaEmulator, wait_for

FUNCTION = """
import asyncio, os
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from agent_framework_hosting_aws_lambda import LambdaHandler

starts = 0

@asynccontextmanager
async def lifespan(app):
    global starts
    starts += 1
    if os.environ.get("BROKEN"):
        raise LookupError("no such table")
    yield

async def tell(request):
    return JSONResponse({
        "pid": os.getpid(), "starts": starts, "path": request.url.path, "body": (await request.body()).decode(),
        "request_id": request.scope["aws.context"].aws_request_id,
    })

async def binary(request):
    return Response(bytes(range(256)), media_type="application/octet-stream")

async def hang(request):
    Path("hanging").touch()
    await asyncio.sleep(60)
    return PlainTextResponse("late")

class Host:
    updates = None
    app = Starlette(lifespan=lifespan, routes=[
        Route("/tell", tell, methods=["POST"]), Route("/binary", binary), Route("/hang", hang)])
    def check_platform(self, platform, **how): ...

async def app(scope, receive, send):
    if scope["type"] == "http" and scope["path"] == "/raise":
        raise LookupError("lost")
    await Starlette.__call__(Host.app, scope, receive, send)

class Wrapped(Host):
    pass

Wrapped.app = staticmethod(app)
handler = LambdaHandler(Wrapped())
"""
TELL = HttpRequest("POST", "/tell", headers=[("content-type", "application/json")], body="é€".encode())


@pytest.fixture
def emulate(tmp_path: Path, lambda_emulator: Path) -> Callable[..., LambdaEmulator]:
    """Make an emulator of the function; for tests marked `needs("lambda-emulator")`."""
    (tmp_path / "function.py").write_text(FUNCTION)
    path = os.pathsep.join(filter(None, sys.path))

    def make(**env: str) -> LambdaEmulator:
        return LambdaEmulator("function.handler", binary=lambda_emulator, cwd=tmp_path, env={"PYTHONPATH": path, **env})

    return make


@pytest.mark.needs("lambda-emulator")
async def test_function(emulate: Callable[..., LambdaEmulator]) -> None:
    async with emulate() as function:
        told: list[str] = []
        for event in (function_url(TELL), http_api(TELL), rest_api(TELL, stage="prod"), load_balancer(TELL)):
            result = await function.invoke(event)
            assert result["statusCode"] == 200, function.logs()
            assert '"starts":1' in result["body"]
            assert "é€" in result["body"]
            told.append(result["body"].partition(",")[0])
        assert len(set(told)) == 1

        result = await function.invoke(function_url(HttpRequest(path="/binary")))
        assert result["isBase64Encoded"] is True

        with pytest.raises(InvocationFailed) as caught:
            await function.invoke(function_url(HttpRequest(path="/raise")))
        assert (caught.value.kind, caught.value.message) == ("LookupError", "lost")
        with pytest.raises(InvocationFailed) as caught:
            await function.invoke({"Records": [{"eventSource": "aws:sqs"}]})
        assert caught.value.kind == "UnsupportedEvent"

        assert (await function.invoke(function_url(TELL)))["statusCode"] == 200
        await function.restart()
        result = await function.invoke(function_url(TELL))
        assert result["body"].partition(",")[0] != told[0]


@pytest.mark.needs("lambda-emulator")
async def test_failed_start_up_is_an_init_error(emulate: Callable[..., LambdaEmulator]) -> None:
    async with emulate(BROKEN="1") as function:
        with pytest.raises(InvocationFailed) as caught:
            await function.invoke(function_url(TELL))
        assert (caught.value.kind, caught.value.message) == ("LookupError", "no such table")


@pytest.mark.needs("lambda-emulator")
async def test_kill_within_an_invocation(emulate: Callable[..., LambdaEmulator], tmp_path: Path) -> None:
    async with emulate() as function:
        call = asyncio.create_task(function.invoke(function_url(HttpRequest(path="/hang"))))
        await wait_for((tmp_path / "hanging").exists, "The function was not called.", timeout=20)
        await function.kill()
        with pytest.raises(EmulatorFailed):
            await call
        await function.start()
        assert (await function.invoke(function_url(TELL)))["statusCode"] == 200


async def test_missing_emulator_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EmulatorMissing, match="make tools"):
        async with LambdaEmulator("m.handler", cwd=tmp_path, binary=tmp_path / "none"):
            pass


async def test_an_emulator_that_ends_at_once_is_told_with_what_it_wrote(tmp_path: Path) -> None:
    binary = tmp_path / "emulator"
    binary.write_text("#!/bin/sh\necho no such option\nexit 2\n")
    binary.chmod(0o755)
    with pytest.raises(EmulatorFailed, match=r"(?s)does not come up.*no such option"):
        async with LambdaEmulator("m.handler", cwd=tmp_path, binary=binary):
            pass


async def test_a_wait_that_is_in_vain_is_an_error() -> None:
    with pytest.raises(TimeoutError, match="It never comes"):
        await wait_for(lambda: False, "It never comes.", timeout=0)
