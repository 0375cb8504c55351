"""Hooks: when they are called, with what, and what they may change."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentResponseUpdate

from agent_framework_hosting import (
    ChannelRequest,
    ChannelSession,
    ConfigurationError,
    HostedRunResult,
    InvalidRequest,
)
from tests.support.channels import Served, serving
from tests.support.targets import ScriptedAgent, memory_workflow, text_update


def asynchronous(hook: Callable[..., Any]) -> Callable[..., Any]:
    async def later(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return hook(*args, **kwargs)

    return later


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]
BOTH = pytest.mark.parametrize("wrap", [lambda hook: hook, asynchronous], ids=["sync", "async"])
STREAM = pytest.mark.parametrize("stream", [False, True], ids=["once", "stream"])


async def run(served: Served, stream: bool, key: str, text: str, **hooks: Any) -> Any:
    return await served.finish(key, text, stream=stream, hooks=hooks)


@BOTH
@STREAM
async def test_a_run_hook_changes_the_request_before_its_session_is_found(
    wrap: Wrap, stream: bool, state_dir: Path | None
) -> None:
    seen: list[dict[str, Any]] = []

    def hook(request: ChannelRequest, **context: Any) -> ChannelRequest:
        seen.append(context)
        return dataclasses.replace(request, input=f"{request.input}!", session=ChannelSession("b"))

    agent = ScriptedAgent()
    async with serving(agent, state_dir=state_dir) as served:
        await served.ask("b", "x")
        result = await run(served, stream, "a", "y", run_hook=wrap(hook), protocol_request={"raw": 1})
        assert result.text == "2: y!"
        assert (await served.ask("a", "z")).result.text == "1: z"
    assert seen == [{"target": agent, "protocol_request": {"raw": 1}}]


async def test_a_run_hook_may_take_the_session_away() -> None:
    async with serving(ScriptedAgent()) as served:
        for change in ({"session": None}, {"session_mode": "disabled"}):

            def hook(request: ChannelRequest, change: Any = change, **_: Any) -> ChannelRequest:
                return dataclasses.replace(request, **change)

            hosted = await served.ask("a", "x", hooks={"run_hook": hook})
            assert (hosted.session, hosted.saved) == (None, False)
        assert (await served.ask("a", "x")).result.text == "1: x"


async def test_a_run_hook_may_find_the_session_by_a_slow_look_up_without_holding_any() -> None:
    """It runs before the conversation is taken: two of them wait at once, on one key."""
    both = asyncio.Barrier(2)

    async def hook(request: ChannelRequest, **_: Any) -> ChannelRequest:
        await both.wait()
        return request

    async with serving(ScriptedAgent()) as served:
        async with asyncio.timeout(5):
            await asyncio.gather(*[served.ask("a", "x", hooks={"run_hook": hook}) for _ in range(2)])


@STREAM
async def test_a_failing_run_hook_runs_nothing(stream: bool) -> None:
    def hook(request: ChannelRequest, **_: Any) -> ChannelRequest:
        raise InvalidRequest("message", "not now")

    agent = ScriptedAgent()
    async with serving(agent) as served:
        with pytest.raises(InvalidRequest, match="not now") as raised:
            await run(served, stream, "a", "x", run_hook=hook)
        assert not raised.value.started
    assert agent.heard == []


@BOTH
@STREAM
async def test_a_response_hook_changes_the_result_after_it_was_saved(
    wrap: Wrap, stream: bool, state_dir: Path | None
) -> None:
    seen: list[Any] = []

    def hook(hosted: HostedRunResult[Any], **context: Any) -> HostedRunResult[Any]:
        seen.append((hosted.saved, context["channel_name"], context["request"].input))
        return hosted.replace(result=hosted.result.text.upper())

    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        assert await run(served, stream, "a", "x", response_hook=wrap(hook)) == "1: X"
        await run(served, stream, "a", "x", response_hook=wrap(hook), channel_name="other")
    assert [entry[0] for entry in seen] == [True, True]
    assert [entry[1:] for entry in seen] == [("probe", "x"), ("other", "x")]


@STREAM
async def test_when_the_response_hook_fails_the_turn_is_saved_already(stream: bool, state_dir: Path | None) -> None:
    def hook(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
        raise ValueError("no words")

    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        with pytest.raises(ValueError, match="no words"):
            await run(served, stream, "a", "x", response_hook=hook)
        assert (await served.ask("a", "y")).result.text == "2: y"


@BOTH
async def test_a_response_hook_that_failed_once_is_called_again_and_the_turn_is_there(
    wrap: Wrap, state_dir: Path | None
) -> None:
    seen: list[str] = []

    def hook(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
        seen.append(hosted.result.text)
        if len(seen) == 1:
            raise ValueError("no words")
        return hosted.replace(result=hosted.result.text.upper())

    agent = ScriptedAgent()
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "x", hooks={"response_hook": wrap(hook)})
        with pytest.raises(ValueError, match="no words"):
            await turn.get_final_response()
        assert turn.hosted is None
        assert await turn.get_final_response() == "1: X"
        assert turn.hosted is not None and (turn.hosted.result, turn.hosted.saved) == ("1: X", True)
        assert await turn == "1: X"
        assert seen == ["1: x", "1: x"], "the agent's own result both times, and no third call"
        await turn.aclose()
        assert (await served.ask("a", "y")).result.text == "2: y"
    assert len(agent.heard) == 2, "the turn was run once"


@STREAM
async def test_within_a_response_hook_the_conversation_is_free(stream: bool, state_dir: Path | None) -> None:
    async with serving(ScriptedAgent(), state_dir=state_dir) as served:

        async def hook(hosted: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
            return await served.ask("a", "again")

        async with asyncio.timeout(5):
            assert (await run(served, stream, "a", "x", response_hook=hook)).text == "2: again"


@BOTH
async def test_a_stream_update_hook_changes_and_drops_updates_but_not_the_final_response(wrap: Wrap) -> None:
    def hook(update: AgentResponseUpdate) -> AgentResponseUpdate | None:
        return None if update.text == "secret" else text_update(update.text.upper())

    agent = ScriptedAgent(lambda *_: ["a", "secret", "b"])
    async with serving(agent) as served:
        turn = await served.stream("a", "x", hooks={"stream_update_hook": wrap(hook)})
        assert [update.text async for update in turn] == ["A", "B"]
        assert (await turn).text == "asecretb"


async def test_a_stream_update_hook_sees_the_outputs_of_a_workflow() -> None:
    def hook(update: AgentResponseUpdate) -> AgentResponseUpdate | None:
        return update if update.text != "so: " else None

    async with serving(memory_workflow()) as served:
        turn = await served.stream("a", "x", hooks={"stream_update_hook": hook})
        assert [update.text async for update in turn] == ["nothing+x & x"]
        assert (await turn).get_outputs() == ["so: ", "nothing+x & x"]


async def test_a_failing_stream_update_hook_fails_the_turn(state_dir: Path | None) -> None:
    def hook(update: AgentResponseUpdate) -> AgentResponseUpdate | None:
        raise ValueError("no words")

    async with serving(ScriptedAgent(), state_dir=state_dir) as served:
        turn = await served.stream("a", "x", hooks={"stream_update_hook": hook})
        with pytest.raises(ValueError, match="no words"):
            await anext(aiter(turn))
        with pytest.raises(ConfigurationError, match="closed before"):
            await turn
        assert (await served.ask("a", "y")).result.text == "1: y"


@BOTH
@STREAM
async def test_a_run_hook_must_return_a_request(wrap: Wrap, stream: bool) -> None:
    agent = ScriptedAgent()
    async with serving(agent) as served:
        with pytest.raises(ConfigurationError, match="run hook must return a ChannelRequest, not NoneType"):
            await run(served, stream, "a", "x", run_hook=wrap(lambda request, **_: None))
    assert agent.heard == []


@BOTH
@STREAM
async def test_a_response_hook_must_return_a_result(wrap: Wrap, stream: bool) -> None:
    async with serving(ScriptedAgent()) as served:
        with pytest.raises(ConfigurationError, match="response hook must return a HostedRunResult, not str") as raised:
            await run(served, stream, "a", "x", response_hook=wrap(lambda hosted, **_: "text"))
        assert raised.value.started  # Whoever repeats the request has it twice in the history.


@BOTH
async def test_a_stream_update_hook_must_return_an_update(wrap: Wrap) -> None:
    async with serving(ScriptedAgent()) as served:
        turn = await served.stream("a", "x", hooks={"stream_update_hook": wrap(lambda update: update.text)})
        with pytest.raises(ConfigurationError, match="stream update hook must return an AgentResponseUpdate"):
            await anext(aiter(turn))
