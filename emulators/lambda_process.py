"""The process of an execution environment: a runtime with Lambda's variables, frozen and ended as there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from emulators.lambda_calls import FUNCTION, REGION
from emulators.lambda_environment import Environment
from emulators.lambda_routes import Routes
from emulators.lambda_runtime_api import RuntimeApi


class RuntimeProcess:
    """Runs `command` in `cwd` as the runtime of a new environment; it and all it starts are ended at the end.

    `env` comes on top of this process's environment and the documented variables ("Defined runtime environment
    variables"). `AWS_LAMBDA_INITIALIZATION_TYPE=snap-start` in it makes the restore calls available, and
    `AWS_LAMBDA_MAX_CONCURRENCY` an environment of managed instances, whose pollers take an invocation each.
    """

    def __init__(
        self,
        api: RuntimeApi,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        handler: str = "app.handler",
    ) -> None:
        self.desk = api.desk
        self.command = command
        self.cwd = cwd
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        self.env = {
            **os.environ,
            "_HANDLER": handler,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_python{python}",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_FUNCTION_NAME": FUNCTION,
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{FUNCTION}",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/11/22/[$LATEST]0123456789abcdef0123456789abcdef",
            "AWS_REGION": REGION,
            "LAMBDA_RUNTIME_DIR": "/var/runtime",
            "LAMBDA_TASK_ROOT": str(cwd),
            # What it wrote is there when it is killed.
            "PYTHONUNBUFFERED": "1",
            "TZ": ":UTC",
            **(env or {}),
        }
        self.environment = Environment(
            self.desk,
            lambda environment: Routes(environment).serve,
            self,
            concurrent="AWS_LAMBDA_MAX_CONCURRENCY" in self.env,
            snap_start=self.env["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start",
            metadata={
                "functionName": self.env["AWS_LAMBDA_FUNCTION_NAME"],
                "functionVersion": self.env["AWS_LAMBDA_FUNCTION_VERSION"],
                "handler": self.env["_HANDLER"],
            },
        )
        self.env["AWS_LAMBDA_RUNTIME_API"] = self.environment.address
        self.frozen = False
        self._written = ""
        self._killed = False
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[int] | None = None
        self._output: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the environment

    async def __aenter__(self) -> Self:
        try:
            await self.environment.open()
            self._process = await asyncio.create_subprocess_exec(
                *self.command,
                cwd=self.cwd,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=self._output,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            await self.environment.close()
            self._output.close()
            raise
        self._watch = asyncio.create_task(self._watched(self._process))
        self.desk.sources.append(self.logs)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        try:
            await self.ended()
        finally:
            await self.environment.close()
            self._written = self.logs()
            self._output.close()

    async def _watched(self, process: asyncio.subprocess.Process) -> int:
        code = await process.wait()
        # What it started may outlive it, but on Lambda the environment goes with its runtime.
        self._signal(signal.SIGKILL)
        self.environment.exited(code, killed=self._killed)
        return code

    @property
    def pid(self) -> int:
        assert self._process is not None, "The process runs only within `async with`."
        return self._process.pid

    def _signal(self, number: signal.Signals) -> None:
        # The group is gone when the last of it is.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def freeze(self) -> None:
        """Stop the whole process group, and wait until the runtime has stopped: nothing of it goes on then."""
        self._signal(signal.SIGSTOP)
        # Nothing is taken from who waits for its end; an end counts, too, or this would wait for ever.
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        self.frozen = True

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)
        self.frozen = False

    def terminate(self) -> None:
        """Send SIGTERM, as Lambda does where an extension is registered; a frozen process is thawed for it."""
        self._signal(signal.SIGTERM)
        self.thaw()

    def kill(self) -> None:
        self._killed = self.environment.gone = True
        self._signal(signal.SIGKILL)

    async def ended(self, timeout: float = 10) -> int:
        """Wait for the end of the process; give its exit code, negative where a signal was its end.

        Raises:
            TimeoutError: It runs after `timeout` seconds.
        """
        assert self._watch is not None, "The process runs only within `async with`."
        try:
            return await asyncio.wait_for(asyncio.shield(self._watch), timeout)
        except TimeoutError:
            raise TimeoutError(f"The process {self.pid} has not ended.\n--- logs ---\n{self.logs()}") from None

    def logs(self) -> str:
        """Give what it has written."""
        if self._output.closed:
            return self._written
        size = os.fstat(self._output.fileno()).st_size
        return os.pread(self._output.fileno(), size, 0).decode(errors="replace")
