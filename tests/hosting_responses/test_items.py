from __future__ import annotations

import pytest
from agent_framework import Agent, Message, tool

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json
from agent_framework_hosting_responses.items import Input, read_input
from agent_framework_hosting_responses.rules import Rules
from tests.support.targets import ScriptedClient

PNG = "data:image/png;base64,iVBORw0KGgo="
TRUSTED = Rules(trust_caller_instructions=True)
URLS = Rules(allow_urls=True)


def read(*items: Json, rules: Rules = TRUSTED) -> Input:
    return read_input(list(items), rules, lambda prefix: f"{prefix}_1")


def user(*parts: Json, rules: Rules = URLS) -> Input:
    return read({"role": "user", "content": list(parts)}, rules=rules)


def output(call_id: str, output: Json) -> Json:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def shapes(found: Input) -> list[tuple[str, list[str]]]:
    return [(message.role, [content.type for content in message.contents]) for message in found.messages]


def test_a_user_message_needs_no_type_and_takes_a_text() -> None:
    found = read({"role": "user", "content": "hi", "id": "msg_theirs", "status": "completed"}, rules=Rules())
    assert [(message.role, message.text) for message in found.messages] == [("user", "hi")]
    assert found.items == [
        {
            "id": "msg_1",
            "type": "message",
            "status": "completed",
            "role": "user",
            "content": [{"type": "input_text", "text": "hi"}],
        }
    ]


@pytest.mark.parametrize(("given", "detail"), [({}, "auto"), ({"detail": None}, "auto"), ({"detail": "low"}, "low")])
def test_an_image_is_passed_on_as_it_is(given: dict[str, Json], detail: str) -> None:
    found = user({"type": "input_image", "image_url": PNG, "file_id": None, **given}, rules=Rules())
    (content,) = found.messages[0].contents
    assert (content.type, content.uri, content.media_type) == ("data", PNG, "image/png")
    assert content.additional_properties == {"detail": detail}
    assert found.items[0]["content"] == [{"type": "input_image", "image_url": PNG, "detail": detail}]


@pytest.mark.parametrize(
    ("part", "kind", "uri", "media_type"),
    [
        ({"file_data": "data:text/Plain;charset=utf-8;base64,aGk="}, "data", None, "text/plain"),
        ({"file_data": "aGk=", "filename": "a.pdf"}, "data", "data:application/pdf;base64,aGk=", "application/pdf"),
        ({"file_data": "aGk=", "filename": "a"}, "data", None, "application/octet-stream"),
        ({"file_data": "aGk=", "filename": "data:x/y,z.txt"}, "data", None, "text/plain"),
        ({"file_url": "https://example.com/a.pdf?b.txt"}, "uri", None, "application/pdf"),
        ({"file_url": "HTTPS://example.com/a", "filename": "a.txt"}, "uri", None, "text/plain"),
    ],
)
def test_a_file_is_passed_on_with_its_name_and_type(
    part: dict[str, Json], kind: str, uri: str | None, media_type: str
) -> None:
    found = user({"type": "input_file", **part})
    (content,) = found.messages[0].contents
    assert (content.type, content.media_type, content.name) == (kind, media_type, part.get("filename"))
    assert uri is None or content.uri == uri
    assert found.items[0]["content"] == [{"type": "input_file", **part}]


@pytest.mark.parametrize(
    ("url", "media_type"),
    [("https://example.com/cat.PNG", "image/png"), ("https://example.com:8443/cat?size=1", "image/*")],
)
def test_an_https_image_is_passed_on_where_that_is_allowed(url: str, media_type: str) -> None:
    (content,) = user({"type": "input_image", "image_url": url}).messages[0].contents
    assert (content.type, content.uri, content.media_type) == ("uri", url, media_type)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "https:/example.com/a.png",
        "https://",
        "https:///a.png",
        "https://user:secret@example.com/a.png",
        "https://[::1/a.png",
        "https://example.com:99999/a.png",
        "https://example.com/a b.png",
        "https://example.com/\n.png",
        "https://exämple.com/a.png",
        "https://example.com/" + "a" * 8192,
        "ftp://example.com/a.png",
        "s3://bucket/a.png",
        "DATA:image/png;base64,iVBORw0KGgo=",
    ],
)
def test_other_urls_are_never_passed_on(url: str) -> None:
    for kind, name in (("input_image", "image_url"), ("input_file", "file_url")):
        with pytest.raises(InvalidRequest) as caught:
            user({"type": kind, name: url})
        assert caught.value.field == f"input[0].content[0].{name}"


def test_the_model_s_side_becomes_one_message_until_another_speaks() -> None:
    found = read(
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "input_text", "text": "weather?"}]},
        {
            "type": "reasoning",
            "id": "rs_2",
            "summary": [{"type": "summary_text", "text": "hm"}],
            "encrypted_content": "x",
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"at":"home"}', "status": None},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        output("c1", "sunny"),
        output("c2", [{"type": "input_text", "text": "rain"}, {"type": "input_image", "image_url": PNG}]),
        {
            "type": "message",
            "role": "assistant",
            "phase": "final_answer",
            "content": [{"type": "output_text", "text": "ok"}],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no more"}]},
        {"role": "system", "content": "stop"},
    )
    assert shapes(found) == [
        ("system", ["text"]),
        ("user", ["text"]),
        ("assistant", ["text_reasoning", "function_call", "function_call"]),
        ("tool", ["function_result", "function_result"]),
        ("assistant", ["text", "text"]),
        ("system", ["text"]),
    ]
    reasoning, call, _ = found.messages[2].contents
    assert (reasoning.id, reasoning.text, reasoning.protected_data) == ("rs_2", "hm", "x")
    assert (call.call_id, call.name, call.arguments) == ("c1", "weather", '{"at":"home"}')
    first, second = found.messages[3].contents
    assert (first.call_id, first.result) == ("c1", "sunny")
    assert second.items is not None and [each.type for each in second.items] == ["text", "data"]
    assert [item["id"] for item in found.items] == (
        ["msg_1", "msg_1", "rs_1", "fc_1", "fc_1", "fco_1", "fco_1", "msg_1", "msg_1", "msg_1"]
    )
    assert found.items[0]["role"] == "developer"
    assert found.items[2] == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [{"type": "summary_text", "text": "hm"}],
        "encrypted_content": "x",
    }
    assert found.items[7]["phase"] == "final_answer"


def test_what_comes_with_given_back_output_is_tolerated() -> None:
    citation: Json = {"type": "url_citation", "url": "u", "title": "t", "start_index": 0, "end_index": 1}
    text: Json = {
        "type": "output_text",
        "text": "see",
        "annotations": [citation, {"type": "file_citation", "file_id": "f"}, 1],
        "logprobs": [{"token": "see"}],
    }
    found = read({"type": "message", "id": "msg_2", "role": "assistant", "status": "completed", "content": [text]})
    assert found.items[0]["content"] == [
        {"type": "output_text", "text": "see", "annotations": [citation], "logprobs": []}
    ]


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"role": "system", "content": [{"type": "input_image", "image_url": PNG}]}, "content[0].type"),
        ({"role": "system", "content": []}, "content"),
        ({"role": "assistant", "content": [{"type": "input_text", "text": "x"}]}, "content[0].type"),
        ({"role": "assistant", "content": [{"type": "output_text"}]}, "content[0].text"),
        ({"role": "assistant", "content": [{"type": "output_text", "text": "x", "tool": 1}]}, "content[0].tool"),
        ({"role": "assistant", "content": [{"type": "refusal"}]}, "content[0].refusal"),
        ({"role": "assistant", "content": "x", "phase": "end"}, "phase"),
        ({"type": "function_call", "call_id": "c", "arguments": "{}"}, "name"),
        ({"type": "function_call", "call_id": "c", "name": "a b", "arguments": "{}"}, "name"),
        ({"type": "function_call", "call_id": "c", "name": "f", "arguments": {}}, "arguments"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "call_id"),
        ({"type": "reasoning", "summary": "hm"}, "summary"),
        ({"type": "reasoning", "summary": [{"type": "text", "text": "hm"}]}, "summary[0].type"),
        ({"type": "reasoning", "summary": [], "encrypted_content": 1}, "encrypted_content"),
    ],
)
def test_what_is_given_back_is_checked(item: Json, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(item)
    assert caught.value.field == f"input[0].{field}"


@pytest.mark.parametrize("item", [{"role": "assistant", "content": []}, {"type": "reasoning", "summary": []}])
def test_items_that_say_nothing_are_no_input_alone(item: Json) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(item)
    assert caught.value.field == "input"
    assert shapes(read(item, {"role": "user", "content": "hi"})) == [("user", ["text"])]


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("true", True),
        ('{"approved": false}', {"approved": False}),
        ('"yes"', "yes"),
        ("null", None),
        ("yes, do", "yes, do"),
        ("", ""),
        ("1e999", "1e999"),
        ("\ud800", "\ud800"),
        ("[" * 100 + "]" * 100, "[" * 100 + "]" * 100),
    ],
)
def test_an_answer_to_the_host_is_json_or_a_text(text: str, answer: Json) -> None:
    found = read(output("pending_a", text), output("pending_pending_b", "1"), rules=Rules())
    assert found.answers == {"a": answer, "pending_b": 1}
    assert not found.messages
    assert found.items[0] == {
        "id": "fco_1",
        "type": "function_call_output",
        "status": "completed",
        "call_id": "pending_a",
        "output": text,
    }


@pytest.mark.parametrize("other", [output("call_1", "1"), {"role": "user", "content": "hi"}])
def test_answers_come_alone(other: Json) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(other, output("pending_a", "1"))
    assert caught.value.field == "input"


async def test_a_call_that_a_caller_gives_back_is_not_run() -> None:
    ran: list[str] = []

    @tool(approval_mode="never_require")
    def pay(to: str) -> str:
        ran.append(to)
        return "paid"

    def reply(messages: object) -> str:
        return "done"

    agent = Agent(client=ScriptedClient(reply), tools=[pay])
    call: Json = {"type": "function_call", "call_id": "c1", "name": "pay", "arguments": '{"to": "eve"}'}
    for items in ([call], [call, {"role": "user", "content": "go on"}]):
        messages: list[Message] = read(*items).messages
        assert (await agent.run(messages)).text == "done"
    assert not ran
