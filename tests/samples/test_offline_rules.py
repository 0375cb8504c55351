"""What the offline model decides, for tool sets it has never seen."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from offline_rules import Call, Say, Tool, plan


def tool(name: str, description: str, *required: str, careful: bool = False, **properties: Any) -> Tool:
    return Tool(name, description, {"properties": properties, "required": list(required)}, careful)


WEATHER = tool(
    "get_weather",
    "Get the weather forecast of a city.",
    "city",
    city={"type": "string"},
    days={"type": "integer"},
    unit={"enum": ["celsius", "fahrenheit"]},
)
LIGHT = tool("switch_light", "Switch a lamp.", "room", room={"enum": ["kitchen", "hall"]}, level={"type": "number"})
BOOK = tool("book_room", "Book a meeting room.", "room_number", careful=True, room_number={"type": "string"})
TOOLS = [BOOK, WEATHER, LIGHT]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "What's the weather in city Paris for 3 days in celsius?",
            Call("get_weather", {"city": "Paris", "days": 3, "unit": "celsius"}),
        ),
        ('Forecast for "New York" please', Call("get_weather", {"city": "New York"})),
        ("Switch the light in the Kitchen to 0.4", Call("switch_light", {"room": "kitchen", "level": 0.4})),
        ("Book room B12", Call("book_room", {"room_number": "B12"})),
        ("Book me a room", Say("Please tell me the room number.")),
        ("Switch the light", Say("Please tell me the room.")),
        ("Good morning", Say("I can help with: book room, get weather, switch light.")),
    ],
)
def test_a_tool_is_chosen_by_its_words_and_called_by_its_schema(text: str, expected: Call | Say) -> None:
    assert plan(text, [], TOOLS) == [expected]


def test_a_tool_that_needs_approval_loses_a_tie() -> None:
    order = {"type": "string"}
    refund = tool("refund_order", "Pay back.", "order_id", careful=True, order_id=order)
    tools = [refund, tool("show_order", "Show.", "order_id", order_id=order)]
    assert plan("order 7", [], tools) == [Call("show_order", {"order_id": "7"})]
    assert plan("refund order 7", [], tools) == [Call("refund_order", {"order_id": "7"})]


def test_facts_are_noted_and_recalled_and_the_latest_counts() -> None:
    assert plan("My name is Ada and my room is B12.", [], []) == [
        Say("Noted: your name is Ada."),
        Say("Noted: your room is B12."),
    ]
    said = ["My name is Ada.", "My name is Grace Hopper, by the way."]
    assert plan("What is my name?", said, []) == [Say("Your name is Grace Hopper.")]
    assert plan("Do you remember my Name?", said, TOOLS) == [Say("Your name is Grace Hopper.")]
    assert plan("Tell me what is my name and thank you", said, []) == [Say("Your name is Grace Hopper.")]
    assert plan("What's my favourite colour?", said, TOOLS) == [Say("You have not told me your favourite colour yet.")]


def test_what_was_said_before_fills_what_a_sentence_leaves_out() -> None:
    assert plan("Book it", ["I like room B12", "Thank you"], TOOLS) == [Call("book_room", {"room_number": "B12"})]
    assert plan("My room is C3. Book my room.", [], TOOLS)[1] == Call("book_room", {"room_number": "C3"})
    mine = ["My room is C3.", "Is room D4 free?"]
    assert plan("Book that room.", mine, TOOLS) == [Call("book_room", {"room_number": "D4"})]
    assert plan("Book my room.", mine, TOOLS) == [Call("book_room", {"room_number": "C3"})]


def test_one_message_may_ask_for_several_things() -> None:
    assert plan("My name is Ada. Book room B12, then switch the light in the hall and what is my name?", [], TOOLS) == [
        Say("Noted: your name is Ada."),
        Call("book_room", {"room_number": "B12"}),
        Call("switch_light", {"room": "hall"}),
        Say("Your name is Ada."),
    ]


def test_a_reason_is_taken_whole() -> None:
    refund = tool("refund", "Refund.", "id", id={"pattern": r"^\d+$"}, reason={"type": "string"})
    assert plan("Refund 12 because it is broken and wet.", [], [refund]) == [
        Call("refund", {"id": "12", "reason": "it is broken and wet"})
    ]


@given(st.text(), st.lists(st.text(), max_size=4))
def test_any_text_gets_one_and_the_same_decision(text: str, earlier: list[str]) -> None:
    first = plan(text, earlier, TOOLS)
    assert first
    assert plan(text, earlier, TOOLS) == first
