"""An agent that needs no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from agent_framework import AgentResponse, AgentResponseUpdate, AgentSession, Content, Message, ResponseStream


class EchoAgent:
    """Answers `<turn>: <text>` and counts turns in its session; streams one word at a time.

    A text that starts with `fail` raises; `wait` waits for `gate` after the first word.
    """

    id = "echo"
    name = "echo"
    description = "Says it again."

    def __init__(self) -> None:
        self.runs = 0
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.cancelled = False

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
        self.runs += 1
        heard = messages[-1] if isinstance(messages, list) else messages
        text = heard.text if isinstance(heard, Message) else str(heard)
        if text.startswith("fail"):
            raise ValueError("the agent's own secret")
        turn = 1
        if session is not None:
            turn = session.state["turns"] = session.state.get("turns", 0) + 1
        for word in (f"{turn}:", *text.split()):
            lead = "" if word == f"{turn}:" else " "
            yield AgentResponseUpdate(contents=[Content.from_text(lead + word)], role="assistant", message_id="m")
            if text == "wait" and not lead:
                self.waiting.set()
                try:
                    await self.gate.wait()
                except asyncio.CancelledError:
                    self.cancelled = True
                    raise
