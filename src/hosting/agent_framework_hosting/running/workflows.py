"""Runs a workflow for one turn, from the checkpoint its conversation names to the one that the turn leaves."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Mapping
from contextlib import AsyncExitStack
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING, Any

from agent_framework import WorkflowCheckpointException

from ..errors import ConfigurationError, InvalidRequest, StateDamaged
from ..internals import executor_states, shared_state, workflow_logger
from ..requests import ChannelRequest
from ..state.checkpoints import TurnCheckpoints
from .agents import close_stream
from .approvals import check_answers
from .instances import WorkflowInstances
from .outputs import output_update, pending_requests, response_value
from .run import Outcome

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate, Workflow, WorkflowCheckpoint, WorkflowEvent, WorkflowRunResult

    from ..state.conversations import Turn


_restoring: ContextVar[bool] = ContextVar("hosting_restoring", default=False)


@cache
def quiet_restores() -> None:
    """Drop the engine's warning that a restore replaces pending requests: they are another conversation's."""
    workflow_logger().addFilter(lambda record: not _restoring.get())


class WorkflowRunner:
    """Runs workflows; `instances` decides whether conversations run side by side or in line."""

    def __init__(self, instances: WorkflowInstances) -> None:
        self._instances = instances
        self.target = instances.model

    async def prepare(self, request: ChannelRequest, turn: Turn | None, *, wait: float) -> WorkflowRun:
        if request.options:
            raise InvalidRequest("options", "A workflow takes no `options`; send the request without them.")
        stored = None if turn is None else turn.checkpoint
        responses = None if request.responses is None else response_values(request.responses, stored)
        stack = AsyncExitStack()
        try:
            workflow = await stack.enter_async_context(self._instances.use(wait))
            if responses is None:
                check_input(workflow, request.input)
            checkpoints = TurnCheckpoints(stored or self._instances.blank(workflow))
            return WorkflowRun(workflow, request.input, responses, checkpoints, turn, stack)
        except BaseException:
            await stack.aclose()
            raise


def response_values(responses: Mapping[str, Any], stored: WorkflowCheckpoint | None) -> dict[str, Any]:
    """Check answers against what the stored workflow waits for.

    Raises:
        InvalidRequest: One belongs to no pending request, or has the wrong type.
    """
    waiting = stored.pending_request_info_events if stored is not None else {}
    check_answers(responses, list(waiting))
    return {key: response_value(waiting[key], answer, key) for key, answer in responses.items()}


def check_input(workflow: Workflow, value: object) -> None:
    """Refuse an input that the workflow's first executor has no handler for.

    Raises:
        InvalidRequest: Names the types it takes.
    """
    from agent_framework import WorkflowMessage

    if value is None:
        raise InvalidRequest("message", "There is no message to run the workflow with.")
    start = workflow.get_start_executor()
    if not start.can_handle(WorkflowMessage(data=value, source_id="hosting", target_id=start.id)):
        kinds = ", ".join(getattr(kind, "__name__", str(kind)) for kind in start.input_types)
        raise InvalidRequest("message", f"This workflow takes {kinds}, not {type(value).__name__}.")


class WorkflowRun:
    """One run of a workflow."""

    session: None = None

    def __init__(
        self,
        workflow: Workflow,
        message: object,
        responses: Mapping[str, Any] | None,
        checkpoints: TurnCheckpoints,
        turn: Turn | None,
        stack: AsyncExitStack,
    ) -> None:
        self._workflow = workflow
        self._message = message
        self._responses = responses
        self._checkpoints = checkpoints
        self._turn = turn
        self._stack = stack
        self._stream: Any = None

    async def once(self) -> WorkflowRunResult:
        await restore(self._workflow, self._checkpoints, self._turn)
        return await self._workflow.run(**self._arguments())

    async def updates(self) -> AsyncIterator[AgentResponseUpdate]:
        await restore(self._workflow, self._checkpoints, self._turn)
        self._stream = self._workflow.run(stream=True, **self._arguments())
        return outputs_in(self._stream)

    async def final(self) -> WorkflowRunResult:
        return await self._stream.get_final_response()

    async def outcome(self, result: WorkflowRunResult) -> Outcome:
        return workflow_outcome(self._checkpoints.last)

    async def close(self) -> None:
        stream, self._stream = self._stream, None
        try:
            await close_stream(stream)
        finally:
            await self._stack.aclose()

    def _arguments(self) -> dict[str, Any]:
        if self._responses is not None:
            return {"responses": self._responses, "checkpoint_storage": self._checkpoints}
        return {"message": self._message, "checkpoint_storage": self._checkpoints}


async def outputs_in(events: AsyncIterable[WorkflowEvent[Any]]) -> AsyncIterator[AgentResponseUpdate]:
    async for event in events:
        if event.type == "output":
            yield output_update(event)


async def restore(workflow: Workflow, checkpoints: TurnCheckpoints, turn: Turn | None) -> None:
    """Bring the workflow to where its conversation left it, whatever it ran before.

    Raises:
        StateDamaged: The stored checkpoint does not fit the workflow.
    """
    if checkpoints.start is None:
        return
    quiet_restores()
    token = _restoring.set(True)
    try:
        await workflow.run(checkpoint_id=checkpoints.start.checkpoint_id, checkpoint_storage=checkpoints)
    except WorkflowCheckpointException as error:
        name = "memory" if turn is None else turn.name
        raise StateDamaged(
            name,
            f"The workflow cannot go on from the checkpoint of {name!r}: {error} It was kept; deploy the workflow "
            "that made it, or reset the conversation.",
        ) from error
    finally:
        _restoring.reset(token)
    checkpoints.restored()


def workflow_outcome(last: WorkflowCheckpoint | None) -> Outcome:
    """Tell what the last checkpoint of a run leaves; its pending requests are what the conversation waits for.

    Raises:
        ConfigurationError: The framework could not make the one at the run's end.
    """
    # A run ends when no messages are left: a checkpoint that holds some is an earlier one.
    if last is None or last.messages:
        raise save_failed()
    pending = pending_requests(last.pending_request_info_events)
    return Outcome(pending, checkpoint=last, resumable=bool(pending) or has_state(last))


def has_state(checkpoint: WorkflowCheckpoint) -> bool:
    """Whether a next turn would find anything: executor state or shared state of the workflow's own."""
    return any(executor_states(checkpoint).values()) or bool(shared_state(checkpoint))


def save_failed() -> ConfigurationError:
    """Say that the framework swallowed an error while it made the checkpoint.

    The engine logs such an error and goes on, which would answer with a state that was never saved.
    """
    return ConfigurationError(
        "The workflow's state could not be captured, so the turn was not saved: an executor's on_checkpoint_save() "
        "failed. The log of agent_framework has the cause."
    )
