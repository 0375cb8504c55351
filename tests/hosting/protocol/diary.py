"""Conversations whose history is a list of words, and the agent that keeps it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from agent_framework import AgentResponse, AgentResponseUpdate, AgentSession, Content, ResponseStream
from opentelemetry.trace import Tracer

from agent_framework_hosting import ChannelContext, ChannelRequest, ChannelSession, HostLimits
from agent_framework_hosting.errors import InvalidRequest
from agent_framework_hosting.state.checkpoints import StoredCheckpoints
from agent_framework_hosting.state.head import INLINE_BYTES
from agent_framework_hosting.state.sessions import decode_session
from agent_framework_hosting.state.store import UNCHANGED, StateStore, Version
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting.targets import TargetSource
from agent_framework_hosting.turns import Turns

LONG = HostLimits(turn_timeout=timedelta(seconds=30))
SHORT = HostLimits(lease=timedelta(seconds=2), turn_timeout=timedelta(seconds=15))
LARGE = INLINE_BYTES + 1000


async def nothing(word: str) -> None:
    return None


class Diary:
    """An agent that writes down what it hears and answers `<n>: <word>`.

    It streams two updates; `between(word)` is awaited after the first. With `padding` its sessions are that large.
    """

    id = "diary"
    name = "diary"
    description = "Writes it down."

    def __init__(self, between: Callable[[str], Awaitable[None]] = nothing, *, padding: int = 0) -> None:
        self.between = between
        self.padding = padding
        self.heard: list[str] = []

    def create_session(self, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(session_id=session_id)

    def get_session(self, service_session_id: Any, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(session_id=session_id, service_session_id=service_session_id)

    def run(
        self, messages: Any = None, *, stream: bool = False, session: AgentSession | None = None, **options: Any
    ) -> Any:
        updates = ResponseStream(self.updates(messages, session), finalizer=AgentResponse.from_updates)
        return updates if stream else updates.get_final_response()

    async def updates(self, messages: Any, session: AgentSession | None) -> AsyncIterator[AgentResponseUpdate]:
        word = messages[-1].text
        self.heard.append(word)
        diary: list[str] = []
        if session is not None:
            diary = session.state.setdefault("diary", [])
            session.state["padding"] = "x" * self.padding
        diary.append(word)
        yield AgentResponseUpdate(contents=[Content.from_text(f"{len(diary)}:")], role="assistant", message_id="m")
        await self.between(word)
        yield AgentResponseUpdate(contents=[Content.from_text(f" {word}")], role="assistant", message_id="m")


def request(key: str | None, word: str, *, turn: str | None = None, **session: Any) -> ChannelRequest:
    return ChannelRequest(
        channel="test",
        operation="turn",
        input=word,
        session=ChannelSession(key, **session),
        attributes={} if turn is None else {"idempotency_key": turn},
    )


@asynccontextmanager
async def hosted(
    store: StateStore, target: Any, limits: HostLimits = LONG, *, tracer: Tracer | None = None, **parts: Any
) -> AsyncIterator[ChannelContext]:
    """Serve a target on a store as a host does; `parts` go to its `StoredConversations`."""
    source = TargetSource(target)
    await source.start()
    conversations = StoredConversations(store, limits, **parts)
    conversations.keeper = StoredCheckpoints(store)
    turns = Turns(conversations, turn_timeout=limits.turn_timeout.total_seconds())
    turns.runner = await source.runner()
    turns.tracer = tracer
    try:
        yield ChannelContext("test", source, turns, store, limits)
    finally:
        await conversations.close()


async def say(context: ChannelContext, key: str, word: str, **how: Any) -> str:
    """Take a turn and give the answer."""
    return (await context.run(request(key, word, **how))).result.text


async def written(store: StateStore, name: str) -> tuple[bytes, Version]:
    """Read a document that is there."""
    found = await store.get(name)
    assert found is not None and found is not UNCHANGED
    return found


async def read_diary(store: StateStore, key: str) -> list[str]:
    """What is stored of a conversation."""
    conversations = StoredConversations(store, LONG)
    try:
        snapshot, _ = await conversations.peek(key)
    except InvalidRequest:
        return []
    finally:
        await conversations.close()
    return [] if snapshot is None else decode_session(key, snapshot, key).session.state["diary"]
