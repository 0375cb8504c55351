"""An agent whose run ends as no run should: each end would mean something else to a host or its server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import NoReturn

from agent_framework import AgentResponseUpdate, AgentSession, Message
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from .targets import ScriptedAgent

SECRET = "what only the agent knows"


async def await_a_cancelled_task() -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


def raising(make: Callable[[], BaseException]) -> Callable[[], Awaitable[None]]:
    async def fail() -> NoReturn:
        raise make()

    return fail


ENDS: dict[str, Callable[[], Awaitable[None]]] = {
    "task-cancelled": await_a_cancelled_task,
    "CancelledError": raising(lambda: asyncio.CancelledError(SECRET)),
    "GeneratorExit": raising(lambda: GeneratorExit(SECRET)),
    "SystemExit": raising(lambda: SystemExit(SECRET)),
    "HTTPException": raising(lambda: HTTPException(418, SECRET, {"x-secret": SECRET})),
    "ClientDisconnect": raising(lambda: ClientDisconnect(SECRET)),
}
CAUSES = {"task-cancelled": "CancelledError"}


class EndingAgent(ScriptedAgent):
    """Ends as the text says, after an update if it says `late` too; counts its turns in the session first."""

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        end, _, when = messages[-1].text.partition(" ")
        async for update in super().updates(messages, session):
            if end in ENDS:
                if when == "late":
                    yield update
                await ENDS[end]()
            yield update
