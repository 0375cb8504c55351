from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from agent_framework import (
    AgentResponse,
    AgentResponseUpdate,
    Annotation,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    Message,
    TextSpanRegion,
    UsageDetails,
    WorkflowEvent,
    WorkflowRunResult,
)

from agent_framework_hosting import PendingRequest
from agent_framework_hosting_responses.rendering import (
    error_in,
    incomplete_reason,
    model_of,
    render_output,
    usage_of,
)
from agent_framework_hosting_responses.schema import ResponseError, encode
from tests.support.open_responses import check, check_item
from tests.support.response_streams import minting, plain

PNG = "data:image/png;base64,AA=="
REFUSAL = {"core": {"model_output_kind": "refusal"}}


def rendered(result: object, *pending: PendingRequest) -> list[Any]:
    items = plain(render_output(result, pending, minting()))
    for item in items:
        check_item(item)
    return items


def answer(*contents: Content | str, **more: Any) -> AgentResponse:
    return AgentResponse(messages=[Message("assistant", list(contents))], **more)


def workflow(*outputs: object, executor: str = "e") -> WorkflowRunResult:
    return WorkflowRunResult([WorkflowEvent("output", executor_id=executor, data=data) for data in outputs])


def parts(item: Any) -> list[Any]:
    assert item["type"] == "message"
    return item["content"]


def texts(items: list[Any]) -> list[str]:
    return ["".join(part["text"] for part in parts(item)) for item in items]


def test_a_text_is_a_message() -> None:
    assert rendered(answer("hi")) == [
        {
            "type": "message",
            "id": "msg_0",
            "status": "completed",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}],
        }
    ]
    assert rendered(answer("")) == rendered(AgentResponse()) == []


def test_a_refusal_is_a_part_of_its_own() -> None:
    items = rendered(answer("Well.", Content.from_text("No.", additional_properties=dict(REFUSAL))))
    assert [part["type"] for part in parts(items[0])] == ["output_text", "refusal"]
    assert parts(items[0])[1]["refusal"] == "No."


def test_a_call_of_the_agents_own_has_its_output_after_it() -> None:
    result = AgentResponse(
        messages=[
            Message("assistant", ["Let me see.", Content.from_function_call("c1", "look", arguments={"at": "é"})]),
            Message("tool", [Content.from_function_result("c1", result="seen")]),
            Message("assistant", ["Done.", Content.from_function_call("c2", "ask", arguments=None)]),
        ]
    )
    items = rendered(result)
    assert [item["type"] for item in items] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
        "function_call",
    ]
    assert items[1]["arguments"] == '{"at":"é"}'
    assert (items[2]["call_id"], items[2]["output"]) == ("c1", "seen")
    assert items[4]["arguments"] == "{}"


def test_an_output_with_an_image_is_parts() -> None:
    result = Content.from_function_result("c", result=[Content.from_text("a"), Content.from_uri(PNG)])
    assert rendered(answer(result))[0]["output"] == [
        {"type": "input_text", "text": "a"},
        {"type": "input_image", "image_url": PNG, "detail": "auto"},
    ]


def test_the_exception_of_a_call_stays_here() -> None:
    result = Content.from_function_result("c", result="It failed.", exception="password=hunter2")
    assert "hunter2" not in str(rendered(answer(result)))


def test_ids_of_calls_are_told_apart() -> None:
    call, result = Content.from_function_call("c", "f"), Content.from_function_result("c", result="r")
    items = rendered(answer(call, call, result, result, call, result))
    assert [item["call_id"] for item in items] == ["c", "c", items[2]["call_id"], items[2]["call_id"]]
    assert items[2]["call_id"] != "c"


def test_calls_that_the_provider_runs_are_left_out() -> None:
    calls = [
        Content.from_function_call("c", "f", hosted=True),
        Content.from_function_result("c", result="r"),
        Content.from_function_call("d", "f", informational_only=True),
        Content.from_mcp_server_tool_call("e", "tool"),
    ]
    assert rendered(answer(*calls)) == []


def test_reasoning_is_a_summary() -> None:
    contents = [
        Content.from_text_reasoning(id="a", text="one"),
        Content.from_text_reasoning(id="a", text="two", protected_data="secret"),
        Content.from_text_reasoning(id="b", text=""),
        Content.from_text_reasoning(id="b", protected_data="more"),
    ]
    assert rendered(answer(*contents)) == [
        {
            "type": "reasoning",
            "id": "rs_0",
            "summary": [{"type": "summary_text", "text": "one"}, {"type": "summary_text", "text": "two"}],
            "encrypted_content": "secret",
        },
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "more"},
    ]


def test_images_and_files_are_the_output_of_a_call() -> None:
    drawn = Content.from_image_generation_tool_result(outputs=Content.from_uri(PNG))
    draft = Content.from_uri(PNG, additional_properties={"is_partial_image": True})
    file = Content.from_uri("https://example.com/a.pdf", media_type="application/pdf", name="a.pdf")
    _, *items = rendered(answer("See:", drawn, draft, file))
    assert [item.get("name") for item in items] == ["show_image", None, "show_file", None]
    assert [item["call_id"] for item in items] == ["call_2", "call_2", "call_5", "call_5"]
    assert items[1]["output"] == [{"type": "input_image", "image_url": PNG, "detail": "auto"}]
    assert items[3]["output"] == [{"type": "input_file", "file_url": "https://example.com/a.pdf", "filename": "a.pdf"}]


def test_annotations_are_citations_of_urls() -> None:
    regions = [TextSpanRegion(type="text_span", start_index=0, end_index=2), TextSpanRegion(start_index=1, end_index=2)]
    annotations = [
        Annotation(type="citation", url="https://example.com", title="Example", annotated_regions=regions),
        Annotation(type="citation", url="report.pdf", file_id="file_1"),
    ]
    late = Content.from_text("", annotations=[Annotation(type="citation", url="https://example.org")])
    (item,) = rendered(answer(Content.from_text("hi", annotations=annotations), late))
    (part,) = parts(item)
    assert [(known["url"], known["start_index"], known["end_index"]) for known in part["annotations"]] == [
        ("https://example.com", 0, 2),
        ("https://example.com", 1, 2),
        ("https://example.org", 0, 0),
    ]
    assert rendered(answer(Content.from_text("", annotations=annotations[1:]))) == []


def test_what_the_target_waits_for_is_a_call() -> None:
    approval = PendingRequest("1", "tool_approval", {"name": "pay", "arguments": {"sum": 1}}, {"type": "boolean"})
    question = PendingRequest("2", "workflow_request", "How?", {"type": "string"})
    open_question = PendingRequest("3", "workflow_request", "Why?", None)
    items = rendered(answer("Wait."), approval, question, open_question)[1:]
    assert [(item["call_id"], item["name"], msgspec.json.decode(item["arguments"])) for item in items] == [
        ("pending_1", "request_approval", {"name": "pay", "arguments": {"sum": 1}}),
        ("pending_2", "request_input", {"data": "How?", "response_schema": {"type": "string"}}),
        ("pending_3", "request_input", {"data": "Why?"}),
    ]


def test_a_call_that_waits_for_approval_is_not_the_clients_to_run() -> None:
    call = Content.from_function_call("c", "pay", id="a")
    items = rendered(answer(call, Content.from_function_approval_request("a", call)))
    assert [(item["type"], item["call_id"], item["status"]) for item in items] == [
        ("function_call", "c", "completed"),
        ("function_call_output", "c", "incomplete"),
    ]
    assert rendered(answer(Content.from_function_approval_request("a", call))) == []


@dataclass
class Point:
    x: int


def test_outputs_of_a_workflow_come_in_order() -> None:
    result = workflow(
        "text",
        Message("assistant", ["message"]),
        AgentResponse(messages=[Message("assistant", ["one"]), Message("assistant", ["two"])]),
        [Message("user", ["three"]), Message("assistant", ["four"])],
        Content.from_text("content"),
        {"a": 2**70},
        [1, "x"],
        Point(1),
        None,
        object,
        [],
    )
    assert texts(rendered(result)) == [
        "text",
        "message",
        "one",
        "two",
        "three",
        "four",
        "content",
        '{"a":1180591620717411303424}',
        '[1,"x"]',
        '{"x":1}',
        "null",
        '"' + str(object) + '"',
        "[]",
    ]


def test_a_streamed_agent_of_a_workflow_is_one_output() -> None:
    updates = [AgentResponseUpdate(contents=[Content.from_text(text)], role="assistant") for text in ("a", "b")]
    assert texts(rendered(workflow(updates[0], updates[1]))) == ["ab"]


def test_what_a_hook_left_is_the_output() -> None:
    assert texts(rendered("text")) == ["text"]
    assert texts(rendered({"a": "\ud800"})) == ['{"a":"\ufffd"}']


def test_usage_counts_all_agents() -> None:
    first = answer("a", usage_details=UsageDetails(input_token_count=1, output_token_count=2))
    second = answer(
        "b",
        usage_details=UsageDetails(
            input_token_count=10,
            output_token_count=20,
            total_token_count=31,
            cache_read_input_token_count=4,
            reasoning_output_token_count=5,
        ),
    )
    assert usage_of(answer("a")) is usage_of("a") is None
    usage = usage_of(first)
    assert usage is not None
    assert usage.total_tokens == 3
    both = msgspec.json.decode(encode(usage_of(workflow(first, second))))
    check("Usage", both)
    assert both == {
        "input_tokens": 11,
        "output_tokens": 22,
        "total_tokens": 31,
        "input_tokens_details": {"cached_tokens": 4},
        "output_tokens_details": {"reasoning_tokens": 5},
    }


@pytest.mark.parametrize(
    ("reason", "expected"),
    [("length", "max_output_tokens"), ("content_filter", "content_filter"), ("stop", None), (None, None)],
)
def test_an_answer_tells_why_it_is_not_whole(reason: Any, expected: str | None) -> None:
    assert incomplete_reason(answer("a", finish_reason=reason)) == expected
    several = workflow(answer("a", finish_reason="length"), answer("b", finish_reason=reason))
    assert incomplete_reason(several) == expected


def test_an_error_is_the_responses() -> None:
    broken = Content.from_error(message="No more.", error_code="rate_limit_exceeded")
    assert rendered(answer("a", broken)) == rendered(answer("a"))
    assert error_in(answer("a", broken)) == ResponseError("rate_limit_exceeded", "No more.")
    assert error_in(answer(Content.from_error())) == ResponseError("server_error", "The agent reported an error.")
    assert error_in(answer("a")) is None


def test_the_model_is_the_one_that_answered() -> None:
    whole = ChatResponse(messages=[], model="gpt")
    updates: list[Any] = [ChatResponseUpdate(model="gpt"), None, ChatResponseUpdate()]
    assert model_of(answer("a", raw_representation=whole)) == "gpt"
    assert model_of(answer("a", raw_representation=updates)) == "gpt"
    assert model_of(workflow(answer("a", raw_representation=[[whole]]), answer("b"))) == "gpt"
    assert model_of(answer("a", raw_representation=object())) is model_of("a") is None
