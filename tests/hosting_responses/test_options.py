from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from agent_framework import Agent, Content, tool

from agent_framework_hosting import ConfigurationError, InvalidRequest
from agent_framework_hosting.body import Json
from agent_framework_hosting_responses.options import (
    FORWARDABLE,
    Settings,
    check_forward_options,
    read_settings,
)
from agent_framework_hosting_responses.rules import Rules
from tests.support.targets import ScriptedClient

WEATHER: dict[str, Json] = {
    "type": "function",
    "name": "weather",
    "description": "Tell the weather.",
    "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    "strict": True,
}
SCHEMA: dict[str, Json] = {"type": "object", "properties": {"n": {"type": "integer"}}}


def read(*forward: str, **body: Json) -> Settings:
    return read_settings(body, Rules(forward=check_forward_options(forward)))


def forwarded(**body: Json) -> Settings:
    return read(*FORWARDABLE, **body)


@pytest.mark.parametrize(
    ("body", "echo"),
    [
        ({"model": "gpt-5"}, {}),
        ({"include": ["reasoning.encrypted_content", "message.output_text.logprobs"]}, {}),
        ({"stream_options": {"include_obfuscation": False}}, {}),
        ({"tools": []}, {}),
        ({"metadata": {"k" * 64: "v" * 512}}, {"metadata": {"k" * 64: "v" * 512}}),
        ({"user": "ada", "safety_identifier": "s"}, {"user": "ada", "safety_identifier": "s"}),
        ({"prompt_cache_key": "k"}, {"prompt_cache_key": "k"}),
        ({"truncation": "disabled", "service_tier": "auto"}, {"truncation": "disabled", "service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "default"}),
        ({"tool_choice": "auto"}, {}),
    ],
)
def test_labels_and_defaults_are_taken_and_never_reach_the_agent(body: dict[str, Json], echo: dict[str, Json]) -> None:
    assert read(**body) == Settings({}, echo)


@pytest.mark.parametrize(
    ("name", "value", "options"),
    [
        ("model", "gpt-5", {"model": "gpt-5"}),
        ("temperature", 0, {"temperature": 0}),
        ("temperature", 1.5, {"temperature": 1.5}),
        ("top_p", 1, {"top_p": 1}),
        ("presence_penalty", -2, {"presence_penalty": -2}),
        ("frequency_penalty", 2, {"frequency_penalty": 2}),
        ("max_output_tokens", 16, {"max_tokens": 16}),
        ("max_tool_calls", 1, {"max_tool_calls": 1}),
        ("top_logprobs", 0, {"top_logprobs": 0}),
        ("parallel_tool_calls", False, {"allow_multiple_tool_calls": False}),
        ("truncation", "auto", {"truncation": "auto"}),
        ("service_tier", "flex", {"service_tier": "flex"}),
        ("tool_choice", "none", {"tool_choice": {"mode": "none"}}),
        (
            "tool_choice",
            {"type": "function", "name": "f"},
            {"tool_choice": {"mode": "required", "required_function_name": "f"}},
        ),
        (
            "tool_choice",
            {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "f"}]},
            {"tool_choice": {"mode": "required", "allowed_tools": ["f"]}},
        ),
    ],
)
def test_an_option_is_forwarded_where_the_operator_says_so(name: str, value: Json, options: dict[str, Json]) -> None:
    assert read(name, **{name: value}) == Settings(options, {} if name == "model" else {name: value})
    if name != "model":
        with pytest.raises(InvalidRequest, match="forward_options") as caught:
            read(*(FORWARDABLE - {name}), **{name: value})
        assert caught.value.field == name


def test_a_default_is_forwarded_like_any_other_choice() -> None:
    body: dict[str, Json] = {"tool_choice": "auto", "truncation": "disabled", "service_tier": "auto"}
    assert forwarded(**body) == Settings({**body, "tool_choice": {"mode": "auto"}}, body)


@pytest.mark.parametrize(
    ("text", "options", "echo"),
    [
        ({}, {}, {"format": {"type": "text"}}),
        ({"verbosity": "low"}, {"verbosity": "low"}, {"format": {"type": "text"}, "verbosity": "low"}),
        (
            {"format": {"type": "json_object"}},
            {"response_format": {"type": "json_object"}},
            {"format": {"type": "json_object"}},
        ),
        (
            {"format": {"type": "json_schema", "name": "number", "schema": SCHEMA, "strict": True}},
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "number", "schema": SCHEMA, "strict": True},
                }
            },
            {
                "format": {
                    "type": "json_schema",
                    "name": "number",
                    "description": None,
                    "schema": None,
                    "strict": True,
                }
            },
        ),
    ],
)
def test_the_form_of_the_answer_is_forwarded(text: Json, options: dict[str, Json], echo: Json) -> None:
    assert read("text", text=text) == Settings(options, {"text": echo})


def test_reasoning_is_forwarded() -> None:
    found = read("reasoning", reasoning={"effort": "low", "summary": None})
    assert found == Settings({"reasoning": {"effort": "low"}}, {"reasoning": {"effort": "low", "summary": None}})
    assert read("reasoning", reasoning={}) == Settings()


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"temperature": True}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": 2.1}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"top_p": float("nan")}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"max_output_tokens": 15}, "max_output_tokens"),
        ({"max_output_tokens": 20.0}, "max_output_tokens"),
        ({"max_output_tokens": 10**30}, "max_output_tokens"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"parallel_tool_calls": 1}, "parallel_tool_calls"),
        ({"truncation": "some"}, "truncation"),
        ({"reasoning": "low"}, "reasoning"),
        ({"reasoning": {"effort": "some"}}, "reasoning.effort"),
        ({"reasoning": {"summary": True}}, "reasoning.summary"),
        ({"reasoning": {"generate_summary": "auto"}}, "reasoning.generate_summary"),
        ({"text": "json"}, "text"),
        ({"text": {"style": 1}}, "text.style"),
        ({"text": {"verbosity": "mute"}}, "text.verbosity"),
        ({"text": {"format": "json"}}, "text.format"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
        ({"text": {"format": {"type": "json_schema", "schema": SCHEMA}}}, "text.format.name"),
        ({"text": {"format": {"type": "json_schema", "name": "n"}}}, "text.format.schema"),
        ({"text": {"format": {"type": "json_schema", "json_schema": {}}}}, "text.format.json_schema"),
        ({"tools": WEATHER}, "tools"),
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].name"),
        ({"tools": ["weather"]}, "tools[0]"),
        ({"tools": [{**WEATHER, "name": "a.b"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "name": "weather\n"}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "name": "n" * 65}]}, "tools[0].name"),
        ({"tools": [{**WEATHER, "parameters": []}]}, "tools[0].parameters"),
        ({"tools": [{**WEATHER, "parameters": {"type": "array"}}]}, "tools[0].parameters"),
        ({"tools": [{**WEATHER, "description": 1}]}, "tools[0].description"),
        ({"tools": [{**WEATHER, "strict": "yes"}]}, "tools[0].strict"),
        ({"tools": [{**WEATHER, "defer_loading": True}]}, "tools[0].defer_loading"),
        ({"tools": [{"type": "function", "function": WEATHER}]}, "tools[0].function"),
        *(
            ({"tools": [{"type": kind, "server_url": "https://example.com"}]}, "tools[0].type")
            for kind in ("mcp", "web_search", "file_search", "code_interpreter", "custom", "shell")
        ),
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": ["auto"]}, "tool_choice"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.name"),
        ({"tool_choice": {"type": "allowed_tools", "tools": []}}, "tool_choice.tools"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "none", "tools": []}}, "tool_choice.mode"),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "mcp"}]}}, "tool_choice.tools[0].type"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"seed": 1}, "seed"),
    ],
)
def test_what_is_forwarded_is_checked(body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        forwarded(**body)
    assert caught.value.field == field


def test_only_what_exists_can_be_forwarded() -> None:
    assert check_forward_options(()) == frozenset()
    assert check_forward_options(["temperature", "tools"]) == {"temperature", "tools"}
    assert check_forward_options("tools") == {"tools"}
    for wrong in ("max_tokens", "metadata", "prompt", "input", "user"):
        with pytest.raises(ConfigurationError, match=rf"{wrong}: choose from .*max_output_tokens.*top_p"):
            check_forward_options(["tools", wrong])


def test_a_tool_is_shown_with_all_that_it_has() -> None:
    bare: Json = {"type": "function", "name": "now"}
    assert read("tools", tools=[WEATHER, bare]).echo["tools"] == [
        WEATHER,
        {
            "type": "function",
            "name": "now",
            "description": None,
            "parameters": {"type": "object", "properties": {}},
            "strict": None,
        },
    ]


async def test_an_agent_gives_the_call_of_a_client_s_tool_back_and_runs_its_own() -> None:
    ran: list[str] = []

    @tool(approval_mode="never_require")
    def clock() -> str:
        ran.append("clock")
        return "noon"

    def reply(messages: Any) -> list[Content]:
        if not ran:
            return [Content.from_function_call("c1", "clock", arguments="{}")]
        return [Content.from_function_call("c2", "weather", arguments='{"at": "home"}')]

    agent = Agent(client=ScriptedClient(reply), tools=[clock])
    options = read("tools", tools=[WEATHER]).options
    response = await agent.run("weather?", options=options)
    assert ran == ["clock"]
    last = response.messages[-1].contents[-1]
    assert (last.type, last.call_id, last.name, last.arguments) == ("function_call", "c2", "weather", '{"at": "home"}')
    (declared,) = options["tools"]
    assert declared.declaration_only
    assert declared.parameters() == WEATHER["parameters"]


def test_little_is_imported() -> None:
    code = (
        "import sys, agent_framework_hosting\n"
        "before = set(sys.modules)\n"
        "import agent_framework_hosting_responses.parsing as parsing\n"
        "parsing.parse_create({'input': 'hi'}, parsing.Rules())\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded & {'openai', 'pydantic', 'jsonschema', 'httpx2', 'agent_framework_openai'}))\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert shown.stdout.strip() == ""
