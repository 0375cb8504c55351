"""Runs `workflow.as_agent()`: an agent with a session, whose workflow has a checkpoint as well."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from agent_framework import AgentResponse, Content, InMemoryHistoryProvider, Message

from ..errors import InvalidRequest
from ..requests import ChannelRequest
from ..state.checkpoints import TurnCheckpoints
from ..state.sessions import encode_session
from .agents import AgentRun, has_content, restore_session
from .instances import SharedWorkflow
from .messages import input_messages, origin
from .run import Outcome
from .workflows import response_values, restore, workflow_outcome

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate, AgentSession, WorkflowAgent, WorkflowCheckpoint

    from ..state.conversations import Turn


# All that a workflow agent takes while it waits for answers.
_ANSWERS = frozenset({"function_approval_response", "function_result", "computer_tool_result"})


class WorkflowAgentRunner:
    """Runs one workflow agent, one turn at a time, restored before each."""

    def __init__(self, agent: WorkflowAgent, instances: SharedWorkflow) -> None:
        self.target = agent
        self._instances = instances

    async def prepare(self, request: ChannelRequest, turn: Turn | None, *, wait: float) -> WorkflowAgentRun:
        if request.options:
            raise InvalidRequest("options", "A workflow agent takes no `options`; send the request without them.")
        stored = None if turn is None else turn.checkpoint
        session = restore_session(self.target, turn)
        messages = input_messages(request) if request.responses is None else [_answers(request, stored)]
        answering = stored is not None and bool(stored.pending_request_info_events)
        if answering and any(content.type not in _ANSWERS for message in messages for content in message.contents):
            raise InvalidRequest(
                "responses", "This conversation waits for answers: send them in `responses` before anything else."
            )
        stack = AsyncExitStack()
        try:
            workflow = await stack.enter_async_context(self._instances.use(wait))
            checkpoints = TurnCheckpoints(stored or self._instances.blank(workflow))
            run = AgentRun(self.target, messages, session, turn, {"checkpoint_storage": checkpoints})
            return WorkflowAgentRun(self.target, run, messages if answering else [], checkpoints, turn, stack)
        except BaseException:
            await stack.aclose()
            raise


def _answers(request: ChannelRequest, stored: WorkflowCheckpoint | None) -> Message:
    responses = request.responses or {}
    values = response_values(responses, stored)
    contents = [_answer(request_id, value) for request_id, value in values.items()]
    return Message("user", contents, additional_properties={"hosting": origin(request)})


def _answer(request_id: str, value: object) -> Content:
    if isinstance(value, Content):
        return value
    content = Content.from_function_result(request_id, result=value)
    content.result = value  # It was made text, which the workflow refuses where it asked for something else.
    return content


class WorkflowAgentRun:
    """One run of a workflow agent."""

    def __init__(
        self,
        agent: WorkflowAgent,
        run: AgentRun,
        answers: Sequence[Message],
        checkpoints: TurnCheckpoints,
        turn: Turn | None,
        stack: AsyncExitStack,
    ) -> None:
        self._agent = agent
        self._run = run
        self._checkpoints = checkpoints
        self._turn = turn
        self._stack = stack
        self._answers = answers
        self._held = _HeldHistory(agent, run.session) if answers and run.session is not None else None
        self.session: AgentSession | None = run.session

    async def once(self) -> AgentResponse:
        await restore(self._agent.workflow, self._checkpoints, self._turn)
        result = await self._run.once()
        self._give_back()
        return result

    async def updates(self) -> AsyncIterator[AgentResponseUpdate]:
        await restore(self._agent.workflow, self._checkpoints, self._turn)
        return await self._run.updates()

    async def final(self) -> AgentResponse:
        result = await self._run.final()
        self._give_back()
        return result

    async def outcome(self, result: AgentResponse) -> Outcome:
        outcome = workflow_outcome(self._checkpoints.last)
        if self._turn is not None and self.session is not None:
            outcome.snapshot = encode_session(self._turn.key, self.session)
            outcome.resumable = outcome.resumable or has_content(self.session)
        return outcome

    async def close(self) -> None:
        try:
            await self._run.close()
        finally:
            await self._stack.aclose()

    def _give_back(self) -> None:
        if self._held is not None:
            self._held.give_back()
        for content in (content for message in self._answers for content in message.contents):
            if content.type == "function_result" and content.items:
                content.result = "".join(item.text or "" for item in content.items)  # History is plain JSON.


class _HeldHistory:
    """Keeps the history out of a run that answers requests.

    A workflow agent that waits for answers refuses every other content, and its history provider would hand it
    the whole conversation.
    """

    def __init__(self, agent: WorkflowAgent, session: AgentSession) -> None:
        names = {InMemoryHistoryProvider.DEFAULT_SOURCE_ID}
        names |= {item.source_id for item in agent.context_providers if isinstance(item, InMemoryHistoryProvider)}
        self._session = session
        self._held: dict[str, Any] = {name: session.state.pop(name) for name in names if name in session.state}

    def give_back(self) -> None:
        for name, before in self._held.items():
            added = self._session.state.get(name, {}).get("messages", [])
            self._session.state[name] = {**before, "messages": [*before.get("messages", []), *added]}
