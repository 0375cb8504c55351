"""An agent that is served, as the model of another one: the framework's own client over real HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Never

import pytest
from agent_framework import (
    Agent,
    AgentResponse,
    AgentResponseUpdate,
    AgentSession,
    Content,
    Executor,
    Message,
    UsageDetails,
    Workflow,
    WorkflowBuilder,
    WorkflowContext,
    handler,
    tool,
)
from agent_framework.exceptions import ChatClientException
from agent_framework.openai import OpenAIChatClient
from openai import APIStatusError, AuthenticationError, BadRequestError, InternalServerError
from pydantic import BaseModel

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.responses_server import AUTH, OPS, ResponsesServer
from tests.support.targets import (
    ScriptedAgent,
    ScriptedClient,
    chat_workflow,
    recalling_agent,
    text_update,
)

streamed = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def served(target: Any, state_dir: Path | None = None, **how: Any) -> ResponsesServer:
    channel = ResponsesChannel("/v1/responses", auth=AUTH, **how)
    return ResponsesServer(AgentFrameworkHost(target, channels=[channel], state_dir=state_dir).app)


@asynccontextmanager
async def caller(server: ResponsesServer, key: str = OPS, **how: Any) -> AsyncIterator[Agent[Any]]:
    """Make an agent whose model is what is served."""
    client = OpenAIChatClient("served", base_url=server.url, api_key=key)
    async with client.client:
        yield Agent(client=client, name="caller", **how)


async def run(agent: Agent[Any], said: Any, *, stream: bool, **how: Any) -> AgentResponse[Any]:
    if not stream:
        return await agent.run(said, **how)
    return await agent.run(said, stream=True, **how).get_final_response()


@contextmanager
def fails(cause: type[APIStatusError], code: str) -> Iterator[None]:
    """Expect the framework's exception, with the official client's as its cause."""
    with pytest.raises(ChatClientException) as error:
        yield
    assert isinstance(error.value.__cause__, cause)
    assert error.value.__cause__.code == code


def event_of(update: AgentResponseUpdate) -> Any:
    """Give the event that an update was made of."""
    update_of_the_client: Any = update.raw_representation
    return update_of_the_client.raw_representation


def kinds(response: AgentResponse[Any]) -> list[str]:
    return [content.type for message in response.messages for content in message.contents]


@tool(approval_mode="never_require")
def weather(place: str) -> str:
    return f"sunny in {place}"


def asks_for(name: str, *, times: int = 1) -> Any:
    """Call a function so many times, one after the other, and tell what came of it."""

    def reply(messages: Sequence[Message]) -> str | list[Content]:
        results = [content.result for m in messages for content in m.contents if content.type == "function_result"]
        if len(results) < times:
            place = ["Rome", "Oslo", "Lima"][len(results)]
            return [Content.from_function_call(f"c{len(results)}", name, arguments={"place": place})]
        return "It is " + " and ".join(map(str, results))

    return reply


def breaks_off(messages: list[Message], session: AgentSession | None) -> Iterator[str]:
    yield "so far"
    raise ValueError("the agent's own secret")


class CountingAgent(ScriptedAgent):
    """Tells what its model has used."""

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        yield text_update("hi")
        used = UsageDetails(input_token_count=5, output_token_count=2, cache_read_input_token_count=3)
        yield AgentResponseUpdate(contents=[Content.from_usage(used)], role="assistant", message_id="m")


class Tally(Executor):
    """Takes texts, and counts them."""

    count = 0

    @handler
    async def hear(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.count += 1
        await ctx.yield_output(f"{self.count}: {text}")

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"count": self.count}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.count = state["count"]


def tally_workflow() -> Workflow:
    return WorkflowBuilder(name="tally", start_executor=Tally("tally")).build()


class Order(BaseModel):
    number: str
    pieces: int


@streamed
async def test_a_run(stream: bool) -> None:
    with served(ScriptedAgent()) as server:
        async with caller(server) as agent:
            response = await run(agent, "hi", stream=stream)
        assert (response.text, response.finish_reason) == ("1: hi", "stop")
        with server.client() as client:
            kept: Any = client.responses.retrieve(str(response.response_id))
            assert kept.output_text == "1: hi"


async def test_the_text_comes_in_pieces() -> None:
    with served(ScriptedAgent()) as server:
        async with caller(server) as agent:
            updates = [update async for update in agent.run("hi", stream=True)]
        deltas = [update.text for update in updates if event_of(update).type == "response.output_text.delta"]
        assert deltas == ["1: ", "hi"]


@streamed
async def test_a_session_goes_on_by_the_ids_of_responses(state_dir: Path | None, stream: bool) -> None:
    with served(recalling_agent(), state_dir) as server:
        async with caller(server) as agent:
            session, other = agent.create_session(), agent.create_session()
            said = [(await run(agent, text, stream=stream, session=session)).text for text in "ab"]
            assert said == ["a", "a | b"]
            second = session.service_session_id
            assert second is not None
            assert (await run(agent, "c", stream=stream, session=session)).text == "a | b | c"
            assert session.service_session_id != second
            fork = agent.get_session(second)
            assert (await run(agent, "d", stream=stream, session=fork)).text == "a | b | d"
            assert (await run(agent, "e", stream=stream, session=other)).text == "e"


@streamed
async def test_a_session_goes_on_with_another_instance(tmp_path: Path, stream: bool) -> None:
    with served(recalling_agent(), tmp_path / "state") as first:
        async with caller(first) as agent:
            session = agent.create_session()
            await run(agent, "a", stream=stream, session=session)
    kept = AgentSession.from_dict(session.to_dict())
    with served(recalling_agent(), tmp_path / "state") as second:
        async with caller(second) as agent:
            assert (await run(agent, "b", stream=stream, session=kept)).text == "a | b"


@streamed
async def test_a_conversation_is_one_session(state_dir: Path | None, stream: bool) -> None:
    with served(recalling_agent(), state_dir) as server:
        with server.client() as client:
            conversation = client.conversations.create().id
        async with caller(server) as agent:
            session = agent.get_session(conversation)
            said = [(await run(agent, text, stream=stream, session=session)).text for text in "ab"]
        assert (said, session.service_session_id) == (["a", "a | b"], conversation)


@pytest.mark.parametrize("remembered", [False, True], ids=["alone", "session"])
@streamed
async def test_the_caller_runs_its_functions(state_dir: Path | None, stream: bool, remembered: bool) -> None:
    target = Agent(client=ScriptedClient(asks_for("weather", times=2)), name="served")
    with served(target, state_dir, forward_options=("tools",)) as server:
        async with caller(server, tools=[weather]) as agent:
            session = agent.create_session() if remembered else None
            response = await run(agent, "How is it?", stream=stream, session=session)
            assert response.text == "It is sunny in Rome and sunny in Oslo"
            assert kinds(response) == ["function_call", "function_result"] * 2 + ["text"]
            assert server.statuses == [200] * 3
            if session is not None:
                assert (await run(agent, "And?", stream=stream, session=session)).text == response.text


@streamed
async def test_what_the_served_agent_runs_itself_is_not_run_again(stream: bool) -> None:
    target = Agent(client=ScriptedClient(asks_for("weather")), name="served", tools=[weather])
    with served(target) as server:
        async with caller(server) as agent:
            response = await run(agent, "How is it?", stream=stream)
        assert (response.text, server.statuses) == ("It is sunny in Rome", [200])
        assert kinds(response) == ["function_call", "function_result", "text"]


@streamed
async def test_the_caller_is_asked_for_an_approval(state_dir: Path | None, stream: bool) -> None:
    asked: list[tuple[str, Any]] = []

    @tool(approval_mode="never_require")
    def request_approval(name: str, arguments: dict[str, Any]) -> bool:
        asked.append((name, arguments))
        return True

    @tool(approval_mode="always_require", name="weather")
    def dear_weather(place: str) -> str:
        return f"fine in {place}"

    target = Agent(client=ScriptedClient(asks_for("weather")), name="served", tools=[dear_weather])
    with served(target, state_dir, forward_options=("tools",)) as server:
        async with caller(server) as agent:
            unanswered = await run(agent, "How is it?", stream=stream)
            assert kinds(unanswered) == ["function_call", "function_result", "function_call"]
        async with caller(server, tools=[request_approval]) as agent:
            response = await run(agent, "How is it?", stream=stream)
        assert (response.text, asked) == ("It is fine in Rome", [("weather", {"place": "Rome"})])


@streamed
async def test_structured_output(stream: bool) -> None:
    target = ScriptedAgent(lambda messages, session: ['{"number": "1003", ', '"pieces": 6}'])
    with served(target, forward_options=("text",)) as server:
        async with caller(server) as agent:
            response = await run(agent, "Six cups.", stream=stream, options={"response_format": Order})
        assert response.value == Order(number="1003", pieces=6)
        asked = target.options[0]["response_format"]["json_schema"]
        assert (asked["name"], asked["schema"]["required"]) == ("Order", ["number", "pieces"])


@streamed
async def test_usage_is_carried(stream: bool) -> None:
    with served(CountingAgent()) as server:
        async with caller(server) as agent:
            usage = (await run(agent, "hi", stream=stream)).usage_details
        assert usage is not None
        counts = [usage.get(f"{kind}_token_count") for kind in ("input", "output", "total", "cache_read_input")]
        assert counts == [5, 2, 7, 3]


@streamed
async def test_images_are_carried(stream: bool) -> None:
    target = ScriptedAgent(lambda messages, session: [str(content.uri) for content in messages[-1].contents[1:]])
    with served(target) as server:
        picture = Content.from_data(b"\x89PNG\r\n\x1a\n", "image/png")
        seen = Message("user", [Content.from_text("What is this?"), picture])
        async with caller(server) as agent:
            assert (await run(agent, seen, stream=stream)).text == picture.uri


@streamed
async def test_instructions_need_a_server_that_trusts_its_callers(stream: bool) -> None:
    target = ScriptedAgent()
    for trust in (False, True):
        with served(target, trust_caller_instructions=trust) as server:
            async with caller(server, instructions="Be kind.") as agent:
                if trust:
                    assert (await run(agent, "hi", stream=stream)).text == "1: hi"
                else:
                    with fails(BadRequestError, "invalid_request"):
                        await run(agent, "hi", stream=stream)
    assert target.options == [{"instructions": "Be kind."}]


@streamed
async def test_a_caller_may_keep_the_history_itself(stream: bool) -> None:
    client = ScriptedClient(asks_for("weather"))
    how: dict[str, Any] = {"forward_options": ("tools",), "trust_caller_instructions": True}
    with served(Agent(client=client, name="served"), **how) as server:
        async with caller(server, tools=[weather], default_options={"store": False}) as agent:
            session = agent.create_session()
            for text in ("How is it?", "And now?"):
                assert (await run(agent, text, stream=stream, session=session)).text == "It is sunny in Rome"
        assert session.service_session_id is None
        last = [content.type for message in client.asked[-1] for content in message.contents]
        assert last == ["text", "function_call", "function_result", "text", "text"]


@pytest.mark.parametrize(
    ("workflow", "answers"),
    [
        (tally_workflow, ["1: a", "2: b"]),
        (chat_workflow, ["a & a", "a+b & b"]),
    ],
    ids=["text", "messages"],
)
@streamed
async def test_a_workflow_is_served(state_dir: Path | None, workflow: Any, answers: list[str], stream: bool) -> None:
    with served(workflow, state_dir) as server:
        async with caller(server) as agent:
            session = agent.create_session()
            assert [(await run(agent, text, stream=stream, session=session)).text for text in "ab"] == answers


@streamed
async def test_refusals_are_raised(stream: bool) -> None:
    with served(ScriptedAgent()) as server:
        async with caller(server, "wrong-key-0123456789") as stranger:
            with fails(AuthenticationError, "unauthenticated"):
                await run(stranger, "hi", stream=stream)
        async with caller(server) as agent:
            with fails(BadRequestError, "previous_response_not_found"):
                await run(agent, "hi", stream=stream, session=agent.get_session("resp_" + "0" * 48))
            with fails(BadRequestError, "invalid_request"):
                await run(agent, "hi", stream=stream, options={"temperature": 1})


async def test_a_failure_is_raised() -> None:
    target = ScriptedAgent(breaks_off)
    with served(target) as server:
        async with caller(server) as agent:
            with fails(InternalServerError, "target_failed"):
                await agent.run("hi")
        assert len(target.heard) == 1


async def test_a_failure_within_a_stream_is_no_finished_response() -> None:
    # The framework's client raises nothing for `response.failed`, whoever sends it.
    with served(ScriptedAgent(breaks_off)) as server:
        async with caller(server) as agent:
            stream = agent.run("hi", stream=True)
            last = [event_of(update) async for update in stream][-1]
            assert (last.type, last.response.error.code) == ("response.failed", "server_error")
            response = await stream.get_final_response()
        assert (response.text, response.finish_reason) == ("so far", None)
