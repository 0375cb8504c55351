"""Agents that do nothing, so that only the host's work is measured."""

from __future__ import annotations

from typing import Any

from agent_framework import AgentResponse, AgentSession, Message

from agent_framework_hosting import ChannelContext, ChannelContribution

ANSWER = "It is on its way and will be with you on Thursday."


class FixedAgent:
    """Gives one answer, made of the framework's own objects for each call."""

    id = "fixed"
    name: str | None = "fixed"
    description: str | None = "Gives one answer."

    async def run(self, messages: Any = None, *, session: AgentSession | None = None, **kwargs: Any) -> AgentResponse:
        return AgentResponse(messages=[Message("assistant", [ANSWER])])

    def create_session(self, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(session_id=session_id)

    def get_session(self, service_session_id: Any, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(service_session_id=service_session_id, session_id=session_id)


class RememberingAgent(FixedAgent):
    """Its sessions hold `messages` messages from the start, as the framework's in-memory history keeps them."""

    def __init__(self, messages: int) -> None:
        self.messages = messages

    def create_session(self, *, session_id: str | None = None) -> AgentSession:
        session = AgentSession(session_id=session_id)
        session.state["in_memory"] = {"messages": [message(number) for number in range(self.messages)]}
        return session


def message(number: int) -> Message:
    """Make one message of a history: 200 of them give about 62 KB of JSON."""
    text = f"Message {number} of a conversation about an order that has not come, and what can be done about it now."
    mark = {"hosting": {"channel": "invocations", "identity": {"channel": "invocations", "native_id": "shop"}}}
    if number % 2:
        return Message("assistant", [text], author_name="support", message_id=f"msg-{number:04}")
    return Message("user", [text], additional_properties=mark)


class Probe:
    """A channel that hands its context out: turns are measured without HTTP."""

    name = "probe"
    path = "/probe"
    context: ChannelContext

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.context = context
        return ChannelContribution(authenticated=True)
