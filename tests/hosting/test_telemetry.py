"""One line and one span for each turn."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentSession, Message

from agent_framework_hosting import HostLimits, InvalidRequest, StateUnavailable, TurnBusy
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.stored import StoredConversations
from tests.hosting.protocol.diary import Diary, hosted, say
from tests.support import traced_turns
from tests.support.channels import serving
from tests.support.faults import ManualClock
from tests.support.stores import FaultStore, Gate, away
from tests.support.targets import ScriptedAgent
from tests.support.tracing import RememberedSpan, RememberingTracer

LINE = re.compile(r"turn channel=(\S+) key=(\S+) duration_ms=\d+\.\d store_ms=\d+\.\d outcome=(\S+)")
KEY = "user-4711-secret"


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str, str]]:
    found = [
        LINE.fullmatch(record.getMessage())
        for record in caplog.records
        if record.name == "agent_framework.hosting.turns"
    ]
    assert all(found)
    return [(match[1], match[2], match[3]) for match in found if match is not None]


async def act(messages: list[Message], session: AgentSession | None) -> str:
    if messages[-1].text == "fail":
        raise ValueError("no answer")
    if messages[-1].text == "wait":
        await asyncio.Event().wait()
    return "done"


async def test_a_turn_leaves_one_line_with_a_hashed_key_and_its_outcome(
    caplog: pytest.LogCaptureFixture, state_dir: Path | None
) -> None:
    with caplog.at_level(logging.INFO, "agent_framework.hosting.turns"):
        async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
            await served.ask(KEY, "x")
            await (await served.stream(KEY, "x", hooks={"channel_name": "other"}))
            await served.ask(None, "x")
            with pytest.raises(ValueError, match="no answer"):
                await served.ask(KEY, "fail")
            turn = await served.stream(KEY, "fail")
            with pytest.raises(ValueError, match="no answer"):
                await turn
            with pytest.raises(InvalidRequest):
                await served.ask(KEY, 7)
            turn = await served.stream(KEY, "x")
            await turn.aclose()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await served.ask(KEY, "wait")
    hashed = conversation_path(KEY)[3:15]
    assert lines(caplog) == [
        ("probe", hashed, "saved"),
        ("other", hashed, "saved"),
        ("probe", "-", "answered"),
        ("probe", hashed, "ValueError"),
        ("probe", hashed, "ValueError"),
        ("probe", hashed, "InvalidRequest"),
        ("probe", hashed, "closed"),
        ("probe", hashed, "cancelled"),
    ]
    assert KEY not in caplog.text


async def test_a_reset_leaves_one_line_too(caplog: pytest.LogCaptureFixture, state_dir: Path | None) -> None:
    with caplog.at_level(logging.INFO, "agent_framework.hosting.turns"):
        async with serving(ScriptedAgent(), state_dir=state_dir) as served:
            await served.host.reset_session(KEY)
            await served.context.reset_session(KEY)
    hashed = conversation_path(KEY)[3:15]
    assert lines(caplog) == [("host", hashed, "reset"), ("probe", hashed, "reset")]
    assert KEY not in caplog.text


async def test_a_reset_inside_its_turn_leaves_no_line_of_its_own(
    caplog: pytest.LogCaptureFixture, state_dir: Path | None
) -> None:
    async def reset(messages: list[Message], session: AgentSession | None) -> str:
        for key in (KEY, "another"):
            await served.host.reset_session(key)
        return "done"

    with caplog.at_level(logging.INFO, "agent_framework.hosting.turns"):
        async with serving(ScriptedAgent(reset), state_dir=state_dir) as served:
            await served.ask(KEY, "x")
    assert lines(caplog) == [
        ("host", conversation_path("another")[3:15], "reset"),
        ("probe", conversation_path(KEY)[3:15], "saved"),
    ]


@pytest.fixture
async def held() -> AsyncIterator[FaultStore]:
    """A store where another instance holds the conversation, for longer than anybody waits."""
    store = FaultStore(MemoryStore())
    conversations = StoredConversations(store, HostLimits(lease=timedelta(hours=1), turn_timeout=timedelta(hours=2)))
    await conversations.begin(KEY)
    yield store
    await conversations.close()


async def test_a_reset_that_fails_leaves_a_line_and_a_span_that_say_why(
    caplog: pytest.LogCaptureFixture, held: FaultStore
) -> None:
    clock, gate = ManualClock(), Gate()
    spans: list[RememberedSpan] = []
    with caplog.at_level(logging.INFO, "agent_framework.hosting.turns"):
        async with hosted(held, Diary(), tracer=RememberingTracer(spans), clock=clock, sleep=clock.sleep) as context:
            with pytest.raises(TurnBusy):
                await context.reset_session(KEY)
            held.plan(away, kind="get")
            with pytest.raises(StateUnavailable):
                await context.reset_session(KEY)
            held.plan(gate.before, kind="get")
            reset = asyncio.create_task(context.reset_session(KEY))
            await gate.reached()
            reset.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reset
            gate.open()
    outcomes = ["TurnBusy", "StateUnavailable", "cancelled"]
    assert lines(caplog) == [("test", conversation_path(KEY)[3:15], outcome) for outcome in outcomes]
    assert [span.attributes["hosting.outcome"] for span in spans if span.name == "hosting.turn"] == outcomes
    assert [span.ended for span in spans] == [1] * len(spans)


async def test_a_reset_is_a_span_with_what_is_done_to_the_state_below_it() -> None:
    spans: list[RememberedSpan] = []
    async with hosted(MemoryStore(), Diary(), tracer=RememberingTracer(spans)) as context:
        await context.reset_session(KEY)
    above, below = spans
    assert (above.name, below.name, below.parent) == ("hosting.turn", "hosting.state.reset", above.context)
    hashed = conversation_path(KEY)[3:15]
    assert above.attributes == {"hosting.channel": "test", "hosting.key": hashed, "hosting.outcome": "reset"}
    assert [span.ended for span in spans] == [1, 1]


async def test_a_reset_inside_its_turn_is_no_span_of_its_own() -> None:
    async def between(word: str) -> None:
        await context.reset_session(KEY)

    spans: list[RememberedSpan] = []
    async with hosted(MemoryStore(), Diary(between), tracer=RememberingTracer(spans)) as context:
        await say(context, KEY, "word")
    assert [span.name for span in spans] == ["hosting.turn", "hosting.state.begin", "hosting.state.commit"]


@pytest.fixture(scope="module")
def spans() -> list[dict[str, Any]]:
    command = [sys.executable, "-m", traced_turns.__name__]
    root = Path(traced_turns.__file__).parents[2]
    ran = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    return json.loads(ran.stdout)


def turns(spans: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [span for span in spans if span["name"] == "hosting.turn"]


def test_every_turn_is_a_span_that_ends_once_with_its_outcome(spans: list[dict[str, Any]]) -> None:
    assert [span["ended"] for span in spans] == [1] * len(spans)
    hashed = conversation_path("a")[3:15]
    assert [span["attributes"] for span in turns(spans)] == [
        {"hosting.channel": "probe", "hosting.key": key, "hosting.outcome": outcome}
        for key, outcome in [
            (hashed, "saved"),
            ("-", "answered"),
            (hashed, "saved"),
            (hashed, "closed"),
            (hashed, "ValueError"),
            (hashed, "ValueError"),
        ]
    ]
    assert [span["exceptions"] for span in turns(spans)][-2:] == [["ValueError('no answer')"]] * 2


def test_a_span_continues_the_callers_trace(spans: list[dict[str, Any]]) -> None:
    _, trace_id, parent_id, _ = traced_turns.TRACEPARENT.split("-")
    continued = [span for span in turns(spans) if span["parent"] is not None]
    assert [(span["trace"], span["parent"]) for span in continued] == [(trace_id, parent_id)] * 2


def test_what_the_agent_records_is_below_its_turn(spans: list[dict[str, Any]]) -> None:
    agents = [span for span in spans if span["name"] == "agent"]
    assert [span["parent"] for span in agents] == [span["id"] for span in turns(spans)[:3]]


def test_what_is_done_to_the_state_is_below_its_turn(spans: list[dict[str, Any]]) -> None:
    """Every turn in a conversation begins there; only a saved one commits."""
    kept = [span for span in turns(spans) if span["attributes"]["hosting.key"] != "-"]
    saved = [span for span in kept if span["attributes"]["hosting.outcome"] == "saved"]
    for name, above in (("hosting.state.begin", kept), ("hosting.state.commit", saved)):
        found = [(span["trace"], span["parent"]) for span in spans if span["name"] == name]
        assert found == [(span["trace"], span["id"]) for span in above]
