"""Processes that write to a directory while others do, or while they are being killed. Run as a script."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import inspect
import itertools
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.disk import Disk
from agent_framework_hosting.state.settle import settled_put
from agent_framework_hosting.state.store import ABSENT, UNCHANGED, Lost

LINES = "k/aa/lines/head"
CHECKED = "k/aa/checked/head"


def checked(number: int) -> bytes:
    """Make a document of about 60 KB that can be told from half a document."""
    body = b"%d " % number * 10_000
    return hashlib.sha256(body).hexdigest().encode() + b" " + body


def is_whole(data: bytes) -> bool:
    digest, _, body = data.partition(b" ")
    return hashlib.sha256(body).hexdigest().encode() == digest


def number_of(data: bytes) -> int:
    return int(data.split(b" ", 2)[1])


async def increment(path: str, writer: str, times: str) -> None:
    """Enter `times` lines into one document by compare-and-swap, each of them once."""
    store = DirectoryStore(path)
    for number in range(int(times)):
        line = f"{writer}.{number}".encode()
        while True:
            found = await store.get(LINES)
            assert found is not UNCHANGED
            lines, expected = (b"", ABSENT) if found is None else found
            if line in lines.split():  # written before, and its answer was not certain
                break
            with contextlib.suppress(Lost):
                await settled_put(store, LINES, lines + line + b"\n", if_version=expected)
                break


async def write_on(path: str) -> None:
    """Write whole documents until killed."""
    store = DirectoryStore(path)
    for number in itertools.count():
        await store.put(CHECKED, checked(number))


def die_everywhere(path: str) -> None:
    """Fork children, each of which is killed at one more system call of a write, until one is not."""
    for made in ("old", "new"):
        for steps in itertools.count():
            if (child := os.fork()) == 0:
                asyncio.run(die(path, f"k/{made}/{steps}/head", steps, exists=made == "old"))
                os._exit(0)
            if os.waitpid(child, 0)[1] == 0:
                break


async def die(path: str, name: str, steps: int, *, exists: bool) -> None:
    if exists:
        await DirectoryStore(path).put(name, checked(0))
    left = itertools.count(steps, -1)

    def counted(call: Callable[..., Any]) -> Callable[..., Any]:
        def counting(*args: Any, **kwargs: Any) -> Any:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*args, **kwargs)

        return counting

    disk = Disk(**{field.name: counted(getattr(Disk(), field.name)) for field in fields(Disk)})
    await DirectoryStore(path, disk=disk).put(name, checked(1))


def use_in_a_fork(path: str) -> None:
    """Use a store before and after a fork, in the child and in the parent."""
    store = DirectoryStore(path)
    asyncio.run(store.put("parent/1", b"x"))
    if (child := os.fork()) == 0:
        asyncio.run(store.put("child/1", b"x"))
        os._exit(0)
    asyncio.run(store.put("parent/2", b"x"))
    sys.exit(os.waitpid(child, 0)[1] and 1)


if __name__ == "__main__":
    _, name, *arguments = sys.argv
    if inspect.iscoroutinefunction(script := globals()[name]):
        asyncio.run(script(*arguments))
    else:
        script(*arguments)
