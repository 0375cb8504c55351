from __future__ import annotations

import tracemalloc
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from agent_framework import AgentResponse, AgentResponseUpdate, Annotation, Content, Message, WorkflowEvent
from hypothesis import given, settings
from hypothesis import strategies as st

from agent_framework_hosting import PendingRequest
from agent_framework_hosting.running.outputs import output_update
from agent_framework_hosting_responses.rendering import render_output
from agent_framework_hosting_responses.schema import ResponseError
from tests.support.examples import examples
from tests.support.open_responses import check_event, check_stream
from tests.support.response_streams import (
    accumulated,
    decoded,
    minting,
    opened,
    output,
    plain,
    response,
    streamed,
)

PNG = "data:image/png;base64,AA=="
REFUSAL = {"core": {"model_output_kind": "refusal"}}


def update(*contents: Content | str, message_id: str | None = "m", **more: Any) -> AgentResponseUpdate:
    several = [Content.from_text(content) if isinstance(content, str) else content for content in contents]
    return AgentResponseUpdate(contents=several, role="assistant", message_id=message_id, **more)


def call(arguments: Any = None, name: str = "f", call_id: str = "c", **more: Any) -> Content:
    return Content.from_function_call(call_id, name, arguments=arguments, **more)


def yielded(data: object) -> AgentResponseUpdate:
    return output_update(WorkflowEvent("output", executor_id="e", data=data))


def kinds(events: list[Any]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def deltas(events: list[Any]) -> list[str]:
    return [event["delta"] for event in events if event["type"].endswith(".delta")]


def substance(items: list[Any]) -> list[Any]:
    """Give of items what does not depend on ids and on how a text is cut into parts."""
    told: list[Any] = []
    for item in items:
        if item["type"] == "message":
            runs: list[tuple[str, str]] = []
            for part in item["content"]:
                kind = part["type"]
                text = part.get("text") or part.get("refusal") or str(part)
                if runs and runs[-1][0] == kind:
                    runs[-1] = (kind, runs[-1][1] + text)
                else:
                    runs.append((kind, text))
            told.append(runs)
        elif item["type"] == "reasoning":
            told.append(("".join(part["text"] for part in item["summary"]), item.get("encrypted_content")))
        else:
            told.append((item["type"], item.get("name"), item.get("arguments"), item.get("output")))
    return told


def test_a_text_is_told_in_full() -> None:
    events = streamed(update("Hel"), update("lo"), update(""), update())
    assert kinds(events) == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]
    assert events[2]["item"] == {
        "type": "message",
        "id": "msg_0",
        "status": "in_progress",
        "role": "assistant",
        "content": [],
    }
    assert accumulated(events).output_text == "Hello"


def test_nothing_is_told_of_nothing() -> None:
    assert kinds(streamed(update(""), update(Content.from_usage({"input_token_count": 1})))) == [
        "created",
        "in_progress",
        "completed",
    ]


def test_a_call_comes_in_pieces() -> None:
    pieces = [update(call('{"a"')), update(call(":", name="")), update(call("1}", name="", call_id=""))]
    events = streamed(*pieces)
    assert deltas(events) == ['{"a"', ":", "1}"]
    assert output(events)[0] == {
        "type": "function_call",
        "id": "fc_0",
        "call_id": "c",
        "name": "f",
        "arguments": '{"a":1}',
        "status": "completed",
    }
    assert accumulated(events).output[0].arguments == '{"a":1}'


def test_a_call_without_arguments_has_none_to_parse() -> None:
    assert deltas(streamed(update(call()), update(call("")))) == ["{}"]


def test_calls_of_a_message_grow_side_by_side() -> None:
    a, b = [call("{", call_id="a"), call("}", call_id="a")], [call("[", call_id="b"), call("]", call_id="b")]
    events = streamed(update(a[0]), update(b[0]), update(b[1], a[1]))
    assert [item["arguments"] for item in output(events)] == ["{}", "[]"]


def test_a_call_is_done_when_its_result_comes() -> None:
    result = update(Content.from_function_result("c", result="r"), message_id="tool")
    events = streamed(update("a", call("{}")), result, update("b", message_id="n"))
    assert kinds(events)[9:15] == [
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
        "output_item.added",
        "output_item.done",
        "output_item.added",
    ]
    assert [item["type"] for item in output(events)] == ["message", "function_call", "function_call_output", "message"]


def test_the_message_of_a_call_ends_with_its_result() -> None:
    events = opened()
    events.begin()
    events.update(update("b", call("{}")))
    events.update(update("a", message_id="other"))
    events.update(update(Content.from_function_result("c", result="r"), message_id="tool"))
    assert [item["type"] for item in plain(events.items)] == ["message", "function_call", "function_call_output"]


def test_a_change_of_kind_ends_what_was_open() -> None:
    reasoning = Content.from_text_reasoning(id="r", text="hm")
    events = streamed(update(reasoning), update("a"), update(call("{}")), update("b"))
    assert [item["type"] for item in output(events)] == ["reasoning", "message", "function_call", "message"]
    accumulated(events)


def test_messages_that_interleave_stay_open_side_by_side() -> None:
    pieces = [update("a", message_id="1"), update("b", message_id="2"), update("A", message_id="1")]
    authors = [update("c", author_name="x"), update("d", author_name="y"), update("C", author_name="x")]
    events = streamed(*pieces, *authors)
    assert [item["content"][0]["text"] for item in output(events)] == ["aA", "b", "cC", "d"]


def test_refusals_and_texts_are_parts_of_one_message() -> None:
    refusal = Content.from_text("No", additional_properties=dict(REFUSAL))
    events = streamed(update("a"), update(refusal), update(refusal), update("b"))
    (item,) = output(events)
    assert [part["type"] for part in item["content"]] == ["output_text", "refusal", "output_text"]
    assert item["content"][1]["refusal"] == "NoNo"
    accumulated(events)


def test_an_image_is_the_output_of_a_call() -> None:
    events = streamed(update("a"), update(Content.from_uri(PNG)), update("b"))
    _, shown, image, _ = output(events)
    assert (shown["name"], shown["call_id"]) == ("show_image", image["call_id"])
    assert accumulated(events).output[2].output[0].image_url == PNG


def test_annotations_are_told_when_they_come() -> None:
    cited = Content.from_text("", annotations=[Annotation(type="citation", url="https://example.com", title="E")])
    events = streamed(update("a"), update(cited), update("b"), update(cited))
    told = [event for event in events if event["type"] == "response.output_text.annotation.added"]
    assert [event["annotation_index"] for event in told] == [0, 1]
    assert [event["annotation"] for event in told] == output(events)[0]["content"][0]["annotations"]
    assert accumulated(events).output_text == "ab"


def test_reasoning_keeps_its_secret() -> None:
    contents = [
        Content.from_text_reasoning(id="r", text="", merge_mode="append"),
        Content.from_text_reasoning(id="r", text="one"),
        Content.from_text_reasoning(id="r", text="own", additional_properties={"openai": {"reasoning_text": True}}),
        Content.from_text_reasoning(id="r", text="", protected_data="secret"),
        Content.from_text_reasoning(id="s", protected_data="other"),
    ]
    events = streamed(*map(update, contents))
    assert [item["encrypted_content"] for item in output(events)] == ["secret", "other"]
    assert [part["text"] for part in output(events)[0]["summary"]] == ["one", "own"]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([("Hel", False), ("Hello", True)], "Hello"),
        ([("Hel", True), ("Hello", True), ("Hello", True)], "Hello"),
        ([("a", False), ("a", True), ("b", False), ("b", True)], "ab"),
        ([("a", False), ("a", True), ("b", False), ("ab", True)], "ab"),
        ([("Hello", False), ("Goodbye", True)], "Hello"),
        ([("Hello", False), ("Goodbye", True), ("!", False)], "Hello!"),
        ([("x\ud83d", False), ("x😀", True), ("y", False)], "x😀y"),
        ([("x\ud83d", False), ("\ude00", False), ("y", False)], "x😀y"),
        ([("x\ud83d", False), ("y", False), ("\ude00", False), ("\ud83d", False)], "x\ufffdy\ufffd\ufffd"),
    ],
)
def test_what_is_repeated_is_sent_once(pieces: list[tuple[str, bool]], expected: str) -> None:
    texts = [Content.from_text(text, merge_mode="replace" if whole else None) for text, whole in pieces]
    thoughts = [Content.from_text_reasoning(text=content.text, merge_mode=content.merge_mode) for content in texts]
    calls = [call(content.text, merge_mode=content.merge_mode) for content in texts]
    events = streamed(*map(update, texts), *map(update, thoughts), *map(update, calls))
    message, reasoning, function = output(events)
    assert message["content"][0]["text"] == reasoning["summary"][0]["text"] == function["arguments"] == expected


def test_an_update_may_repeat_its_message() -> None:
    events = streamed(update("Hel"), update("Hello", merge_mode="replace"), update("!"))
    assert deltas(events) == ["Hel", "lo", "!"]


def test_outputs_of_a_workflow_are_items_in_order() -> None:
    outputs = ["a", "b", {"k": 1}, ["x", "y"], [Message("user", ["u"]), Message("assistant", ["v"])], None]
    several = AgentResponse(messages=[Message("assistant", ["1"]), Message("assistant", ["2"])])
    events = streamed(*map(yielded, [*outputs, several]))
    texts = [item["content"][0]["text"] for item in output(events)]
    assert texts == ["a", "b", '{"k":1}', '["x","y"]', "u", "v", "null", "1", "2"]


def test_an_agent_of_a_workflow_streams_its_text() -> None:
    inner = [AgentResponseUpdate(contents=[Content.from_text(text)], response_id="r") for text in ("a", "b")]
    events = streamed(yielded(inner[0]), yielded("whole"), yielded(inner[1]))
    assert [item["content"][0]["text"] for item in output(events)] == ["ab", "whole"]


def test_what_a_hook_left_of_an_output_is_told() -> None:
    changed = yielded(AgentResponse(messages=[Message("assistant", ["secret"]), Message("assistant", ["b"])]))
    changed.contents = [Content.from_text("***")]
    emptied = yielded("secret")
    emptied.contents = []
    (item,) = output(streamed(changed, emptied))
    assert item["content"][0]["text"] == "***"


def test_what_the_target_waits_for_ends_the_stream() -> None:
    held = call("{}", name="pay", id="a")
    approval = update(Content.from_function_approval_request("a", held), message_id=None)
    pending = PendingRequest("a", "tool_approval", {"name": "pay", "arguments": {}}, None)
    events = streamed(update(held), approval, pending=[pending])
    assert [(item["type"], item["call_id"]) for item in output(events)] == [
        ("function_call", "c"),
        ("function_call_output", "c"),
        ("function_call", "pending_a"),
    ]
    accumulated(events)


def test_an_id_that_is_used_again_names_another_call() -> None:
    result = Content.from_function_result("c", result="r")
    events = streamed(*map(update, [call("{}"), result, result, call("[]"), result, call("{}")]))
    ids = [item["call_id"] for item in output(events)]
    assert ids[0] == ids[1] == "c"
    assert ids[2] == ids[3] != "c"
    accumulated(events)


@pytest.mark.parametrize(
    ("status", "kind"), [("incomplete", "incomplete"), ("failed", "failed"), ("cancelled", "incomplete")]
)
def test_a_run_that_breaks_off_leaves_its_items_incomplete(status: Any, kind: str) -> None:
    events = opened()
    frames = [events.begin(), events.update(update("a")), events.update(update(call("{"), message_id="n"))]
    frames.append(events.update(update(Content.from_error(message="No."))))
    frames.append(events.close("incomplete"))
    read = decoded(b"".join([*frames, events.ending(response(status, events.items))]))
    check_stream(read)
    assert read[-1]["type"] == f"response.{kind}"
    assert {item["status"] for item in output(read)} == {"incomplete"}
    assert events.error == ResponseError("server_error", "No.")


def test_a_long_stream_keeps_little_beside_its_text() -> None:
    updates = [update("word ") for _ in range(100_000)]
    events = opened()
    events.begin()
    tracemalloc.start()
    try:
        for piece in updates:
            events.update(piece)
        events.close()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(output_text(events.items)) == 500_000
    assert peak <= 500_000 + 5_000_000


def output_text(items: Any) -> str:
    return plain(items)[0]["content"][0]["text"]


# Properties


def pieces_of(text: str) -> st.SearchStrategy[list[str]]:
    cuts = st.lists(st.integers(0, len(text)), max_size=4).map(lambda places: [0, *sorted(places), len(text)])
    return cuts.map(lambda places: [text[start:end] for start, end in pairwise(places)])


@st.composite
def run_of(draw: st.DrawFn, kind: str, number: int, message_id: str) -> tuple[list[AgentResponseUpdate], Content]:
    """Give the updates of one content, cut anywhere and perhaps repeated, and the content."""
    text = draw(st.text(st.characters(codec="utf-8") | st.sampled_from("\ud83d\ude00\n"), min_size=1, max_size=12))
    repeats = draw(st.booleans())

    def content(text: str, *, whole: bool = False) -> Content:
        mode: Any = "replace" if whole else draw(st.sampled_from([None, "append"]))
        if kind == "call":
            return call(text, call_id=f"{message_id}.{number}", merge_mode=mode)
        if kind == "reasoning":
            return Content.from_text_reasoning(text=text, merge_mode=mode)
        properties = dict(REFUSAL) if kind == "refusal" else None
        return Content.from_text(text, merge_mode=mode, additional_properties=properties)

    growing = [content(piece) for piece in draw(pieces_of(text))]
    if draw(st.booleans()):
        growing = [content(text[: len(text) // 2], whole=True)]
        repeats = True
    contents = growing + ([content(text, whole=True)] if repeats else [])
    return [update(piece, message_id=message_id) for piece in contents], content(text)


@st.composite
def answers(draw: st.DrawFn) -> tuple[list[AgentResponseUpdate], dict[str, list[Content]]]:
    """Give a stream of several messages, interleaved, and the contents of each."""
    streams: list[list[AgentResponseUpdate]] = []
    whole: dict[str, list[Content]] = {}
    for message in range(draw(st.integers(1, 3))):
        message_id = f"m{message}"
        updates: list[AgentResponseUpdate] = []
        last = ""
        for number in range(draw(st.integers(1, 4))):
            options = ["text", "refusal", "reasoning", "call"]
            # Neighbours of one kind are one to the framework, too.
            last = kind = draw(st.sampled_from([option for option in options if option != last or option == "call"]))
            more, content = draw(run_of(kind, number, message_id))
            updates += more
            whole.setdefault(message_id, []).append(content)
        streams.append(updates)
    order = draw(st.permutations([index for index, stream in enumerate(streams) for _ in stream]))
    sources = [iter(stream) for stream in streams]
    return [next(sources[index]) for index in order], whole


@given(answers())
@settings(max_examples=examples(100), deadline=None)
def test_any_chunking_and_interleaving_gives_the_same_answer(
    answer: tuple[list[AgentResponseUpdate], dict[str, list[Content]]],
) -> None:
    updates, whole = answer
    events = streamed(*updates)
    final = accumulated(events)
    assert [item.id for item in final.output] == [item["id"] for item in output(events)]
    result = AgentResponse(messages=[Message("assistant", contents) for contents in whole.values()])
    expected = substance(plain(render_output(result, [], minting())))
    assert sorted(map(repr, substance(output(events)))) == sorted(map(repr, expected))
    if len(whole) == 1:
        assert substance(output(events)) == expected
        assembled = AgentResponse.from_updates(updates)
        assert substance(plain(render_output(assembled, [], minting()))) == expected


CONTENTS = st.one_of(
    st.builds(
        Content,
        st.sampled_from(["text", "text_reasoning"]),
        text=st.none() | st.text(st.characters() | st.sampled_from("\ud83d\ude00"), max_size=3),
        id=st.sampled_from([None, "a", "b"]),
        protected_data=st.sampled_from([None, "secret"]),
        merge_mode=st.sampled_from([None, "append", "replace"]),
        additional_properties=st.sampled_from([None, REFUSAL, {"reasoning_text": True}]),
    ),
    st.builds(
        Content,
        st.just("function_call"),
        call_id=st.sampled_from([None, "", "a", "b"]),
        name=st.sampled_from([None, "", "f"]),
        arguments=st.sampled_from([None, "", "{", "{}", "\ud83d", {"a": object()}, {1: "\ud800", "n": 2**70}, [1]]),
        hosted=st.booleans(),
        merge_mode=st.sampled_from([None, "append", "replace"]),
    ),
    st.builds(
        Content,
        st.just("function_result"),
        call_id=st.sampled_from([None, "", "a", "b"]),
        result=st.sampled_from([None, "r", {"a": object()}]),
    ),
    st.builds(
        Content,
        st.just("function_approval_request"),
        function_call=st.sampled_from([None, call(call_id="a")]),
    ),
    st.builds(Content, st.sampled_from(["data", "uri"]), uri=st.sampled_from([None, PNG]), media_type=st.none()),
    st.builds(
        Content,
        st.just("image_generation_tool_result"),
        outputs=st.sampled_from([None, "x", [None, Content.from_uri(PNG)]]),
    ),
    st.builds(Content, st.sampled_from(["error", "usage", "oauth_consent_request", "unheard of"])),
)


@given(
    st.lists(st.tuples(st.lists(CONTENTS, max_size=3), st.sampled_from([None, "m", "n"]), st.booleans()), max_size=8)
)
@settings(max_examples=examples(200), deadline=None)
def test_whatever_comes_the_stream_is_in_order(steps: list[tuple[list[Content], str | None, bool]]) -> None:
    updates = [
        AgentResponseUpdate(contents=contents, message_id=message_id, merge_mode="replace" if whole else None)
        for contents, message_id, whole in steps
    ]
    events = streamed(*updates)
    accumulated(events)
    result = AgentResponse(messages=[Message("assistant", contents) for contents, _, _ in steps])
    plain(render_output(result, [], minting()))


def test_every_frame_is_an_event_of_its_own() -> None:
    events = opened()
    events.begin()
    events.update(update("a"))
    frame = events.update(update("line\r\n\u2028\n\nline"))
    assert frame.startswith(b"event: response.output_text.delta\ndata: {")
    (told,) = decoded(frame)
    check_event(told)
    assert msgspec.json.encode(told["delta"]) == rb'"line\r\n' + "\u2028".encode() + rb'\n\nline"'
