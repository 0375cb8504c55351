from __future__ import annotations

import subprocess
import sys
from typing import Any

import msgspec
import pytest
from jsonschema.exceptions import ValidationError

from agent_framework_hosting_responses.schema import (
    FunctionCallItem,
    FunctionCallOutputItem,
    IncompleteDetails,
    InputFile,
    InputImage,
    InputText,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    Refusal,
    Response,
    ResponseError,
    SummaryText,
    UrlCitation,
    Usage,
    decode_items,
    decode_response,
    encode,
)
from tests.support.open_responses import check_event, check_item, check_response

ITEMS: list[Item] = [
    MessageItem("msg_1", content=[OutputText("hi", [UrlCitation("https://example.com", "Example", 0, 2)])]),
    MessageItem("msg_2", "incomplete", content=[Refusal("no")]),
    FunctionCallItem("fc_1", "call_1", "look", "{}"),
    FunctionCallOutputItem("fco_1", "call_1", "seen"),
    FunctionCallOutputItem("fco_2", "call_2", [InputText("seen"), InputImage("https://example.com/a.png")]),
    FunctionCallOutputItem(
        "fco_3", "call_3", [InputFile("https://example.com/a", "a"), InputFile("data:text/plain,a")]
    ),
    ReasoningItem("rs_1", [SummaryText("hm")], "secret"),
    ReasoningItem("rs_2"),
]


def full() -> Response:
    return Response(
        id="resp_1",
        created_at=1,
        completed_at=2,
        status="incomplete",
        model="m",
        output=ITEMS,
        usage=Usage(1, 2, 3),
        error=ResponseError("server_error", "It broke."),
        incomplete_details=IncompleteDetails("max_output_tokens"),
        tools=[{"type": "function", "name": "f", "description": None, "parameters": {}, "strict": None}],
        tool_choice={"type": "function", "name": "f"},
        text={"format": {"type": "json_schema", "name": "n", "description": None, "schema": {}, "strict": True}},
        metadata={"a": "b"},
        user="u",
    )


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: item.id)
def test_items_are_as_the_document_has_them(item: Item) -> None:
    check_item(msgspec.json.decode(encode(item)))


def test_a_response_has_every_field_that_the_document_requires() -> None:
    check_response(msgspec.json.decode(encode(full())))
    check_response(msgspec.json.decode(encode(Response(id="r", created_at=1, status="queued", model="m"))))


def test_what_is_stored_is_read_back() -> None:
    assert decode_response(encode(full())) == full()
    assert decode_items(encode(ITEMS)) == ITEMS


def test_lone_surrogates_become_replacement_characters() -> None:
    item = MessageItem("m", content=[OutputText("a\ud800b\ud83d\ude00")])
    assert decode_items(encode([item])) == [MessageItem("m", content=[OutputText("a\ufffdb😀")])]


@pytest.mark.parametrize(
    "item",
    [
        {"type": "novel", "id": "n"},
        {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [{"type": "refusal"}]},
        {"type": "function_call", "id": "f", "call_id": "c", "name": "n", "status": "completed"},
        "text",
    ],
)
def test_the_validator_finds_what_does_not_fit(item: Any) -> None:
    with pytest.raises(ValidationError):
        check_item(item)


def test_the_validator_asks_for_what_clients_read() -> None:
    delta = {"type": "response.output_text.delta", "item_id": "m", "output_index": 0, "content_index": 0, "delta": "a"}
    check_event({**delta, "sequence_number": 0, "logprobs": []})
    with pytest.raises(KeyError, match="logprobs"):
        check_event({**delta, "sequence_number": 0})


def test_the_server_imports_no_client() -> None:
    program = (
        "import sys, agent_framework_hosting\n"
        "import agent_framework_hosting_responses.events, agent_framework_hosting_responses.rendering\n"
        "assert not {'openai', 'jsonschema', 'agent_framework_openai'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
