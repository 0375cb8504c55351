"""Which workflow object a turn runs on, so that nothing of one conversation reaches another."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from ..errors import ConfigurationError, TurnBusy

if TYPE_CHECKING:
    from agent_framework import Executor, Workflow, WorkflowCheckpoint


# What the framework itself keeps on an executor that asks for information.
_REQUEST_ATTRIBUTES = {"_response_handlers", "_response_handler_specs", "is_request_response_capable"}
_initial: WeakKeyDictionary[Workflow, dict[str, dict[str, Any]]] = WeakKeyDictionary()


@runtime_checkable
class AsyncContext(Protocol):
    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class WorkflowInstances(Protocol):
    """`model` shows what the workflow looks like; only what `use` gives may be run."""

    model: Workflow

    def use(self) -> AbstractAsyncContextManager[Workflow]: ...

    def blank(self, workflow: Workflow) -> WorkflowCheckpoint | None:
        """What to restore for a new conversation, or None where the workflow is new itself."""
        ...


class SharedWorkflow:
    """One workflow object for all conversations: one turn at a time, each restored first."""

    def __init__(self, workflow: Workflow, states: dict[str, dict[str, Any]], *, wait: float) -> None:
        self.model = workflow
        self._states = states
        self._wait = wait
        self._lock = asyncio.Lock()

    @classmethod
    async def capture(cls, workflow: Workflow, *, wait: float) -> SharedWorkflow:
        """Remember what the executors hold before their first turn; `wait` in seconds bounds the queue.

        Raises:
            ConfigurationError: An executor's checkpoint hooks fail.
        """
        return cls(workflow, await initial_states(workflow), wait=wait)

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Workflow]:
        async with line_up(self._lock, self._wait):
            yield self.model

    def blank(self, workflow: Workflow) -> WorkflowCheckpoint | None:
        return blank_checkpoint(workflow, self._states)


class WorkflowFactory:
    """A workflow of its own for every turn.

    A factory whose workflows share executor objects gains nothing by that: they are treated like one object.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Workflow]],
        model: Workflow,
        states: dict[str, dict[str, Any]],
        *,
        wait: float,
    ) -> None:
        self.model = model
        self._make = make
        self._states = states
        self._wait = wait
        self._lock = asyncio.Lock()

    @classmethod
    async def capture(cls, make: Callable[[], Awaitable[Workflow]], model: Workflow, *, wait: float) -> WorkflowFactory:
        return cls(make, model, await initial_states(model), wait=wait)

    @asynccontextmanager
    async def use(self) -> AsyncGenerator[Workflow]:
        workflow = await self._make()
        async with AsyncExitStack() as stack:
            if self._shares(workflow):
                await stack.enter_async_context(line_up(self._lock, self._wait))
            if isinstance(workflow, AsyncContext):
                await stack.enter_async_context(workflow)
            yield workflow

    def blank(self, workflow: Workflow) -> WorkflowCheckpoint | None:
        return blank_checkpoint(workflow, self._states) if self._shares(workflow) else None

    def _shares(self, workflow: Workflow) -> bool:
        known = self.model.executors
        return workflow is self.model or any(known.get(name) is item for name, item in workflow.executors.items())


@asynccontextmanager
async def line_up(lock: asyncio.Lock, wait: float) -> AsyncGenerator[None]:
    """Hold a lock, waiting at most `wait` seconds.

    Raises:
        TurnBusy: It was not free in time.
    """
    try:
        async with asyncio.timeout(wait):
            await lock.acquire()
    except TimeoutError:
        raise TurnBusy(
            "The workflow is busy with other conversations. Try again in a moment; give the host a factory that "
            "constructs its executors to run conversations side by side."
        ) from None
    try:
        yield
    finally:
        lock.release()


async def initial_states(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """Ask every executor what it holds; an agent executor starts with a session of its own each time.

    A workflow object is asked once in its life: by the next host that serves it, it has run.
    """
    from agent_framework import AgentExecutor

    if (known := _initial.get(workflow)) is not None:
        return known
    states: dict[str, dict[str, Any]] = {}
    for name, executor in workflow.executors.items():
        try:
            states[name] = {}
            if not isinstance(executor, AgentExecutor):
                states[name] = copy.deepcopy(await executor.on_checkpoint_save())
        except Exception as error:
            raise ConfigurationError(
                f"The workflow's executor {name!r} cannot be restored between conversations: its "
                f"on_checkpoint_save() failed ({error}). Return plain values from it, or give the host a factory "
                "that constructs its executors."
            ) from error
    _initial[workflow] = states
    return states


def blank_checkpoint(workflow: Workflow, states: dict[str, dict[str, Any]]) -> WorkflowCheckpoint:
    """Describe the workflow as it was before its first turn."""
    from agent_framework import WorkflowCheckpoint

    return WorkflowCheckpoint(
        workflow_name=workflow.name,
        graph_signature_hash=workflow.graph_signature_hash,
        state={"_executor_state": copy.deepcopy(states)},
    )


def forgetful_executors(workflow: Workflow) -> list[str]:
    """Name the executors that hold attributes of their own but have no checkpoint hooks."""
    from agent_framework import Executor, FunctionExecutor

    plain = set(vars(Executor(id="plain", defer_discovery=True))) | _REQUEST_ATTRIBUTES
    return sorted(
        name
        for name, executor in workflow.executors.items()
        if not isinstance(executor, FunctionExecutor) and not _has_hooks(executor) and set(vars(executor)) - plain
    )


def _has_hooks(executor: Executor) -> bool:
    from agent_framework import Executor

    return type(executor).on_checkpoint_save is not Executor.on_checkpoint_save
