"""The Responses channel: its import, a call through Mangum, its streams and what they hold in memory."""

from __future__ import annotations

import asyncio
import gc
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from types import SimpleNamespace
from typing import Any

from agent_framework import (
    Agent,
    AgentResponse,
    AgentResponseUpdate,
    AgentSession,
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatOptions,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    ResponseStream,
)
from agent_framework.observability import ChatTelemetryLayer

from agent_framework_hosting import AgentFrameworkHost, ChannelRequest
from agent_framework_hosting.lifespan import Lifespan
from agent_framework_hosting_aws_lambda import LambdaHandler
from agent_framework_hosting_invocations import InvocationsChannel
from agent_framework_hosting_responses import ResponsesChannel
from emulators.lambda_events import Event, HttpRequest, http_api

from . import import_time
from .measure import Block, Ratio, interleave, repeated
from .stubs import ANSWER, FixedAgent, Probe
from .table import Row, bounded, compared, counted, duration

KEY = "benchmark-key-0123456789"
AUTH = {"shop": KEY}
BASE = f"""{import_time.BASE}
from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_invocations import InvocationsChannel
"""
IMPORT = """
import sys
from time import process_time
{base}
began = process_time()
from agent_framework_hosting_responses import ResponsesChannel
print(process_time() - began, "openai" in sys.modules)
"""
IMPORTS = 20
CALLS = 40
ROUNDS = 60
UPDATES = 4_000
STREAMS = 12
MANY = 100_000
LONG_STREAMS = 9
MEGABYTE = 1e6


def measure() -> list[Row]:
    return [*import_rows(), *call_rows(), *stream_rows(), *memory_rows()]


def import_rows() -> list[Row]:
    """Time the import on top of the host and the invocations channel, in fresh interpreters; CPU time."""
    told = [import_time.python("-c", IMPORT.format(base=BASE)).stdout.split() for _ in range(IMPORTS + 1)][1:]
    seconds = sorted(float(took) for took, _ in told)
    clean = all(openai == "False" for _, openai in told)
    return [
        bounded("import of responses on top of host and invocations", seconds[len(seconds) // 2], bound=0.04),
        counted("openai is imported with it", "no" if clean else "yes", "", "no", clean),
    ]


def call_rows() -> list[Row]:
    context = SimpleNamespace(function_name="benchmark", aws_request_id="1", memory_limit_in_mb="512")
    channels = [InvocationsChannel(auth=AUTH), ResponsesChannel(auth=AUTH)]
    handler = LambdaHandler(AgentFrameworkHost(FixedAgent(), channels=channels))
    try:
        samples = interleave(
            {
                "invocations": calling(handler, event("/invocations", {"message": "Where is it?"}), context),
                "named": calling(
                    handler, event("/invocations", {"message": "Where is it?", "session_id": "order-42"}), context
                ),
                "stored": calling(handler, event("/responses", {"input": "Where is it?"}), context),
                "unstored": calling(handler, event("/responses", {"input": "Where is it?", "store": False}), context),
            },
            rounds=ROUNDS,
        )
    finally:
        handler.close()
    to = "invocations, without a session_id"
    stored, named = Ratio.of(samples["stored"], samples["invocations"]), Ratio.of(samples["stored"], samples["named"])
    return [
        compared("responses call through Mangum, stored in memory", stored, to=to, target=1.5),
        compared("the same with store: false", Ratio.of(samples["unstored"], samples["invocations"]), to=to),
        compared("the stored one", named, to="invocations, with a session_id"),
    ]


def event(path: str, body: dict[str, Any]) -> Event:
    headers = [("content-type", "application/json"), ("authorization", f"Bearer {KEY}"), ("accept", "*/*")]
    return http_api(HttpRequest("POST", path, headers=headers, body=json.dumps(body).encode()))


def calling(handler: Any, event: Event, context: object) -> Block:
    result = handler(event, context)
    if result["statusCode"] != 200 or ANSWER not in result["body"]:
        raise RuntimeError(f"The call was not answered as it should be: {result}")
    return repeated(lambda: handler(event, context), CALLS)


class Words(FixedAgent):
    """Streams what was prepared, one word at a time, and never waits."""

    prepared: Sequence[Any] = ()

    def prepare(self, count: int) -> None:
        self.prepared = [word() for _ in range(count)]

    def run(
        self, messages: Any = None, *, stream: bool = False, session: AgentSession | None = None, **kwargs: Any
    ) -> Any:
        return ResponseStream(each(self.prepared), finalizer=AgentResponse.from_updates)


class Writing(FixedAgent):
    """Makes its words while it streams, as whoever answers must, and never waits."""

    count = 0

    def prepare(self, count: int) -> None:
        self.count = count

    def run(
        self, messages: Any = None, *, stream: bool = False, session: AgentSession | None = None, **kwargs: Any
    ) -> Any:
        return ResponseStream(self.words(), finalizer=AgentResponse.from_updates)

    async def words(self) -> AsyncIterator[AgentResponseUpdate]:
        for _ in range(self.count):
            yield word()


class WordsClient(BaseChatClient[ChatOptions[Any]]):
    prepared: Sequence[Any] = ()

    def _inner_get_response(self, **how: Any) -> Any:
        return self._build_response_stream(each(self.prepared))


class WordsChatClient(
    FunctionInvocationLayer[ChatOptions[Any]],
    ChatMiddlewareLayer[ChatOptions[Any]],
    ChatTelemetryLayer[ChatOptions[Any]],
    WordsClient,
):
    """With the layers that every client of the framework is built from."""

    OTEL_PROVIDER_NAME = "words"

    def prepare(self, count: int) -> None:
        self.prepared = [
            ChatResponseUpdate(contents=[Content.from_text("word ")], role="assistant", message_id="m", response_id="r")
            for _ in range(count)
        ]


def word() -> AgentResponseUpdate:
    return AgentResponseUpdate(contents=[Content.from_text("word ")], role="assistant", message_id="m", response_id="r")


async def each(updates: Sequence[Any]) -> AsyncIterator[Any]:
    for update in updates:
        yield update


class Served:
    """A host, its app's lifespan, and whether the last stream was whole."""

    def __init__(self, agent: Any) -> None:
        self.probe = Probe()
        self.host = AgentFrameworkHost(agent, channels=[ResponsesChannel(auth=AUTH), self.probe])
        self.lifespan = Lifespan(self.host.app)
        self.whole = False

    async def stream(self) -> None:
        """Call the app once. What it sends is taken at once, and not kept."""
        self.whole = False
        body = json.dumps({"input": "Where is it?", "stream": True}).encode()
        asked = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            return asked.pop() if asked else await asyncio.Event().wait()

        async def send(message: Any) -> None:
            if b"event: response.completed\n" in message.get("body", b""):
                self.whole = True

        await self.host.app(scope(body), receive, send)
        if not self.whole:
            raise RuntimeError("The stream did not end as it should.")

    async def consume(self) -> None:
        """Do the same without the channel."""
        request = ChannelRequest("probe", "benchmark", "Where is it?", stream=True)
        stream = await self.probe.context.run_stream(request)
        try:
            async for _ in stream:
                pass
            await stream.get_final_response()
        finally:
            await stream.aclose()


def scope(body: bytes) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/responses",
        "raw_path": b"/responses",
        "root_path": "",
        "query_string": b"",
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(body)).encode()),
            (b"authorization", f"Bearer {KEY}".encode()),
        ],
        "client": ("127.0.0.1", 1),
        "server": ("benchmark", 80),
        "state": {},
    }


def stream_rows() -> list[Row]:
    writing, prepared, client = Writing(), Words(), WordsChatClient()
    agent: Agent[Any] = Agent(client=client, name="words")
    with asyncio.Runner() as runner:
        served = {"writing": Served(writing), "prepared": Served(prepared), "agent": Served(agent)}
        for each_host in served.values():
            runner.run(each_host.lifespan.start())
        try:
            samples = interleave(
                {
                    "writing": iterating(runner, writing, writing.run, final=False),
                    "writing, final": iterating(runner, writing, writing.run, final=True),
                    "writing, served": timed(runner, writing, served["writing"].stream),
                    "prepared": iterating(runner, prepared, prepared.run, final=False),
                    "prepared, served": timed(runner, prepared, served["prepared"].stream),
                    "agent": iterating(runner, client, agent.run, final=False),
                    "agent, final": iterating(runner, client, agent.run, final=True),
                    "agent, served": timed(runner, client, served["agent"].stream),
                },
                rounds=STREAMS,
            )
            long = interleave(
                {
                    "writing": iterating(runner, writing, writing.run, final=False, updates=MANY),
                    "writing, served": timed(runner, writing, served["writing"].stream, updates=MANY),
                },
                rounds=LONG_STREAMS,
            )
        finally:
            for each_host in served.values():
                runner.run(each_host.lifespan.stop())
    stub = "streamed updates of a stub"
    final = "iterated, with its final response"
    return [
        kept(f"{stub}, {UPDATES:,}", samples["writing, served"], samples["writing"], "iterated", target=0.7),
        kept("the same", samples["writing, served"], samples["writing, final"], final),
        kept(f"{stub}, {MANY:,}", long["writing, served"], long["writing"], "iterated", target=0.7),
        kept(f"{stub} that has them ready, {UPDATES:,}", samples["prepared, served"], samples["prepared"], "iterated"),
        kept("streamed updates, Agent with a stub client", samples["agent, served"], samples["agent"], "iterated"),
        kept("the same", samples["agent, served"], samples["agent, final"], final),
    ]


def iterating(
    runner: asyncio.Runner, source: Any, run: Callable[..., Any], *, final: bool, updates: int = UPDATES
) -> Block:
    async def iterate() -> None:
        stream = run("Where is it?", stream=True)
        async for _ in stream:
            pass
        if final:
            await stream.get_final_response()

    return timed(runner, source, iterate, updates=updates)


def timed(
    runner: asyncio.Runner, source: Any, operation: Callable[[], Awaitable[None]], *, updates: int = UPDATES
) -> Block:
    """Time one update of a stream; the updates are made before, and anew, for the framework may change them."""

    async def run() -> float:
        source.prepare(updates)
        gc.collect()
        began = time.perf_counter()
        await operation()
        return (time.perf_counter() - began) / updates

    return lambda: runner.run(run())


def kept(figure: str, ours: Sequence[float], base: Sequence[float], to: str, *, target: float | None = None) -> Row:
    """Make the row of a speed of ours as a part of the speed of the base."""
    found = Ratio.of(base, ours)
    return Row(
        figure,
        f"{1 / found.base:,.0f}/s ({duration(found.base)})",
        f"{1 / found.ours:,.0f}/s {to}",
        f"{found.ratio:.2f} ({found.low:.2f}–{found.high:.2f})",
        "" if target is None else f"≥ {target}",
        None if target is None else found.ratio >= target,
    )


def memory_rows() -> list[Row]:
    """Compare the peaks of Python's memory while a long stream is served, and while the host's own is read."""
    agent = Words()
    with asyncio.Runner() as runner:
        served = Served(agent)
        runner.run(served.lifespan.start())
        try:
            read, written = (peak(runner, agent, operation) for operation in (served.consume, served.stream))
        finally:
            runner.run(served.lifespan.stop())
    text = MANY * len("word ")
    ours = written - read - text
    return [
        counted(
            f"memory of a stream of {MANY:,} updates",
            f"{ours / MEGABYTE:.1f} MB",
            f"{read / MEGABYTE:.1f} MB host and framework, {text / MEGABYTE:.1f} MB text",
            "≤ 5 MB",
            ours <= 5 * MEGABYTE,
        )
    ]


def peak(runner: asyncio.Runner, agent: Words, operation: Callable[[], Awaitable[None]]) -> int:
    """Give the bytes that an operation adds at its highest; the updates themselves are there before."""

    async def run() -> None:
        await operation()

    agent.prepare(10)
    runner.run(run())
    agent.prepare(MANY)
    gc.collect()
    tracemalloc.start()
    try:
        runner.run(run())
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
