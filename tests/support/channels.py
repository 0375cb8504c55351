"""A channel that shows its context, and a host around it that has been started."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelContext,
    ChannelContribution,
    ChannelRequest,
    ChannelSession,
    HostedRunResult,
    HostedStream,
)
from agent_framework_hosting.lifespan import Lifespan

PATIENCE = 10.0


class ProbeChannel:
    """Contributes what it is given; `context` is what a channel works with."""

    context: ChannelContext

    def __init__(self, name: str = "probe", path: str = "/probe", **contribution: Any) -> None:
        self.name = name
        self.path = path
        self.contribution = ChannelContribution(**{"authenticated": True, **contribution})

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.context = context
        return self.contribution


@dataclass
class Served:
    """A started host and the context of its one channel. A key of None asks outside any conversation."""

    host: AgentFrameworkHost
    context: ChannelContext

    async def ask(
        self, key: str | None, message: Any = None, *, hooks: Mapping[str, Any] | None = None, **request: Any
    ) -> HostedRunResult[Any]:
        return await self.context.run(request_of(key, message, **request), **(hooks or {}))

    async def finish(self, key: str | None, message: Any = None, *, stream: bool, **how: Any) -> Any:
        """Run a whole turn, either way, and give the target's result."""
        if not stream:
            return (await self.ask(key, message, **how)).result
        return await (await self.stream(key, message, **how))

    async def answer(self, key: str, responses: Mapping[str, Any]) -> HostedRunResult[Any]:
        return await self.ask(key, responses=responses)

    async def stream(
        self, key: str | None, message: Any = None, *, hooks: Mapping[str, Any] | None = None, **request: Any
    ) -> HostedStream:
        return await self.context.run_stream(request_of(key, message, stream=True, **request), **(hooks or {}))


def request_of(key: str | None, message: Any = None, **fields: Any) -> ChannelRequest:
    session = None if key is None else ChannelSession(key)
    return ChannelRequest(**{"channel": "probe", "operation": "test", "input": message, "session": session, **fields})


@asynccontextmanager
async def serving(target: Any, **host: Any) -> AsyncIterator[Served]:
    """Start a host with one channel, and stop it."""
    channel = ProbeChannel()
    served = AgentFrameworkHost(target, channels=[channel], **host)
    async with started(served):
        yield Served(served, channel.context)


async def until(condition: Callable[[], bool]) -> None:
    """Let other tasks run until a condition holds, for a bounded time."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - what it asks about has no event to wait for
            await asyncio.sleep(0)


@asynccontextmanager
async def started(host: AgentFrameworkHost) -> AsyncIterator[Lifespan]:
    lifespan = Lifespan(host.app)
    await lifespan.start()
    try:
        yield lifespan
    finally:
        await lifespan.stop()
