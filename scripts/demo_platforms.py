"""The sample on each platform, as one process that can be called and killed."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from base64 import b64decode
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import httpx2
import msgspec

from emulators.functions_worker import FunctionsWorker
from emulators.lambda_calls import Invocation
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime import LambdaEmulator
from emulators.lambda_runtime_api import RuntimeApi
from scripts.toolchain import LAMBDA_EMULATOR
from scripts.workspace import ROOT

SAMPLES = ROOT / "samples"
SECONDS = 40.0


class Process(Protocol):
    """A running sample."""

    async def post(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, str]: ...

    def stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> AsyncGenerator[str]: ...

    async def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        ...


class Platform(Protocol):
    """Starts processes of the sample; `streams` says whether an answer arrives while it is made."""

    @property
    def name(self) -> str: ...

    @property
    def streams(self) -> bool: ...

    @property
    def runtime(self) -> str:
        """Name the real parts it runs on; only where nothing is lacking."""
        ...

    def lacking(self) -> str | None:
        """Name what this machine lacks to run the platform."""
        ...

    def start(self, environ: Mapping[str, str]) -> AbstractAsyncContextManager[Process]: ...


@dataclass
class HttpProcess:
    """A process that listens for HTTP."""

    url: str
    client: httpx2.AsyncClient
    end: Callable[[], Awaitable[object]]

    async def post(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, str]:
        response = await self.client.post(f"{self.url}/invocations", json=body, headers=headers)
        return response.status_code, response.text

    async def stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> AsyncGenerator[str]:
        async with self.client.stream("POST", f"{self.url}/invocations", json=body, headers=headers) as response:
            async for piece in response.aiter_text():
                yield piece

    async def kill(self) -> None:
        await self.end()


@dataclass
class LambdaProcess:
    """An instance of the function behind a function URL."""

    emulator: LambdaEmulator

    async def post(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, str]:
        lines = [("content-type", "application/json"), *headers.items()]
        request = HttpRequest("POST", "/invocations", headers=lines, body=msgspec.json.encode(body))
        result: dict[str, Any] = await self.emulator.invoke(function_url(request))
        text: str = result["body"]
        return result["statusCode"], b64decode(text).decode() if result.get("isBase64Encoded") else text

    async def stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> AsyncGenerator[str]:
        _, text = await self.post(body, headers)
        yield text

    async def kill(self) -> None:
        await self.emulator.kill()


@dataclass(frozen=True)
class AwsLambda:
    """The stock Python runtime in AWS's Runtime Interface Emulator, called with function URL events."""

    folder: Path = SAMPLES / "aws_lambda"
    name = "AWS Lambda"
    streams = False

    @property
    def runtime(self) -> str:
        return f"Runtime Interface Emulator, awslambdaric {version('awslambdaric')}"

    def lacking(self) -> str | None:
        if not LAMBDA_EMULATOR.is_file():
            return "the Lambda Runtime Interface Emulator (Linux only)"
        return None if find_spec("awslambdaric") else "awslambdaric"

    @asynccontextmanager
    async def start(self, environ: Mapping[str, str]) -> AsyncGenerator[Process]:
        async with LambdaEmulator("app.handler", binary=LAMBDA_EMULATOR, cwd=self.folder, env=environ) as emulator:
            yield LambdaProcess(emulator)


@dataclass
class OwnLambdaProcess:
    """An environment with our own runtime, behind a function URL that streams."""

    api: RuntimeApi
    process: RuntimeProcess

    def invoke(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> Invocation:
        lines = [("content-type", "application/json"), *headers.items()]
        request = HttpRequest("POST", "/invocations", headers=lines, body=msgspec.json.encode(body))
        return self.api.invoke(function_url(request), timeout=SECONDS)

    async def post(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> tuple[int, str]:
        answer = await self.invoke(body, headers).answer()
        if answer.error is not None or answer.status is None:
            raise RuntimeError(f"The invocation failed: {answer.error}")
        return answer.status, answer.payload.decode()

    async def stream(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> AsyncGenerator[str]:
        async for piece in self.invoke(body, headers).pieces():
            yield piece.decode()

    async def kill(self) -> None:
        self.process.kill()
        await self.process.ended()


@dataclass(frozen=True)
class OwnLambda:
    """Our own runtime, which streams; behind a Runtime API of the tests, for the emulator delivers streams whole."""

    folder: Path = SAMPLES / "aws_lambda"
    name = "AWS Lambda, our runtime"
    streams = True

    @property
    def runtime(self) -> str:
        return "a stand-in for Lambda's Runtime API"

    def lacking(self) -> str | None:
        return None

    @asynccontextmanager
    async def start(self, environ: Mapping[str, str]) -> AsyncGenerator[Process]:
        command = [sys.executable, "-m", "agent_framework_hosting_aws_lambda", "app.handler"]
        env = {"AF_HOSTING_STREAMING": "function_url", **environ}
        async with RuntimeApi() as api, RuntimeProcess(api, command, cwd=self.folder, env=env) as process:
            yield OwnLambdaProcess(api, process)


@dataclass(frozen=True)
class AzureFunctions:
    """The worker library that Functions itself runs, with a stand-in for the Functions host before it."""

    folder: Path = SAMPLES / "azure_functions"
    name = "Azure Functions"
    streams = True

    @property
    def runtime(self) -> str:
        return f"worker library azure-functions-runtime {version('azure-functions-runtime')}"

    def lacking(self) -> str | None:
        if sys.version_info < (3, 13):
            return "Python 3.13, for the Functions worker library"
        return None if find_spec("azure_functions_runtime") else "azure-functions-runtime"

    @asynccontextmanager
    async def start(self, environ: Mapping[str, str]) -> AsyncGenerator[Process]:
        async with (
            FunctionsWorker(self.folder, env=environ, seconds=SECONDS) as worker,
            httpx2.AsyncClient(timeout=SECONDS, trust_env=False) as client,
        ):
            yield HttpProcess(worker.url, client, worker.kill)


@dataclass(frozen=True)
class Server:
    """The host's own server."""

    folder: Path = SAMPLES / "server"
    name = "A server"
    streams = True

    @property
    def runtime(self) -> str:
        return f"Hypercorn {version('hypercorn')}"

    def lacking(self) -> str | None:
        return None if find_spec("hypercorn") else "hypercorn"

    @asynccontextmanager
    async def start(self, environ: Mapping[str, str]) -> AsyncGenerator[Process]:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port: int = free.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "app.py"), cwd=self.folder, env={**os.environ, **environ, "PORT": str(port)}
        )

        async def end() -> None:
            if process.returncode is None:
                process.kill()
            await process.wait()

        try:
            async with httpx2.AsyncClient(timeout=SECONDS, trust_env=False) as client:
                await listening(client, f"http://127.0.0.1:{port}", process)
                yield HttpProcess(f"http://127.0.0.1:{port}", client, end)
        finally:
            await end()


async def listening(client: httpx2.AsyncClient, url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until the server answers.

    Raises:
        RuntimeError: It ended.
        TimeoutError: It does not answer.
    """
    async with asyncio.timeout(SECONDS):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"{url} ended with exit code {process.returncode}")
            try:
                await client.get(f"{url}/readiness")
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
            else:
                return
