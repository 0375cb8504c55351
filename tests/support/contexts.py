"""A host that does what a test tells it to, for tests of what a channel does by itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence
from typing import Any

from agent_framework import AgentResponse, AgentResponseUpdate, Content, Message
from starlette.applications import Starlette

from agent_framework_hosting.channels import Channel, OnSaved
from agent_framework_hosting.limits import HostLimits
from agent_framework_hosting.requests import ChannelRequest, HostedRunResult
from agent_framework_hosting.routing import place
from agent_framework_hosting.state.store import Condition, Version

Respond = Callable[[ChannelRequest], Awaitable[HostedRunResult[Any]]]


def agent_result(text: str, **how: Any) -> HostedRunResult[Any]:
    return HostedRunResult(AgentResponse(messages=[Message("assistant", [text])]), **{"saved": True, **how})


def update(text: str) -> AgentResponseUpdate:
    return AgentResponseUpdate(contents=[Content.from_text(text)], role="assistant")


class DocumentStore:
    """A dict. `failure` is raised by every operation; `on_get` runs before each read."""

    def __init__(self) -> None:
        self.documents: dict[str, bytes] = {}
        self.failure: Exception | None = None
        self.on_get: Callable[[str], None] = lambda name: None

    async def get(self, name: str, *, unless: Version | None = None) -> tuple[bytes, Version] | None:
        self.on_get(name)
        if self.failure is not None:
            raise self.failure
        data = self.documents.get(name)
        return None if data is None else (data, "1")

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        if self.failure is not None:
            raise self.failure
        self.documents[name] = data
        return "1"

    async def delete(self, name: str) -> None:
        self.documents.pop(name, None)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        names = sorted(name for name in self.documents if name.startswith(prefix) and name > after)
        return names[:limit]


class ScriptedStream:
    """A turn that gives what it is told: an update, an exception to raise, or an event to wait for."""

    session: Any | None = None

    def __init__(
        self,
        script: Sequence[AgentResponseUpdate | Exception | asyncio.Event],
        final: object,
        on_saved: OnSaved | None = None,
    ) -> None:
        self.script = script
        self.final = final
        self.on_saved = on_saved
        self.hosted: HostedRunResult[Any] | None = None
        self.waiting = asyncio.Event()
        self.cancelled = False
        self.closed = 0

    async def __aiter__(self) -> AsyncIterator[AgentResponseUpdate]:
        for step in self.script:
            if isinstance(step, Exception):
                raise step
            if isinstance(step, asyncio.Event):
                self.waiting.set()
                try:
                    await step.wait()
                except asyncio.CancelledError:
                    self.cancelled = True
                    raise
            else:
                yield step

    def __await__(self) -> Generator[Any, None, Any]:
        return self.get_final_response().__await__()

    async def get_final_response(self) -> Any:
        if isinstance(self.final, Exception):
            raise self.final
        assert isinstance(self.final, HostedRunResult)
        self.hosted = self.final
        await tell(self.on_saved, self.final)
        return self.final.result

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


async def tell(on_saved: OnSaved | None, hosted: HostedRunResult[Any]) -> None:
    if on_saved is not None:
        await on_saved(hosted)


class FakeContext:
    """Records requests, with what came along, and answers by `respond` or with `stream`."""

    def __init__(self, respond: Respond | None = None, *, target: object = None) -> None:
        self.respond = respond
        self.stream: ScriptedStream | Exception = ScriptedStream([], agent_result(""))
        self.target: Any = target
        self.limits = HostLimits()
        self.documents = DocumentStore()
        self.requests: list[ChannelRequest] = []
        self.extras: list[dict[str, Any]] = []

    async def run(self, request: ChannelRequest, **extras: Any) -> HostedRunResult[Any]:
        self.requests.append(request)
        self.extras.append(extras)
        if self.respond is None:
            return agent_result(f"you said {request.input}")
        return await self.respond(request)

    async def run_stream(self, request: ChannelRequest, **extras: Any) -> ScriptedStream:
        self.requests.append(request)
        self.extras.append(extras)
        if isinstance(self.stream, Exception):
            raise self.stream
        return self.stream

    async def reset_session(self, isolation_key: str) -> None:
        raise NotImplementedError


def app_of(channel: Channel, context: Any) -> Starlette:
    """Serve one channel without a host."""
    contribution = channel.contribute(context)
    routes = [place(route, channel.path, contribution.middleware) for route in contribution.routes]
    return Starlette(routes=routes)
