"""What the executors of a workflow hold, and how to bring them back to it."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from ..errors import ConfigurationError
from ..internals import EXECUTOR_STATES, unfinished_run

if TYPE_CHECKING:
    from agent_framework import Executor, Workflow, WorkflowCheckpoint

# What the framework itself keeps on an executor that asks for information.
_REQUEST_ATTRIBUTES = {"_response_handlers", "_response_handler_specs", "is_request_response_capable"}
_initial: WeakKeyDictionary[Executor, dict[str, Any]] = WeakKeyDictionary()


def workflows_of(workflow: Workflow) -> list[Workflow]:
    """Give a workflow and all that a run of it reaches inside."""
    found = [workflow]
    for executor in workflow.executors.values():
        if (inner := inner_workflow(executor)) is not None:
            found += workflows_of(inner)
    return found


def inner_workflow(executor: Executor) -> Workflow | None:
    from agent_framework import AgentExecutor, WorkflowAgent, WorkflowExecutor

    if isinstance(executor, WorkflowExecutor):
        return executor.workflow
    if isinstance(executor, AgentExecutor) and isinstance(executor.agent, WorkflowAgent):
        return executor.agent.workflow
    return None


def executors_of(workflow: Workflow) -> list[Executor]:
    return [executor for part in workflows_of(workflow) for executor in part.executors.values()]


async def end_runs(workflow: Workflow) -> None:
    """End what still runs: closing the stream of a workflow agent leaves that to the garbage collector."""
    for part in workflows_of(workflow):
        if (run := unfinished_run(part)) is not None:
            await run.close()


async def initial_states(workflow: Workflow) -> dict[str, dict[str, Any]]:
    """Ask every executor what it holds; an agent executor starts with a session of its own each time.

    An executor is asked once in its life: by the next host that serves it, it has run.
    """
    states: dict[str, dict[str, Any]] = {}
    for name, executor in workflow.executors.items():
        if executor not in _initial:
            try:
                _initial[executor] = copy.deepcopy(await initial_state(executor))
            except Exception as error:
                raise ConfigurationError(
                    f"The workflow's executor {name!r} cannot be restored between conversations: its "
                    f"on_checkpoint_save() failed ({error}). Return plain values from it, or give the host a factory "
                    "that constructs its executors."
                ) from error
        states[name] = _initial[executor]
    return states


async def initial_state(executor: Executor) -> dict[str, Any]:
    from agent_framework import AgentExecutor, WorkflowExecutor

    if isinstance(executor, AgentExecutor):
        return {}
    if isinstance(executor, WorkflowExecutor):
        # As it would save itself, but for the sessions of the agents inside.
        inner = executor.workflow
        return {"sub_workflow_checkpoint": blank_checkpoint(inner, await initial_states(inner))}
    return await executor.on_checkpoint_save()


def blank_checkpoint(workflow: Workflow, states: dict[str, dict[str, Any]]) -> WorkflowCheckpoint:
    """Describe the workflow as it was before its first turn."""
    from agent_framework import WorkflowCheckpoint

    return WorkflowCheckpoint(
        workflow_name=workflow.name,
        graph_signature_hash=workflow.graph_signature_hash,
        state={EXECUTOR_STATES: copy.deepcopy(states)},
    )


def forgetful_executors(workflow: Workflow) -> list[str]:
    """Name the executors that hold something of their own which no checkpoint covers."""
    return sorted({executor.id for executor in executors_of(workflow) if is_forgetful(executor)})


def is_forgetful(executor: Executor) -> bool:
    from agent_framework import AgentExecutor, Executor, FunctionExecutor

    if isinstance(executor, FunctionExecutor):
        return False
    if isinstance(executor, AgentExecutor):
        # It saves the agent's session, not a workflow behind the agent, nor what a subclass keeps beside it.
        plain, covering = AgentExecutor(executor.agent, id="plain"), AgentExecutor
    else:
        plain, covering = Executor(id="plain", defer_discovery=True), Executor
    if holds_workflow_agent(executor):
        return True
    return not _has_hooks(executor, beyond=covering) and not set(vars(executor)) <= {*vars(plain), *_REQUEST_ATTRIBUTES}


def holds_workflow_agent(executor: Executor) -> bool:
    """Whether a workflow is behind an executor's agent: a checkpoint has that agent's session, not its workflow."""
    from agent_framework import AgentExecutor

    return isinstance(executor, AgentExecutor) and inner_workflow(executor) is not None


def _has_hooks(executor: Executor, *, beyond: type[Executor]) -> bool:
    """Whether an executor saves and restores more than `beyond` does."""
    kind = type(executor)
    return (
        kind.on_checkpoint_save is not beyond.on_checkpoint_save
        and kind.on_checkpoint_restore is not beyond.on_checkpoint_restore
    )
