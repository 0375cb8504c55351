"""Commands: what a channel contributes, and what a handler can do in a real host."""

from __future__ import annotations

from pathlib import Path

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelCommand,
    ChannelCommandContext,
    ChannelContext,
    ChannelContribution,
    ChannelRequest,
    ChannelSession,
    Provisioning,
)
from tests.support.asgi import post_json
from tests.support.channels import serving, started
from tests.support.targets import ScriptedAgent


async def start_anew(command: ChannelCommandContext) -> None:
    await command.reset_session()
    await command.reply("Forgotten.")


async def repeat(command: ChannelCommandContext) -> None:
    for word in str(command.request.input).split()[1:]:
        await command.reply(word)


class ChatChannel:
    """`POST /chat`: `{"key", "text"}` in, a list of replies out; a text such as `/new` is a command."""

    name = "chat"
    path = "/chat"
    commands = (ChannelCommand("new", "Start anew.", start_anew), ChannelCommand("say", "Say it back.", repeat))

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        async def post(request: Request) -> JSONResponse:
            replies: list[str] = []

            async def reply(text: str) -> None:
                replies.append(text)

            body = await request.json()
            turn = ChannelRequest(self.name, "message", body["text"], ChannelSession(body["key"]))
            for command in self.commands:
                if body["text"].split()[0] == f"/{command.name}":
                    await command.handle(ChannelCommandContext(turn, reply, reset=context.reset_session))
                    break
            else:
                await reply((await context.run(turn)).result.text)
            return JSONResponse(replies)

        async def register(provisioning: Provisioning) -> None:
            for command in self.commands:
                provisioning.done(f"/{command.name}: {command.description}")

        return ChannelContribution(
            [Route("/", post, methods=["POST"])], self.commands, on_provision=[register], authenticated=True
        )


async def test_a_command_replies_and_starts_its_own_conversation_anew(state_dir: Path | None) -> None:
    agent = ScriptedAgent()
    host = AgentFrameworkHost(agent, channels=[ChatChannel()], state_dir=state_dir)

    async def say(key: str, text: str) -> list[str]:
        return (await post_json(host.app, "/chat", {"key": key, "text": text})).json

    async with started(host):
        for key in ("a", "b"):
            assert await say(key, "x") == ["1: x"]
        assert await say("a", "/new") == ["Forgotten."]
        assert await say("a", "y") == ["1: y"]
        assert await say("b", "y") == ["2: y"], "the conversation of somebody else goes on"
    first, *_, anew, _ = [session.session_id for session in agent.sessions if session is not None]
    assert first == "a" and anew.startswith("a#")


async def test_a_command_is_no_turn_and_may_reply_often(state_dir: Path | None) -> None:
    agent = ScriptedAgent()
    host = AgentFrameworkHost(agent, channels=[ChatChannel()], state_dir=state_dir)
    async with started(host):
        assert (await post_json(host.app, "/chat", {"key": "a", "text": "/say one two"})).json == ["one", "two"]
    assert agent.heard == []


async def test_commands_are_there_to_be_registered_with_a_platform() -> None:
    host = AgentFrameworkHost(ScriptedAgent(), channels=[ChatChannel()])
    assert await host.provision() == ["/new: Start anew.", "/say: Say it back."]


async def silence(text: str) -> None:
    return None


@pytest.mark.parametrize("session", [None, ChannelSession(), ChannelSession(parent="a")], ids=repr)
async def test_outside_a_conversation_there_is_nothing_to_reset(session: ChannelSession | None) -> None:
    async with serving(ScriptedAgent()) as served:
        await served.ask("a", "x")
        request = ChannelRequest("probe", "command", "/new", session)
        command = ChannelCommandContext(request, silence, reset=served.context.reset_session)
        with pytest.raises(LookupError, match="outside a conversation"):
            await command.reset_session()
        assert (await served.ask("a", "y")).result.text == "2: y"


async def test_a_context_without_reset_says_what_its_channel_must_give_it() -> None:
    request = ChannelRequest("probe", "command", "/new", ChannelSession("a"))
    with pytest.raises(LookupError, match=r"reset=: give it ChannelContext\.reset_session"):
        await ChannelCommandContext(request, silence).reset_session()
