"""Managed instances: one environment takes several invocations at once, each in a process of its own.

`AWS_LAMBDA_MAX_CONCURRENCY` says how many. As the stock runtime does it, each process imports the function itself and
asks for invocations itself. The standard input of each is a pipe that only its parent could write to: it ends when the
parent does, however that ends.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType

VARIABLE = "AWS_LAMBDA_MAX_CONCURRENCY"
GRACE = 2.0


def wanted() -> int:
    """Give how many processes the platform asks for; 1 where it does not say."""
    told = os.environ.get(VARIABLE, "")
    return max(1, int(told)) if told.isascii() and told.isdecimal() else 1


def run_all(count: int, command: Sequence[str]) -> int:
    """Run a command in so many processes until one ends; then all end, for Lambda to make a new environment.

    Returns:
        The exit code of the first that ended.
    """
    environ = {**os.environ, VARIABLE: ""}
    processes: list[subprocess.Popen[bytes]] = []
    ended: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        ended.append(number)
        for process in processes:
            # Not send_signal, which would take the end that first_ended waits for.
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, number)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # Where it is ignored, nobody's end can be waited for.
    try:
        for _ in range(count):
            if ended:  # By SIGTERM, which the next one would not hear of.
                return 0
            processes.append(subprocess.Popen(command, env=environ, stdin=subprocess.PIPE))  # noqa: S603
        return first_ended(processes)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(GRACE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def watch_parent(loop: asyncio.AbstractEventLoop, ended: Callable[[], None]) -> None:
    """In one of several processes, call `ended` once the one that started it has ended."""
    if os.environ.get(VARIABLE) != "":
        return

    def read() -> None:
        if not os.read(0, 1):
            loop.remove_reader(0)
            ended()

    loop.add_reader(0, read)


def first_ended(processes: Sequence[subprocess.Popen[bytes]]) -> int:
    """Wait for the end of one, and give its exit code."""
    by_id = {process.pid: process for process in processes}
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        assert ended is not None
        if (process := by_id.get(ended.si_pid)) is not None:
            return process.wait()
        os.waitpid(ended.si_pid, 0)  # An orphan's, if this is process 1 of a container.


def this_command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", __name__.rpartition(".runtime")[0], *arguments]
