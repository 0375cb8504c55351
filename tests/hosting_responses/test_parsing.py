from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json
from agent_framework_hosting_responses.ids import is_minted
from agent_framework_hosting_responses.options import FORWARDABLE, READERS
from agent_framework_hosting_responses.parsing import Create, Rules, parse_create

from .malformed import MALFORMED

OPEN = Rules(forward=FORWARDABLE, trust_caller_instructions=True, allow_urls=True)


def parse(rules: Rules = Rules(), **body: Json) -> Create:  # noqa: B008 (frozen)
    return parse_create({"input": "hi", **body}, rules, mint=lambda prefix: f"{prefix}_1")


def test_a_text_alone_is_a_request() -> None:
    assert parse() == Create(
        input="hi",
        items=[
            {
                "id": "msg_1",
                "type": "message",
                "status": "completed",
                "role": "user",
                "content": [{"type": "input_text", "text": "hi"}],
            }
        ],
        answers={},
        options={},
        echo={},
        model=None,
        previous_response_id=None,
        conversation=None,
        stream=False,
        store=True,
        background=False,
    )


def test_null_is_not_given() -> None:
    names = READERS.keys() | {"store", "stream", "background", "prompt", "instructions"}
    assert parse(Rules(), **dict.fromkeys(names)) == parse()


def test_ids_are_minted() -> None:
    (item,) = parse_create({"input": "hi"}, Rules()).items
    assert isinstance(item["id"], str) and is_minted("msg", item["id"])


def test_flags_and_model_are_read() -> None:
    found = parse(stream=True, background=True, store=True, model="gpt-5")
    assert (found.stream, found.background, found.store, found.model) == (True, True, True, "gpt-5")
    assert not parse(store=False).store


def test_a_past_is_named_by_one_id() -> None:
    assert parse(previous_response_id="resp_1").previous_response_id == "resp_1"
    assert parse(conversation="conv_1").conversation == parse(conversation={"id": "conv_1"}).conversation == "conv_1"


def test_trusted_instructions_count_for_this_response() -> None:
    found = parse(OPEN, instructions="be brief")
    assert found.options == found.echo == {"instructions": "be brief"}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_malformed_or_refused_is_named(name: str) -> None:
    body, field = MALFORMED[name]
    with pytest.raises(InvalidRequest) as caught:
        parse_create(body, Rules())
    assert caught.value.field == field
    assert str(caught.value)[-1] == "."


def test_there_are_many_ways_to_be_wrong() -> None:
    assert len(MALFORMED) >= 60


@pytest.mark.parametrize(
    "body",
    [
        {"y" * 500: 1},
        {"tools": [{"type": "y" * 500}]},
        {"tools": [{"type": "function", "name": "f", "y" * 500: 1}]},
        {"tools": [{"type": "function", "name": "y" * 500}]},
        {"tool_choice": "y" * 500},
        {"metadata": {"k": "y" * 600}},
        {"metadata": {"y" * 64: 1}},
        {"include": ["y" * 500]},
        {"input": [{"type": "y" * 500}]},
        {"input": [{"role": "y" * 500}]},
        {"input": [{"role": "user", "content": [{"type": "y" * 500}]}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "y" * 500}]}]},
        {"input": [{"role": "assistant", "content": [{"type": "y" * 500}]}]},
    ],
)
def test_little_of_the_caller_s_text_is_repeated(body: dict[str, Json]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(OPEN, **body)
    assert str(caught.value).count("y") <= 80
    assert caught.value.field.count("y") <= 80


# fmt: off
WORDS = [
    "input_text", "input_image", "input_file", "output_text", "refusal", "message", "function_call",
    "function_call_output", "reasoning", "item_reference", "user", "assistant", "system", "function",
    "allowed_tools", "json_schema", "auto", "required", "pending_1", "{}", "hi", "data:image/png;base64,AA==",
    "https://example.com/a.png", "https://[", "https://a:b/",
]
KEYS = [
    "type", "role", "content", "text", "image_url", "file_data", "file_url", "filename", "detail", "output",
    "call_id", "name", "arguments", "summary", "id", "encrypted_content", "annotations", "parameters", "strict",
    "tools", "mode", "format", "schema", "verbosity", "effort", "phase",
]
# fmt: on
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.sampled_from(WORDS)


def objects(keys: Any, values: Any) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(keys) | st.text(max_size=2), values, max_size=6)


values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | objects(KEYS, inner), max_leaves=12)
parts = st.fixed_dictionaries(
    {"type": st.sampled_from(["input_text", "input_image", "input_file", "output_text", "refusal"])},
    optional={"text": values, "image_url": values, "file_data": values, "file_url": values, "filename": values},
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system"]), "content": values | st.lists(parts | values, max_size=3)}
)
items = st.fixed_dictionaries(
    {"type": st.sampled_from(["function_call", "function_call_output", "reasoning"])},
    optional={
        "call_id": values,
        "name": values,
        "arguments": values,
        "output": values | st.lists(parts, max_size=2),
        "summary": values,
        "encrypted_content": values,
    },
)
bodies = st.fixed_dictionaries(
    {"input": values | st.lists(messages | items | values, min_size=1, max_size=3)},
    optional=dict.fromkeys(sorted(READERS.keys() | {"conversation", "instructions", "stream"}), values),
)


@given(values | objects(sorted(READERS), values) | bodies, st.sampled_from([Rules(), OPEN]))
def test_any_json_is_a_request_or_refused(body: Any, rules: Rules) -> None:
    try:
        found = parse_create(body, rules)
    except InvalidRequest:
        return
    assert found.items
    assert bool(found.input) or bool(found.answers)
    if rules != OPEN:
        assert not found.options
        assert isinstance(found.input, str) or {message.role for message in found.input} <= {"user", "tool"}
