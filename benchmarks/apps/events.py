"""A hosted agent whose every chunk is the time at which it was made."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

from agent_framework import AgentResponseUpdate, AgentSession, Content

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_azure_functions import HostFunctionApp
from agent_framework_hosting_invocations import InvocationsChannel


class Ticker:
    """Takes `{"chunks": …, "pause": …}` as its message and gives that many chunks."""

    id = "ticker"
    name: str | None = "ticker"
    description: str | None = "Tells the monotonic time."

    def run(
        self, messages: Any = None, *, stream: bool = False, session: AgentSession | None = None, **kwargs: Any
    ) -> AsyncIterator[AgentResponseUpdate]:
        assert stream
        return self.ticks(**json.loads(messages[-1].text))

    async def ticks(self, chunks: int, pause: float) -> AsyncIterator[AgentResponseUpdate]:
        for _ in range(chunks):
            yield AgentResponseUpdate(contents=[Content.from_text(str(time.monotonic()))], role="assistant")
            await asyncio.sleep(pause)

    def create_session(self, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(session_id=session_id)

    def get_session(self, service_session_id: Any, *, session_id: str | None = None) -> AgentSession:
        return AgentSession(service_session_id=service_session_id, session_id=session_id)


app = HostFunctionApp(AgentFrameworkHost(Ticker(), channels=[InvocationsChannel(allow_anonymous=True)]))
