"""AWS's Runtime Interface Emulator: Lambda as it is, on this machine, without docker.

By default with the stock Python runtime; another one is the `command`.

    async with LambdaEmulator("app.handler", binary=emulator, cwd=folder, env={"STATE": "…"}) as function:
        result = await function.invoke(event)
        await function.restart()        # SIGKILL, and a new instance: a cold start

What it does not show: freezing between invocations, SnapStart, more than one call at a time, IAM.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

INVOCATIONS = "/2015-03-31/functions/function/invocations"


class EmulatorMissing(Exception):
    """The emulator has not been fetched."""


class EmulatorFailed(Exception):
    """The emulator did not start, or was gone before it answered."""


class InvocationFailed(Exception):
    """The function ended with an error: what Lambda would count as one. `kind` is the exception's class name."""

    def __init__(self, kind: str, message: str, logs: str) -> None:
        super().__init__(f"{kind}: {message}\n--- logs ---\n{logs}")
        self.kind = kind
        self.message = message


class LambdaEmulator:
    """One function, of which at most one instance runs at a time.

    `handler` is `module.name`, imported in `cwd`, or what `command` makes of it: it is put behind that. `env` comes on
    top of this process's environment. `timeout` is the function's, in seconds: the emulator ends an invocation after
    it. `binary` is the emulator's, as an absolute path.
    """

    def __init__(
        self,
        handler: str,
        *,
        binary: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        timeout: int = 30,
        python: str = sys.executable,
        command: Sequence[str] | None = None,
    ) -> None:
        self.handler = handler
        self.cwd = cwd
        self.timeout = timeout
        self.binary = binary
        self.command = command or (python, "-m", "awslambdaric")
        self.env = {
            **os.environ,
            # With it the runtime polls from a thread and writes JSON as the managed one does.
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{sys.version_info.major}.{sys.version_info.minor}",
            "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout),
            **(env or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._files = contextlib.ExitStack()
        self._output: IO[bytes] | None = None
        self._port = 0
        self._lock = asyncio.Lock()
        self._call: asyncio.Future[tuple[int, bytes]] | None = None

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._close()

    async def start(self) -> None:
        """Start an instance and wait until it takes calls. The function itself is imported with its first one.

        Raises:
            EmulatorMissing: There is no binary.
            EmulatorFailed: It does not come up.
        """
        if not self.binary.is_file():
            raise EmulatorMissing(f"There is no Lambda emulator at {self.binary}: run `make tools` to fetch it.")
        if self._process is not None:
            raise EmulatorFailed("An instance is running already: kill() it first.")
        for _ in range(3):
            # Another process may take a free port before the emulator does.
            self._process = self._spawn()
            with contextlib.suppress(TimeoutError):
                await wait_for(lambda: self.exited() or accepts(self._port), "It takes no calls.", timeout=10)
                if not self.exited():
                    return
            await self.kill()
        raise EmulatorFailed(f"The Lambda emulator does not come up.\n--- logs ---\n{self.logs()}")

    def _spawn(self) -> subprocess.Popen[bytes]:
        if self._output is None:
            self._output = self._files.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
        self._port, runtime_port = free_ports()
        command = [
            self.binary,
            "--runtime-interface-emulator-address",
            f"127.0.0.1:{self._port}",
            "--runtime-api-address",
            f"127.0.0.1:{runtime_port}",
            "--log-level",
            "error",
            *self.command,
            self.handler,
        ]
        return subprocess.Popen(
            command,
            cwd=self.cwd,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    async def invoke(self, event: object, *, timeout: float | None = None) -> Any:
        """Invoke the function and return what it returned, from its JSON. Calls wait for each other.

        Raises:
            InvocationFailed: It raised, ran out of time, or could not be imported.
            EmulatorFailed: The instance was killed meanwhile, is not running, or gave no answer in `timeout` seconds.
        """
        limit = timeout if timeout is not None else self.timeout + 30
        async with self._lock:
            if self._call is not None and not self._call.done():
                # Its caller was cancelled, but the emulator is still at it; a second call would crash it.
                await asyncio.wait([self._call])
            if self._process is None:
                raise EmulatorFailed("No instance is running: start() one.")
            payload = json.dumps(event).encode()
            self._call = asyncio.ensure_future(asyncio.to_thread(post, self._port, payload, limit))
            try:
                status, answer = await asyncio.shield(self._call)
            except (OSError, http.client.HTTPException) as error:
                raise EmulatorFailed(f"The instance gave no answer: {error!r}\n--- logs ---\n{self.logs()}") from error
        try:
            result: Any = json.loads(answer)
        except ValueError:
            raise InvocationFailed("Runtime", answer.decode(errors="replace"), self.logs()) from None
        error = members(result)
        if status != 200 or "errorType" in error:
            raise InvocationFailed(error.get("errorType", ""), error.get("errorMessage", ""), self.logs())
        return result

    async def kill(self) -> None:
        """SIGKILL the emulator and the runtime, whatever they are at, and wait until both are gone.

        Raises:
            TimeoutError: They are not gone after 10 s.
        """
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        # The runtime has a process group of its own, but shares the emulator's session.
        await wait_for(lambda: killed(process.pid), "The instance outlives its SIGKILL.", timeout=10)
        await asyncio.to_thread(process.wait, 10)

    async def _close(self) -> None:
        try:
            await self.kill()
        finally:
            self._files.close()
            self._output = None

    async def restart(self) -> None:
        """SIGKILL the instance and start a new one."""
        await self.kill()
        await self.start()

    @property
    def port(self) -> int:
        """Where the running instance takes calls, for who wants more of an answer than its JSON."""
        return self._port

    def exited(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def logs(self) -> str:
        """Give what the emulator and the function have written, of all instances."""
        if self._output is None:
            return ""
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace").replace("\r", "\n")


def members(value: object) -> dict[str, Any]:
    """Give the members of a JSON object; another value has none."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def post(port: int, payload: bytes, timeout: float) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("POST", INVOCATIONS, payload)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def free_ports() -> tuple[int, int]:
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        return first.getsockname()[1], second.getsockname()[1]


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def session_members(session: int) -> list[int]:
    """Give the processes of a session that are alive (proc_pid_stat(5): the state is field 3, the session field 6)."""
    members: list[int] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] not in "ZX":
                    members.append(int(entry.name))
    return members


def killed(session: int) -> bool:
    """Kill what is left of a session; tell whether nothing was."""
    left = session_members(session)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return not left


async def wait_for(condition: Callable[[], bool], complaint: str, *, timeout: float) -> None:
    """Poll until `condition` holds.

    Raises:
        TimeoutError: It does not after `timeout` seconds.
    """
    end = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(complaint)
        await asyncio.sleep(0.01)
