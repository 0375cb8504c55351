"""Turns under a tracer provider, which a process can set only once. Run as a script; prints its spans as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from agent_framework import AgentSession, Message
from opentelemetry import trace

from tests.support.channels import serving
from tests.support.targets import ScriptedAgent
from tests.support.tracing import RememberingProvider

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def act(messages: list[Message], session: AgentSession | None) -> str:
    if messages[-1].text == "fail":
        raise ValueError("no answer")
    with trace.get_tracer("agent").start_as_current_span("agent"):
        return "done"


async def turns() -> None:
    async with serving(ScriptedAgent(act)) as served:
        await served.ask("a", "x", attributes={"traceparent": TRACEPARENT})
        await served.ask(None, "x")
        await (await served.stream("a", "x", attributes={"traceparent": TRACEPARENT}))
        turn = await served.stream("a", "x")
        await turn.aclose()
        for run in (served.ask, served.stream):
            try:
                result: Any = await run("a", "fail")
                await result
            except ValueError:
                pass


def main() -> None:
    provider = RememberingProvider()
    trace.set_tracer_provider(provider)
    asyncio.run(turns())
    told = [
        {
            "name": span.name,
            "trace": f"{span.context.trace_id:032x}",
            "id": f"{span.context.span_id:016x}",
            "parent": None if span.parent is None else f"{span.parent.span_id:016x}",
            "attributes": span.attributes,
            "exceptions": [repr(error) for error in span.exceptions],
            "ended": span.ended,
        }
        for span in provider.spans
    ]
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
