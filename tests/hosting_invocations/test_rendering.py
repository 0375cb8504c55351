from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from agent_framework import AgentResponse, AgentResponseUpdate, Content, Message, WorkflowEvent, WorkflowRunResult
from pydantic import BaseModel

from agent_framework_hosting.jsonable import NotJson
from agent_framework_hosting.requests import HostedRunResult, PendingRequest
from agent_framework_hosting_invocations.rendering import render_answer
from tests.support.contexts import agent_result


@dataclass
class Point:
    x: int
    when: datetime


class Model(BaseModel):
    name: str
    when: datetime


class Framework:
    def to_dict(self) -> dict[str, Any]:
        return {"kind": "framework"}


NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def rendered(hosted: HostedRunResult[Any], session_id: str | None = "s") -> Any:
    return msgspec.json.decode(render_answer(hosted, session_id))


def workflow(*outputs: object) -> HostedRunResult[Any]:
    return HostedRunResult(WorkflowRunResult([WorkflowEvent("output", executor_id="e", data=data) for data in outputs]))


def test_an_agent_answers_with_its_text() -> None:
    assert rendered(agent_result("hello")) == {"response": "hello", "session_id": "s"}
    assert rendered(agent_result(""), None) == {"response": "", "session_id": None}


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("text", "text"),
        (7, 7),
        (None, None),
        ({"a": [1, NOON]}, {"a": [1, "2026-01-01T12:00:00Z"]}),
        (AgentResponse(messages=[Message("assistant", ["hi"])]), "hi"),
        (AgentResponseUpdate(contents=[Content.from_text("hi")]), "hi"),
        (Point(1, NOON), {"x": 1, "when": "2026-01-01T12:00:00Z"}),
        (Model(name="n", when=NOON), {"name": "n", "when": "2026-01-01T12:00:00Z"}),
        (Framework(), {"kind": "framework"}),
        ([Framework(), Point(1, NOON)], [{"kind": "framework"}, {"x": 1, "when": "2026-01-01T12:00:00Z"}]),
        (float("nan"), None),
    ],
)
def test_the_one_output_of_a_workflow_is_its_response(output: object, expected: object) -> None:
    assert rendered(workflow(output))["response"] == expected


def test_several_outputs_are_a_list_and_none_is_null() -> None:
    assert rendered(workflow("a", 2))["response"] == ["a", 2]
    assert rendered(workflow())["response"] is None


def streamed(executor: str, text: str, response_id: str | None = None) -> WorkflowEvent[Any]:
    data = AgentResponseUpdate(contents=[Content.from_text(text)], response_id=response_id)
    return WorkflowEvent("output", executor_id=executor, data=data)


def test_a_streamed_agent_in_a_workflow_gives_what_the_same_agent_gives_at_once() -> None:
    events = [
        streamed("a", "he"),
        streamed("b", "wor", "r1"),
        streamed("a", "llo"),
        WorkflowEvent("executor_completed", executor_id="a"),
        streamed("b", "ld", "r1"),
        WorkflowEvent("executor_completed", executor_id="b"),
        streamed("a", "again"),
        WorkflowEvent("output", executor_id="c", data="end"),
    ]
    assert rendered(HostedRunResult(WorkflowRunResult(events)))["response"] == ["hello", "world", "again", "end"]


def test_what_a_response_hook_puts_in_place_of_a_result_is_rendered() -> None:
    assert rendered(HostedRunResult("changed"))["response"] == "changed"
    assert rendered(HostedRunResult({"a": Point(1, NOON)}))["response"]["a"]["x"] == 1


def test_pending_requests_are_listed() -> None:
    pending = [
        PendingRequest("p1", "tool_approval", {"name": "refund", "arguments": {"order": 7}}, None),
        PendingRequest("p2", "workflow_request", Point(1, NOON), {"type": "boolean"}),
    ]
    assert rendered(agent_result("", pending=pending))["pending"] == [
        {"id": "p1", "kind": "tool_approval", "data": {"name": "refund", "arguments": {"order": 7}},
         "response_schema": None},
        {"id": "p2", "kind": "workflow_request", "data": {"x": 1, "when": "2026-01-01T12:00:00Z"},
         "response_schema": {"type": "boolean"}},
    ]  # fmt: skip


def test_text_that_utf8_cannot_carry_is_still_answered() -> None:
    answer = rendered(workflow({"a\ud800": ["\ud83d\ude00", 1]}))
    assert answer == {"response": {"a\ufffd": ["😀", 1]}, "session_id": "s"}


def test_an_output_without_a_json_form_says_so() -> None:
    with pytest.raises(NotJson, match="object, which has no JSON form") as caught:
        render_answer(workflow(object()), "s")
    assert caught.value.started
