"""What an agent is run with."""

from __future__ import annotations

from typing import Any

import pytest
from agent_framework import Agent, AgentResponse, Content, Message

from agent_framework_hosting import ChannelIdentity, InvalidRequest
from tests.support.channels import serving
from tests.support.targets import ManagedAgent, ScriptedAgent, ScriptedClient


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.mark.parametrize("given", ["hello", Content.from_text("hello"), Message("user", ["hello"])], ids=type)
@pytest.mark.parametrize("listed", [False, True])
async def test_text_contents_and_messages_become_messages(agent: ScriptedAgent, given: Any, listed: bool) -> None:
    async with serving(agent) as served:
        assert isinstance((await served.ask("a", [given] if listed else given)).result, AgentResponse)
    ((message,),) = agent.heard
    assert (message.role, message.text) == ("user", "hello")
    assert isinstance(given, Message) is (message is given)


async def test_messages_go_as_they_are_and_only_the_last_is_marked(agent: ScriptedAgent) -> None:
    messages = [Message("system", ["be brief"]), Message("user", ["hello"]), Message("assistant", ["hi"])]
    async with serving(agent) as served:
        await served.ask("a", messages)
    assert agent.heard == [messages]
    assert ["hosting" in message.additional_properties for message in messages] == [False, False, True]
    assert [message.role for message in agent.heard[0]] == ["system", "user", "assistant"]


async def test_the_mark_names_the_channel_and_the_caller(agent: ScriptedAgent) -> None:
    identity = ChannelIdentity("chat", "user-7", {"locale": "de"})
    async with serving(agent) as served:
        await served.ask("a", "x")
        await served.ask("a", "x", channel="chat", identity=identity)
    assert [heard[-1].additional_properties["hosting"] for heard in agent.heard] == [
        {"channel": "probe"},
        {
            "channel": "chat",
            "identity": {"channel": "chat", "native_id": "user-7", "attributes": {"locale": "de"}},
        },
    ]


@pytest.mark.parametrize("given", [None, 7, b"bytes", {"a": 1}, [], ["x", 7], [None]], ids=repr)
async def test_other_input_is_refused_naming_the_field(agent: ScriptedAgent, given: Any) -> None:
    async with serving(agent) as served:
        for run in (served.ask, served.stream):
            with pytest.raises(InvalidRequest) as raised:
                await run("a", given)
            assert raised.value.field == "message" and not raised.value.started
    assert agent.heard == []


async def test_options_reach_targets_that_take_them(agent: ScriptedAgent) -> None:
    async with serving(agent) as served:
        await served.ask("a", "x", options={"temperature": 0.5})
        await (await served.stream("a", "x", options={"temperature": 0.6}))
        await served.ask("a", "x", options={})
        await served.ask("a", "x")
    assert agent.options == [{"temperature": 0.5}, {"temperature": 0.6}, None, None]


async def test_options_reach_the_frameworks_agent() -> None:
    async with serving(Agent(client=ScriptedClient(lambda _: "hi"), name="a")) as served:
        assert (await served.ask("a", "x", options={"temperature": 0.5})).result.text == "hi"


class Plain(ManagedAgent):
    """Takes no options."""

    def run(self, messages: Any = None, *, stream: bool = False, session: Any = None) -> Any:  # type: ignore[override]
        return super().run(messages, stream=stream, session=session)


async def test_options_are_refused_where_the_target_takes_none() -> None:
    async with serving(Plain([])) as served:
        with pytest.raises(InvalidRequest, match=r"Plain\.run\(\) takes no `options`") as raised:
            await served.ask("a", "x", options={"temperature": 0.5})
        assert raised.value.field == "options"
        assert (await served.ask("a", "x", options={})).result.text == "1: x"


async def test_results_are_the_targets_own(agent: ScriptedAgent) -> None:
    async with serving(agent) as served:
        hosted = await served.ask("a", "x")
        assert type(hosted.result) is AgentResponse
        assert hosted.session is agent.sessions[0]
        assert (hosted.pending, hosted.saved) == ([], True)
        changed = hosted.replace(result="other")
        assert (changed.result, changed.session, changed.saved) == ("other", hosted.session, True)
