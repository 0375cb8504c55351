"""Runs a function app on the worker library that Azure Functions itself runs (azure-functions-runtime, Python ≥ 3.13).

    async with FunctionsWorker(folder, env={"KEY": "value"}) as worker:
        httpx2.post(f"{worker.url}/invocations", json={...})
        await worker.invoke("nightly", {"schedule": {}})
        ended = await worker.terminate()

The worker is a process of its own and knows nothing of this module. In front of it stands a small stand-in for the
Functions host: it indexes the functions, listens on `worker.url`, and for each HTTP request does what the host does.
With a web extension ("HTTP v2") it forwards the request to the worker's server with `x-ms-invocation-id`, sends the
invocation, and streams the answer back unbuffered; without one it sends the whole request as `RpcHttp` and turns the
answer into a response.

What the stand-in does not do: gRPC (JSON lines over a socket instead), storage and trigger listeners (`invoke` calls a
function directly), scaling, restarting a worker that ended, the platform's front end with its 230 s limit and
forwarded headers, App Service authentication, named keys (there is one: `function_key`), request streaming (a body is
read whole before it is forwarded), and normalising of paths (the request target goes to the worker as it came).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from .functions_host import FunctionsHost, HostRequest, rpc_http

PROCESS = Path(__file__).with_name("functions_process.py")
FUNCTION_KEY = "a-function-key"


class WorkerFailed(Exception):
    """The worker could not load the app, an invocation failed, or an answer did not come in time."""


@dataclass(frozen=True)
class Exit:
    """How a worker ended: its exit code, negative for a signal, and all it wrote."""

    code: int
    log: str


class FunctionsWorker:
    """A worker with one function app; an async context manager. Every wait is bounded by `seconds`.

    `url` is where the stand-in host listens, `worker_url` the worker's own server (`None` without a web extension),
    `functions` what was indexed, `init_seconds` the time the library took to load the app, `failures` the errors
    of failed HTTP invocations, which a real host logs.
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        env: Mapping[str, str] | None = None,
        python: str = sys.executable,
        function_key: str = FUNCTION_KEY,
        seconds: float = 30,
    ) -> None:
        self.folder = Path(folder).resolve()
        self.env = dict(env or {})
        self.python = python
        self.function_key = function_key
        self.seconds = seconds
        self.functions: list[dict[str, Any]] = []
        self.worker_url: str | None = None
        self.init_seconds = 0.0
        self._process: subprocess.Popen[bytes] | None = None
        self._host: FunctionsHost | None = None
        self._output: IO[bytes] | None = None
        self._log = ""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.host.port}"

    @property
    def failures(self) -> list[str]:
        return self.host.failures

    @property
    def log(self) -> str:
        """Everything that the worker wrote to its output so far."""
        if self._output is None:
            return self._log
        descriptor = self._output.fileno()
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "enter the context manager first"
        return self._process

    @property
    def host(self) -> FunctionsHost:
        assert self._host is not None, "enter the context manager first"
        return self._host

    async def __aenter__(self) -> Self:
        """Start the worker, load the app, and listen.

        Raises:
            WorkerFailed: The app cannot be loaded; the message is the one that the host would log.
        """
        try:
            await asyncio.to_thread(self._start)
            loaded = await self._ask("init")
            self.init_seconds = loaded["seconds"]
            self.worker_url = loaded["capabilities"].get("HttpUri")
            self.functions = (await self._ask("metadata"))["functions"]
            await self._on_host(self.host.listen(self.functions, prefix=self._prefix(), proxy=self.worker_url))
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception):
            error.add_note(f"The log of the Functions worker:\n{self.log}")
        await self._close()

    async def invoke(
        self, name: str, data: str | bytes | Mapping[str, Any], metadata: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Call a function that is not an HTTP one, with the data of its trigger: text, or a mapping sent as JSON.

        Returns `{"value": …, "outputs": {…}}`.

        Raises:
            WorkerFailed: The function raised.
        """
        function = next(function for function in self.functions if function["name"] == name)
        trigger = next(binding for binding in function["bindings"] if binding["type"].endswith("Trigger"))
        if isinstance(data, bytes):
            data = data.decode()
        typed = {"string": data} if isinstance(data, str) else {"json": json.dumps(data)}
        return await self._ask(
            "invoke",
            invocation_id=str(uuid.uuid4()),
            function_id=function["id"],
            inputs={trigger["name"]: typed},
            metadata={key: {"string": value} for key, value in (metadata or {}).items()},
        )

    async def measure(self, name: str, path: str, count: int) -> list[float]:
        """Call an HTTP function `count` times inside the worker, without the host; for apps without a web extension.

        Returns the seconds of each call.

        Raises:
            WorkerFailed: The function raised.
        """
        function = next(function for function in self.functions if function["name"] == name)
        request = HostRequest("GET", path, [(b"host", b"localhost"), (b"accept", b"application/json")], b"")
        answer = await self._ask(
            "measure",
            count=count,
            invocation_id=str(uuid.uuid4()),
            function_id=function["id"],
            inputs={"req": {"http": rpc_http(request, {"route": path.strip("/")})}},
            metadata={},
        )
        return answer["seconds"]

    async def kill(self) -> Exit:
        """End the worker at once (SIGKILL), as a crash or the platform does."""
        self.process.kill()
        return await self._wait()

    async def terminate(self) -> Exit:
        """Ask the worker to end (SIGTERM), and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        return await self._wait()

    async def _wait(self) -> Exit:
        code = await asyncio.to_thread(self.process.wait, self.seconds)
        return Exit(code, self.log)

    def _start(self) -> None:
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by _close
        ours, theirs = socket.socketpair()
        with theirs:
            env = {
                **os.environ,
                "FUNCTIONS_WORKER_RUNTIME": "python",
                "AzureWebJobsScriptRoot": str(self.folder),
                "PYTHONUNBUFFERED": "1",
                **self.env,
            }
            self._process = subprocess.Popen(
                [self.python, str(PROCESS), str(theirs.fileno()), str(self.folder)],
                cwd=self.folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._output,
                pass_fds=[theirs.fileno()],
            )
        self._host = FunctionsHost(ours, function_key=self.function_key)

    def _prefix(self) -> str:
        """The route prefix as the host reads it."""
        try:
            settings = json.loads((self.folder / "host.json").read_bytes())
        except FileNotFoundError:
            return "api"
        return settings.get("extensions", {}).get("http", {}).get("routePrefix", "api").strip("/")

    async def _ask(self, kind: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = await self._on_host(self.host.channel.ask(kind, **arguments))
        except (TimeoutError, ConnectionError) as error:
            raise WorkerFailed(f"The worker did not answer {kind!r} ({error}). Its log:\n{self.log}") from error
        if answer["error"] is not None:
            raise WorkerFailed(f"{answer['error']}\n{answer['trace']}")
        return answer

    async def _on_host(self, work: Coroutine[Any, Any, Any]) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self.host.loop)
        return await asyncio.wait_for(asyncio.wrap_future(future), self.seconds)

    async def _close(self) -> None:
        if self._process is not None and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, self.seconds)
        if self._host is not None:
            await asyncio.to_thread(self._host.close)
        self._log = self.log
        if self._output is not None:
            self._output.close()
            self._output = None
