"""Stores around other stores, for tests: one that fails on command, one that counts."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.state.store import Condition, StateStore, Unknown, Version

PATIENCE = 10.0
TURNS_OF_THE_LOOP = 10
MOMENT = 0.02
LATE: set[asyncio.Task[None]] = set()


@dataclass(frozen=True)
class Operation:
    """One call of a store: `kind` is get, put, delete or list; `name` is the prefix of a list."""

    kind: str
    name: str
    data: bytes | None = None
    condition: Condition = None
    unless: Version | None = None


Apply = Callable[[], Awaitable[Any]]
Fault = Callable[[Operation, Apply], Awaitable[Any]]
"""Stands in for an operation. Awaiting `Apply()` does what was asked for."""


@dataclass
class Planned:
    fault: Fault
    matches: Callable[[Operation], bool]
    skip: int
    times: int | None


class FaultStore:
    """A store whose operations go wrong as planned. `log` holds all that were asked for, in order.

    >>> store.plan(lost_answer, kind="put", name="head", nth=2)   # the second put of a head
    """

    def __init__(self, inner: StateStore) -> None:
        self.inner = inner
        self.log: list[Operation] = []
        self._plans: list[Planned] = []
        self._lock = threading.Lock()

    def plan(
        self,
        fault: Fault,
        *,
        kind: str | None = None,
        name: str | Callable[[str], bool] = "",
        nth: int = 1,
        times: int | None = 1,
    ) -> None:
        """Let `fault` stand in for the nth matching operation from now on, and for `times` in all (None: for ever).

        `name` is a part of the document's name, or a predicate. Earlier plans come first.
        """

        def matches(operation: Operation) -> bool:
            fits = name(operation.name) if callable(name) else name in operation.name
            return fits and kind in (None, operation.kind)

        with self._lock:
            self._plans.append(Planned(fault, matches, nth - 1, times))

    def clear(self) -> None:
        """Let everything work again."""
        with self._lock:
            self._plans.clear()

    def names(self, kind: str) -> list[str]:
        """The names of all operations of a kind, in order."""
        return [operation.name for operation in self.log if operation.kind == kind]

    async def get(self, name: str, *, unless: Version | None = None) -> Any:
        return await self._do(Operation("get", name, unless=unless), lambda: self.inner.get(name, unless=unless))

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        operation = Operation("put", name, data, if_version)
        return await self._do(operation, lambda: self.inner.put(name, data, if_version=if_version))

    async def delete(self, name: str) -> None:
        await self._do(Operation("delete", name), lambda: self.inner.delete(name))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        return await self._do(Operation("list", prefix), lambda: self.inner.list(prefix, after=after, limit=limit))

    async def _do(self, operation: Operation, apply: Apply) -> Any:
        fault = self._due(operation)
        return await (apply() if fault is None else fault(operation, apply))

    def _due(self, operation: Operation) -> Fault | None:
        with self._lock:
            self.log.append(operation)
            for plan in self._plans:
                if not plan.matches(operation) or plan.times == 0:
                    continue
                if plan.skip:
                    plan.skip -= 1
                    continue
                if plan.times is not None:
                    plan.times -= 1
                return plan.fault
        return None


async def away(operation: Operation, apply: Apply) -> Any:
    """The store does not answer, and nothing is applied."""
    raise StateUnavailable(f"Planned: {operation.kind} {operation.name}")


async def lost_answer(operation: Operation, apply: Apply) -> Any:
    """It is applied, and the answer gets lost."""
    await apply()
    raise Unknown(f"Planned: the answer to {operation.kind} {operation.name} was lost")


async def lost_request(operation: Operation, apply: Apply) -> Any:
    """It is not applied, and nobody can tell."""
    raise Unknown(f"Planned: {operation.kind} {operation.name} was lost")


async def twice(operation: Operation, apply: Apply) -> Any:
    """The network delivers it twice; the first answer comes back."""
    answer = await apply()
    with suppress(Exception):  # nobody hears the second answer
        await apply()
    return answer


async def late_request(operation: Operation, apply: Apply) -> Any:
    """Nobody can tell whether it is applied, and it is: somewhat later, after others perhaps."""
    LATE.add(task := asyncio.create_task(applied_late(apply)))
    task.add_done_callback(LATE.discard)
    raise Unknown(f"Planned: {operation.kind} {operation.name} is under way")


async def applied_late(apply: Apply) -> None:
    await asyncio.sleep(MOMENT)
    with suppress(Exception):  # nobody hears the answer
        await apply()


async def cut(operation: Operation, apply: Apply) -> Any:
    """The connection is cut while it is under way."""
    task = asyncio.ensure_future(apply())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    raise Unknown(f"Planned: the connection of {operation.kind} {operation.name} was cut")


async def slow(operation: Operation, apply: Apply) -> Any:
    """It takes its time."""
    await asyncio.sleep(MOMENT)
    answer = await apply()
    await asyncio.sleep(MOMENT)
    return answer


async def landed() -> None:
    """Wait for what is applied late."""
    while LATE:
        await asyncio.wait([*LATE])


async def kill_before(operation: Operation, apply: Apply) -> Any:
    """The process is killed before it is applied."""
    os.kill(os.getpid(), signal.SIGKILL)


async def kill_after(operation: Operation, apply: Apply) -> Any:
    """The process is killed after it was applied, before the answer."""
    await apply()
    os.kill(os.getpid(), signal.SIGKILL)


def calling(*, before: Callable[[], Any] = lambda: None, after: Callable[[], Any] = lambda: None) -> Fault:
    """Make a fault that calls functions, or awaits coroutine functions, around the operation."""

    async def call(function: Callable[[], Any]) -> None:
        if isinstance(result := function(), Awaitable):
            await result

    async def fault(operation: Operation, apply: Apply) -> Any:
        await call(before)
        answer = await apply()
        await call(after)
        return answer

    return fault


@dataclass
class Gate:
    """Holds operations until `open`, `before` or `after` they are applied. Works across threads and loops."""

    _reached: threading.Event = field(default_factory=threading.Event)
    _opened: threading.Event = field(default_factory=threading.Event)

    async def before(self, operation: Operation, apply: Apply) -> Any:
        await self._hold()
        return await apply()

    async def after(self, operation: Operation, apply: Apply) -> Any:
        answer = await apply()
        await self._hold()
        return answer

    async def reached(self) -> None:
        """Wait until an operation is held."""
        await wait_for(self._reached, "No operation came to the gate.")

    def open(self) -> None:
        self._opened.set()

    async def _hold(self) -> None:
        self._reached.set()
        await wait_for(self._opened, "The gate was never opened.")


async def wait_for(event: threading.Event, complaint: str) -> None:
    # On a thread that dies with the process: one of the loop's executor would be waited for at its end.
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[bool] = loop.create_future()

    def wait() -> None:
        happened = event.wait(PATIENCE)
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(lambda: waiting.done() or waiting.set_result(happened))

    threading.Thread(target=wait, daemon=True).start()
    if not await waiting:
        raise TimeoutError(complaint)


class CountingStore:
    """Counts operations, and how many stand one after another.

    `rounds` is the longest chain of operations each of which began after the one before it had ended: the store round
    trips that somebody waits for.
    """

    def __init__(self, inner: StateStore) -> None:
        self.inner = inner
        self.log: list[Operation] = []
        self.rounds = 0
        self._ended = 0
        self._lock = threading.Lock()

    @property
    def operations(self) -> int:
        return len(self.log)

    def reset(self) -> None:
        """Count from nothing again; call it while no operation is under way."""
        with self._lock:
            self.log.clear()
            self.rounds = self._ended = 0

    async def get(self, name: str, *, unless: Version | None = None) -> Any:
        with self._counted(Operation("get", name, unless=unless)):
            await suspended()
            return await self.inner.get(name, unless=unless)

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        with self._counted(Operation("put", name, data, if_version)):
            await suspended()
            return await self.inner.put(name, data, if_version=if_version)

    async def delete(self, name: str) -> None:
        with self._counted(Operation("delete", name)):
            await suspended()
            await self.inner.delete(name)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        with self._counted(Operation("list", prefix)):
            await suspended()
            return await self.inner.list(prefix, after=after, limit=limit)

    @contextmanager
    def _counted(self, operation: Operation) -> Iterator[None]:
        with self._lock:
            self.log.append(operation)
            place = self._ended + 1
            self.rounds = max(self.rounds, place)
        try:
            yield
        finally:
            with self._lock:
                self._ended = max(self._ended, place)


async def suspended() -> None:
    """Let whoever started other operations at the same time start them: a store in memory is done at once."""
    for _ in range(TURNS_OF_THE_LOOP):
        await asyncio.sleep(0)
