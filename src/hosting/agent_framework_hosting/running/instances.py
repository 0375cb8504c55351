"""Which workflow object a turn runs on, so that nothing of one conversation reaches another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakSet

from ..errors import ConfigurationError, TurnBusy
from ..state.queues import LocalQueues
from .executors import (
    blank_checkpoint,
    end_runs,
    executors_of,
    holds_workflow_agent,
    initial_states,
)

if TYPE_CHECKING:
    from agent_framework import Executor, Workflow, WorkflowCheckpoint


@runtime_checkable
class AsyncContext(Protocol):
    async def __aenter__(self) -> object: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None, /
    ) -> bool | None: ...


class WorkflowInstances(Protocol):
    """`model` shows what the workflow looks like; only what `use` gives may be run."""

    model: Workflow

    def use(self, wait: float) -> AbstractAsyncContextManager[Workflow]:
        """Give a workflow to run one turn on, after at most `wait` seconds.

        Raises:
            TurnBusy: None was free in time.
        """
        ...

    def blank(self, workflow: Workflow) -> WorkflowCheckpoint | None:
        """What to restore for a new conversation, or None where the workflow is new itself."""
        ...


class SharedWorkflow:
    """One workflow object for all conversations: one turn at a time, each restored first."""

    def __init__(self, workflow: Workflow, states: dict[str, dict[str, Any]]) -> None:
        self.model = workflow
        self._states = states
        self._queues = LocalQueues()

    @classmethod
    async def capture(cls, workflow: Workflow) -> SharedWorkflow:
        """Remember what the executors hold before their first turn.

        Raises:
            ConfigurationError: An executor's checkpoint hooks fail, or something in it cannot be restored.
        """
        check_shareable(executors_of(workflow))
        return cls(workflow, await initial_states(workflow))

    @asynccontextmanager
    async def use(self, wait: float) -> AsyncGenerator[Workflow]:
        async with AsyncExitStack() as stack:
            await line_up(stack, self._queues, [""], wait)
            try:
                yield self.model
            finally:
                await end_runs(self.model)

    def blank(self, workflow: Workflow) -> WorkflowCheckpoint | None:
        return blank_checkpoint(workflow, self._states)


class WorkflowFactory:
    """A workflow of its own for every turn.

    A factory whose workflows share executor objects gains little by that: turns on the same object run one at a time,
    and every turn on one that has run before is restored first.
    """

    def __init__(
        self,
        make: Callable[[], Awaitable[Workflow]],
        model: Workflow,
        states: dict[str, dict[str, Any]],
    ) -> None:
        self.model = model
        self._make = make
        self._states = states
        self._queues = LocalQueues()
        self._used: WeakSet[Executor] = WeakSet(executors_of(model))

    @classmethod
    async def capture(cls, make: Callable[[], Awaitable[Workflow]], model: Workflow) -> WorkflowFactory:
        return cls(make, model, await initial_states(model))

    @asynccontextmanager
    async def use(self, wait: float) -> AsyncGenerator[Workflow]:
        workflow = await self._make()
        executors = executors_of(workflow)
        async with AsyncExitStack() as stack:
            # In one order, so that no two turns wait for each other.
            await line_up(stack, self._queues, map(str, sorted(map(id, executors))), wait)
            if not self._used.isdisjoint(executors):
                check_shareable(executors)
            if isinstance(workflow, AsyncContext):
                await stack.enter_async_context(workflow)
            try:
                yield workflow
            finally:
                self._used.update(executors)
                await end_runs(workflow)

    def blank(self, workflow: Workflow) -> WorkflowCheckpoint | None:
        if self._used.isdisjoint(executors_of(workflow)):
            return None
        return blank_checkpoint(workflow, self._states)


def check_shareable(executors: Sequence[Executor]) -> None:
    """Refuse executors that cannot be brought back to where they began, for a next conversation.

    Raises:
        ConfigurationError: Names one.
    """
    for executor in executors:
        if holds_workflow_agent(executor):
            raise ConfigurationError(
                f"The executor {executor.id!r} runs an agent made from a workflow. One such object cannot serve "
                "several conversations: give the host a function that constructs the whole workflow, or put the "
                "inner workflow in with WorkflowExecutor."
            )


async def line_up(stack: AsyncExitStack, queues: LocalQueues, names: Iterable[str], wait: float) -> None:
    """Wait at most `wait` seconds for one's turn on each of some objects, one after another; the stack ends it.

    Raises:
        TurnBusy: They were not free in time.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + wait
    try:
        for name in names:
            stack.callback(await queues.enter(name, deadline - clock()))
    except TimeoutError:
        raise TurnBusy(
            "The workflow is busy with other conversations. Try again in a moment; give the host a factory that "
            "constructs its executors to run conversations side by side."
        ) from None
