"""Runs an agent for one turn, in its conversation's session."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

from agent_framework import AgentResponse, AgentSession, Content, Message, ResponseStream

from ..errors import InvalidRequest
from ..requests import ChannelRequest
from ..state.sessions import StoredSession, decode_session, encode_session
from .approvals import approval_request, approval_response, check_answers, is_approval
from .calls import answered_calls, open_calls
from .messages import input_messages, origin
from .run import Outcome

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate, SupportsAgentRun

    from ..state.conversations import Turn


class AgentRunner:
    """Runs one agent; turns of different conversations run side by side."""

    def __init__(self, agent: SupportsAgentRun) -> None:
        self.target = agent
        self._takes_options = takes_options(agent)

    async def prepare(self, request: ChannelRequest, turn: Turn | None, *, wait: float) -> AgentRun:
        stored = restore_session(self.target, turn)
        if request.responses is None:
            messages = input_messages(request)
        else:
            messages = [answers(request, stored)]
        if stored is not None:
            answered = answered_calls(messages, stored.pending)
            stored.pending = [item for item in stored.pending if item.get("call_id") not in answered]
        else:
            answered_calls(messages, ())
        return AgentRun(self.target, messages, stored, turn, self.keywords(request))

    def keywords(self, request: ChannelRequest) -> dict[str, Any]:
        """Give the request's options as keyword arguments.

        Raises:
            InvalidRequest: The agent takes none.
        """
        if request.options and not self._takes_options:
            raise InvalidRequest(
                "options", f"{type(self.target).__name__}.run() takes no `options`; send the request without them."
            )
        return {"options": dict(request.options)} if request.options else {}


def takes_options(agent: SupportsAgentRun) -> bool:
    """Whether the agent's `run` has a parameter `options`."""
    try:
        return "options" in inspect.signature(agent.run).parameters
    except (TypeError, ValueError):
        return False


def restore_session(agent: SupportsAgentRun, turn: Turn | None) -> StoredSession | None:
    """Read the session of a turn, or begin a new one; None without a conversation."""
    if turn is None:
        return None
    if turn.snapshot is None:
        return StoredSession(agent.create_session(session_id=turn.session), [])
    stored = decode_session(turn.name, turn.snapshot, turn.stored_key)
    if stored.session.session_id != turn.session:  # It was copied from a parent.
        given = stored.session
        stored.session = AgentSession(session_id=turn.session, service_session_id=given.service_session_id)
        stored.session.state = given.state
    return stored


def answers(request: ChannelRequest, stored: StoredSession | None) -> Message:
    """Turn the answers to tool approvals into one message, and leave the unanswered ones pending.

    Raises:
        InvalidRequest: An answer fits no pending approval of the conversation.
    """
    responses = request.responses or {}
    pending = stored.pending if stored is not None else []
    waiting = {cast("str", item["id"]): item for item in pending if item["type"] == "function_approval_request"}
    check_answers(responses, list(waiting))
    contents = [
        approval_response(Content.from_dict(waiting[request_id]), answer, request_id)
        for request_id, answer in responses.items()
    ]
    if stored is not None:
        stored.pending = [item for item in pending if item["type"] == "function_call" or item["id"] not in responses]
    return Message("user", contents, additional_properties={"hosting": origin(request)})


@runtime_checkable
class AgentStream(Protocol):
    """What an agent gives for `stream=True`: the framework's `ResponseStream`, or one that works like it."""

    def __aiter__(self) -> AsyncIterator[AgentResponseUpdate]: ...

    async def get_final_response(self) -> AgentResponse: ...


class AgentRun:
    """One run of an agent."""

    def __init__(
        self,
        agent: SupportsAgentRun,
        messages: Sequence[Message],
        stored: StoredSession | None,
        turn: Turn | None,
        keywords: dict[str, Any],
    ) -> None:
        self._agent = agent
        self._messages = messages
        self._turn = turn
        self._keywords = keywords
        self._unanswered = [Content.from_dict(item) for item in stored.pending] if stored is not None else []
        self._stream: AgentStream | None = None
        self.session: AgentSession | None = stored.session if stored is not None else None

    async def once(self) -> AgentResponse:
        return await self._agent.run(self._messages, session=self.session, **self._keywords)

    async def updates(self) -> AsyncIterator[AgentResponseUpdate]:
        # A custom agent may give its stream from a coroutine, and as a plain iterator.
        given = cast("object", self._agent.run(self._messages, stream=True, session=self.session, **self._keywords))
        if not isinstance(given, AsyncIterable):
            given = await cast("Awaitable[object]", given)
        if not isinstance(given, AgentStream):
            updates = cast("AsyncIterable[AgentResponseUpdate]", given)
            given = ResponseStream(updates, finalizer=AgentResponse.from_updates)
        self._stream = given
        return aiter(given)

    async def final(self) -> AgentResponse:
        assert self._stream is not None
        return await self._stream.get_final_response()

    async def outcome(self, result: AgentResponse) -> Outcome:
        # A partly answered batch is asked for again by the agent: one entry for each id.
        found = [*self._unanswered, *approval_contents(result), *open_calls(result, self._agent)]
        contents = {(content.type, content.call_id or content.id): content for content in found}.values()
        outcome = Outcome([approval_request(content) for content in contents if is_approval(content)])
        if self._turn is None or self.session is None:
            return outcome
        # What was stored once is stored again, also when it has become nothing.
        if contents or has_content(self.session) or self._turn.snapshot is not None:
            outcome.snapshot = encode_session(self._turn.key, self.session, [content.to_dict() for content in contents])
            outcome.resumable = True
        return outcome

    async def close(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            await close_stream(stream)


def approval_contents(result: object) -> list[Content]:
    if not isinstance(result, AgentResponse):
        return []
    return [content for content in result.user_input_requests if is_approval(content)]


def has_content(session: AgentSession) -> bool:
    """Whether a next turn would need this session; an empty one is not stored, but made again.

    The framework leaves an empty dictionary behind for each of an agent's context providers.
    """
    if session.service_session_id is not None:
        return True
    return bool(session.state) and any(value != {} for value in session.state.values())


async def close_stream(stream: object) -> None:
    """End a stream that may not have been read to its end."""
    for name in ("close", "aclose"):
        method = getattr(stream, name, None)
        if method is not None:
            closing = method()
            if inspect.isawaitable(closing):
                await closing
            return
