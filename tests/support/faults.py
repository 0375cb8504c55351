"""Processes that are killed or frozen, and clocks that only a test moves."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agent_framework_hosting.state.clock import Instant
from tests.support.stores import Fault, Operation, lost_answer

PATIENCE = 30.0
BRIEF = 0.05


class ManualClock:
    """Time that stands still until it is moved; `sleep` moves it and does not wait."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.asleep = 0.0

    def now(self) -> Instant:
        return Instant(self.time, self.time + self.asleep)

    def advance(self, seconds: float) -> None:
        self.time += seconds

    def suspend(self, seconds: float) -> None:
        """Let the machine sleep, which only the boot clock sees."""
        self.asleep += seconds

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds)
        await asyncio.sleep(0)


async def brief_sleep(seconds: float) -> None:
    """Sleep no longer than somebody does who looks often, so that what has aged out is found at once."""
    await asyncio.sleep(min(seconds, BRIEF))


async def freeze_after(operation: Operation, apply: Callable[[], Awaitable[Any]]) -> Any:
    """The process is stopped after it was applied, before the answer; somebody has to continue it."""
    answer = await apply()
    os.kill(os.getpid(), signal.SIGSTOP)
    return answer


async def freeze_before(operation: Operation, apply: Callable[[], Awaitable[Any]]) -> Any:
    """The process is stopped before it is applied; somebody has to continue it."""
    os.kill(os.getpid(), signal.SIGSTOP)
    return await apply()


async def freeze_and_lose_answer(operation: Operation, apply: Callable[[], Awaitable[Any]]) -> Any:
    """As `freeze_after`, and the connection is gone by then."""
    return await lost_answer(operation, lambda: freeze_after(operation, apply))


def then(first: Fault, second: Fault) -> Fault:
    """Let one fault happen around another."""

    async def fault(operation: Operation, apply: Callable[[], Awaitable[Any]]) -> Any:
        return await first(operation, lambda: second(operation, apply))

    return fault


# What the processes would import while they work, each of them anew.
LATE = (
    "agent_framework_hosting.running.agents",
    "agent_framework_hosting.running.results",
    "agent_framework_hosting.running.workflows",
    "agent_framework_hosting.state.directory",
    "agent_framework_hosting.state.object_places",
    "agent_framework_hosting.state.objects",
)
PRELOADED = dict.fromkeys(["pytest", *LATE])


def spawning(*modules: str) -> ForkServerContext:
    """Give a way to make processes that have `modules` imported when they begin.

    One server forks the processes of all test modules: what has been asked for when it begins is all that it ever has.
    """
    PRELOADED.update(dict.fromkeys(modules))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*PRELOADED])
    return context


def begin(environment: Mapping[str, str], work: Callable[..., None], *arguments: Any) -> None:
    # It is a fork of a process that began with the first test, whose environment was another one.
    os.environ.clear()
    os.environ.update(environment)
    work(*arguments)


class Worker:
    """A process that runs `work(connection, *arguments)`; both sides talk over the connection."""

    def __init__(self, context: ForkServerContext, work: Callable[..., None], *arguments: Any) -> None:
        self.connection: Connection
        self.connection, other = context.Pipe()
        self.process = context.Process(target=begin, args=(dict(os.environ), work, other, *arguments))
        self.process.start()
        other.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.join()
        self.process.close()
        self.connection.close()

    async def heard(self) -> Any:
        """Wait for the next message."""
        return await asyncio.to_thread(self._receive)

    def _receive(self) -> Any:
        if not self.connection.poll(PATIENCE):
            raise TimeoutError("The process says nothing.")
        return self.connection.recv()

    def said(self) -> list[Any]:
        """All that it has said by now and nobody has heard."""
        said: list[Any] = []
        with suppress(EOFError):  # It has ended.
            while self.connection.poll():
                said.append(self.connection.recv())
        return said

    def tell(self, message: Any) -> None:
        self.connection.send(message)

    async def end(self) -> int:
        """Wait for its end and give its exit code; negative: the signal that killed it."""
        # The code can be read once, and starting another process reads it as well: so on this thread only.
        await asyncio.to_thread(wait, [self.process.sentinel], PATIENCE)
        code = self.process.exitcode
        if code is None:
            raise TimeoutError("The process does not end.")
        return code

    def kill(self) -> None:
        self.process.kill()

    async def freeze(self) -> None:
        self._signal(signal.SIGSTOP)
        await self.frozen()

    async def frozen(self) -> None:
        """Wait until it is stopped."""
        await eventually(self._stopped, "The process was not stopped.")

    def _stopped(self) -> bool:
        # Every thread of it: one that is inside a system call stops after it.
        with suppress(FileNotFoundError):
            threads = Path(f"/proc/{self.process.pid}/task").iterdir()
            return all((thread / "stat").read_text().rpartition(")")[2].startswith(" T") for thread in threads)
        command = ["ps", "-o", "state=", "-p", str(self.process.pid)]
        return subprocess.run(command, capture_output=True, check=True, text=True).stdout.startswith("T")

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: int) -> None:
        assert self.process.pid is not None
        os.kill(self.process.pid, number)


async def eventually(condition: Callable[[], bool], complaint: str, *, patience: float = PATIENCE) -> None:
    """Wait until a condition holds that nobody announces."""
    give_up = time.monotonic() + patience
    while not condition():
        if time.monotonic() > give_up:
            raise TimeoutError(complaint)
        await asyncio.sleep(0.005)
