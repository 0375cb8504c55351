"""What the host uses of the framework beyond its public names: all of it, and only here.

Nothing is imported before it is needed: an agent's cold start does not pay for workflows.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, Final, TypeGuard, cast

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

    from agent_framework import (
        CheckpointStorage,
        ResponseStream,
        Workflow,
        WorkflowAgent,
        WorkflowCheckpoint,
        WorkflowEvent,
        WorkflowRunResult,
    )

UNNAMED: Final = "WorkflowBuilder-"
"""How the name of a workflow begins that was given none."""

EXECUTOR_STATES: Final = "_executor_state"
"""The entry of a checkpoint's state with what each executor saved."""

_WORKFLOWS: Final = "agent_framework._workflows"


def is_workflow(value: object) -> TypeGuard[Workflow]:
    """Whether a value is a workflow; where the engine was never imported nothing is one."""
    module = sys.modules.get(f"{_WORKFLOWS}._workflow")
    return module is not None and isinstance(value, module.Workflow)


def is_workflow_agent(value: object) -> TypeGuard[WorkflowAgent]:
    module = sys.modules.get(f"{_WORKFLOWS}._agent")
    return module is not None and isinstance(value, module.WorkflowAgent)


def is_functional(value: object) -> bool:
    """Whether a value is a functional workflow, or an agent of one."""
    return type(value).__module__ == f"{_WORKFLOWS}._functional"


def own_checkpoints(workflow: Workflow) -> CheckpointStorage | None:
    """Give the checkpoint storage that a workflow was built with."""
    context = cast("Any", workflow._runner_context)  # pyright: ignore[reportPrivateUsage]
    return cast("CheckpointStorage | None", context._checkpoint_storage)


def unfinished_run(workflow: Workflow) -> ResponseStream[WorkflowEvent, WorkflowRunResult] | None:
    """Give the run that a workflow is in the middle of; it refuses to begin another one before that is closed."""
    run = workflow._active_run  # pyright: ignore[reportPrivateUsage]
    return None if run is None else run()


def executor_states(checkpoint: WorkflowCheckpoint) -> Mapping[str, object]:
    return cast("Mapping[str, object]", checkpoint.state.get(EXECUTOR_STATES, {}))


def shared_state(checkpoint: WorkflowCheckpoint) -> Mapping[str, object]:
    """Give what a workflow shares between its executors, without the engine's own entries."""
    from agent_framework._workflows import _const

    own = {value for name, value in vars(_const).items() if name.endswith("_KEY")}
    return {name: value for name, value in checkpoint.state.items() if name not in own}


def types_with_codec() -> Container[type[object]]:
    """Give the types whose values are restored from a stored session as what they were."""
    from agent_framework._sessions import _STATE_CLASS_REGISTRY  # pyright: ignore[reportPrivateUsage]

    return _STATE_CLASS_REGISTRY


def is_taken(type_id: object) -> bool:
    """Whether a dictionary in a stored session with this `type` is read as a value of a registered type."""
    from agent_framework._sessions import _STATE_TYPE_REGISTRY  # pyright: ignore[reportPrivateUsage]

    return str(type_id) in _STATE_TYPE_REGISTRY


def encode_value(value: object) -> object:
    """Give a value as JSON with pickled parts.

    Raises:
        Exception: Something in it cannot be pickled.
    """
    from agent_framework._workflows._checkpoint_encoding import encode_checkpoint_value

    return encode_checkpoint_value(value)


def decode_value(value: object, *, allowed: Collection[str] | None) -> Any:
    """Read what `encode_value` gave; `allowed` names types beside the framework's and the registered ones, None all.

    Raises:
        Exception: It cannot be read, or holds another type.
    """
    from agent_framework._workflows._checkpoint_encoding import decode_checkpoint_value

    return decode_checkpoint_value(value, allowed_types=None if allowed is None else frozenset(allowed))


def workflow_logger() -> logging.Logger:
    """Give the logger of `Workflow`."""
    return logging.getLogger(f"{_WORKFLOWS}._workflow")


def is_run_result(value: object) -> TypeGuard[WorkflowRunResult]:
    """Whether a value is what a workflow's run gave."""
    module = sys.modules.get(f"{_WORKFLOWS}._workflow")
    return module is not None and isinstance(value, module.WorkflowRunResult)


def run_result(shown: list[tuple[Any, str | None, Any]]) -> WorkflowRunResult:
    """Make what a workflow's run gave, of the types, executors and data of its events; how it ended is not known."""
    from agent_framework import WorkflowEvent, WorkflowRunResult

    return WorkflowRunResult([WorkflowEvent(kind, data, executor_id=executor) for kind, executor, data in shown])
