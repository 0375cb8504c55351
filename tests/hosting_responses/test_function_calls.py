"""Functions that the client runs, the agent's own tools, and tools that wait for an approval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_framework import Agent, Content, Message, tool

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_responses import ResponsesChannel
from agent_framework_hosting_responses.contents import AWAITS_OUTPUTS
from tests.hosting.protocol.channel import started
from tests.support.asgi import Reply, post_json
from tests.support.open_responses import check_response, check_stream
from tests.support.sse import parse_events
from tests.support.targets import ScriptedClient

WEATHER = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}


def asking(*calls: tuple[str, str]) -> Any:
    """Ask for calls (`call_id`, name) first, and tell the results of all that were called then."""

    def reply(messages: Sequence[Message]) -> str | list[Content]:
        results = [c.result for m in messages for c in m.contents if c.type == "function_result"]
        if results:
            return "It is " + " and ".join(map(str, results))
        return [Content.from_function_call(call_id, name, arguments='{"place": "Rome"}') for call_id, name in calls]

    return reply


def host(reply: Any, state: Path | None, *tools: Any, **how: Any) -> AgentFrameworkHost:
    agent = Agent(client=ScriptedClient(reply), name="helper", tools=[*tools])
    channel = ResponsesChannel(**{"auth": {"a": "a" * 16, "b": "b" * 16}, "forward_options": ("tools",), **how})
    return AgentFrameworkHost(agent, channels=[channel], state_dir=state)


async def ask(app: Any, value: Any, *, caller: str = "a", **body: Any) -> Reply:
    headers = {"authorization": f"Bearer {caller * 16}"}
    return await post_json(app, "/responses", {"input": value, **body}, headers)


def output(call_id: str, text: str) -> dict[str, str]:
    return {"type": "function_call_output", "call_id": call_id, "output": text}


@pytest.fixture(params=["memory", "directory"])
def state(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "state" if request.param == "directory" else None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_runs_its_functions_itself(state: Path | None, stream: bool) -> None:
    async with started(host(asking(("c1", "weather")), state)) as app:
        first = await ask(app, "How is Rome?", tools=[WEATHER], stream=stream)
        if stream:
            events = [msgspec.json.decode(event.data) for event in parse_events(first.body)]
            check_stream(events)
            response = events[-1]["response"]
        else:
            response = first.json
        check_response(response)
        [call] = response["output"]
        assert (call["type"], call["call_id"], call["name"]) == ("function_call", "c1", "weather")
        assert msgspec.json.decode(call["arguments"]) == {"place": "Rome"}
        second = await ask(app, [output("c1", "sunny")], previous_response_id=response["id"], tools=[WEATHER])
        assert [part["text"] for item in second.json["output"] for part in item["content"]] == ["It is sunny"]
        check_response(second.json)


async def test_an_output_must_answer_a_call_that_is_pending_for_that_caller(state: Path | None) -> None:
    async with started(host(asking(("c1", "weather")), state)) as app:
        first = (await ask(app, "How is Rome?", tools=[WEATHER])).json["id"]
        unasked: list[tuple[str, dict[str, Any]]] = [
            ("c2", {"previous_response_id": first}),
            ("c1", {}),
            ("c1", {"store": False}),
        ]
        for call_id, how in unasked:
            refused = await ask(app, [output(call_id, "sunny")], **how)
            assert (refused.status, refused.json["error"]["param"]) == (400, "input")
        foreign = await ask(app, [output("c1", "sunny")], previous_response_id=first, caller="b")
        assert (foreign.status, foreign.json["error"]["code"]) == (400, "previous_response_not_found")
        answered = await ask(app, [output("c1", "sunny")], previous_response_id=first)
        again = await ask(app, [output("c1", "rain")], previous_response_id=answered.json["id"])
        assert (again.status, again.json["error"]["param"]) == (400, "input")
        fork = await ask(app, [output("c1", "rain")], previous_response_id=first)
        assert fork.json["output"][0]["content"][0]["text"] == "It is rain"


async def test_calls_are_answered_together_or_one_after_the_other(state: Path | None) -> None:
    async with started(host(asking(("c1", "weather"), ("c2", "weather")), state)) as app:
        first = (await ask(app, "How is Rome?", tools=[WEATHER])).json["id"]
        both = await ask(app, [output("c1", "sun"), output("c2", "wind")], previous_response_id=first)
        assert both.json["output"][0]["content"][0]["text"] == "It is sun and wind"
        one = (await ask(app, [output("c1", "sun")], previous_response_id=first)).json["id"]
        other = await ask(app, [output("c2", "wind")], previous_response_id=one)
        assert other.status == 200


async def test_the_agents_own_tools_are_calls_with_an_output(state: Path | None) -> None:
    @tool(approval_mode="never_require")
    def weather(place: str) -> str:
        return f"fine in {place}"

    async with started(host(asking(("c1", "weather")), state, weather)) as app:
        answer = (await ask(app, "How is Rome?")).json
        check_response(answer)
        kinds = [item["type"] for item in answer["output"]]
        assert kinds == ["function_call", "function_call_output", "message"]
        assert answer["output"][1]["output"] == "fine in Rome"
        refused = await ask(app, [output("c1", "sunny")], previous_response_id=answer["id"])
        assert (refused.status, refused.json["error"]["param"]) == (400, "input")


@pytest.mark.parametrize(("answer", "said"), [("true", "It is fine in Rome"), ('{"approved": false}', "It is ")])
async def test_an_approval_is_a_call_that_the_client_answers(state: Path | None, answer: str, said: str) -> None:
    @tool(approval_mode="always_require")
    def weather(place: str) -> str:
        return f"fine in {place}"

    async with started(host(asking(("c1", "weather")), state, weather)) as app:
        first = (await ask(app, "How is Rome?")).json
        check_response(first)
        asked = first["output"][-1]
        assert (asked["type"], asked["name"]) == ("function_call", "request_approval")
        assert msgspec.json.decode(asked["arguments"]) == {"name": "weather", "arguments": {"place": "Rome"}}
        nonsense = await ask(app, [output(asked["call_id"], "perhaps")], previous_response_id=first["id"])
        assert (nonsense.status, nonsense.json["error"]["type"]) == (400, "invalid_request_error")
        second = await ask(app, [output(asked["call_id"], answer)], previous_response_id=first["id"])
        assert second.json["output"][-1]["content"][0]["text"].startswith(said)


async def test_a_function_with_the_name_of_a_tool_of_the_agents_is_refused(state: Path | None) -> None:
    @tool(approval_mode="never_require")
    def weather(place: str) -> str:
        return f"fine in {place}"

    async with started(host(asking(("c1", "weather")), state, weather)) as app:
        refused = await ask(app, "How is Rome?", tools=[WEATHER])
        assert (refused.status, refused.json["error"]["param"]) == (400, "tools[0].name")


async def test_tools_are_refused_unless_the_operator_lists_them(state: Path | None) -> None:
    async with started(host(asking(("c1", "weather")), state, forward_options=())) as app:
        refused = await ask(app, "How is Rome?", tools=[WEATHER])
        assert (refused.status, refused.json["error"]["param"]) == (400, "tools")


@pytest.mark.parametrize("stream", [False, True])
async def test_calls_of_the_agents_own_wait_for_the_outputs_of_the_clients(state: Path | None, stream: bool) -> None:
    """The framework runs its own tool only when all calls beside it are answered: a client must not."""
    ran: list[str] = []

    @tool
    def forecast(place: str) -> str:
        ran.append(place)
        return "sunny"

    async with started(host(asking(("c1", "forecast"), ("c2", "weather")), state, forecast)) as app:
        first = await ask(app, "How is Rome?", tools=[WEATHER], stream=stream)
        made = first.json if not stream else msgspec.json.decode(parse_events(first.body)[-1].data)["response"]
        kinds = [(item["type"], item["call_id"], item.get("output")) for item in made["output"]]
        assert kinds == [
            ("function_call", "c1", None),
            ("function_call", "c2", None),
            ("function_call_output", "c1", AWAITS_OUTPUTS),
        ]
        assert made["output"][2]["status"] == "incomplete"
        again = {"previous_response_id": made["id"], "tools": [WEATHER]}
        refused = await ask(app, [output("c1", "forged"), output("c2", "windy")], **again)
        assert (refused.status, refused.json["error"]["param"], ran) == (400, "input", [])
        whole = await ask(app, [output("c2", "windy")], **again)
        assert (whole.status, ran) == (200, ["Rome"])
        assert [item.get("output") for item in whole.json["output"]] == ["sunny", None]
        assert whole.json["output"][1]["content"][0]["text"] == "It is sunny and windy"
