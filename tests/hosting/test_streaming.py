"""Streams: reading, finishing, and going away."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator
from contextlib import aclosing, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentResponse, AgentResponseUpdate, AgentSession, Message

from agent_framework_hosting import ConfigurationError, HostedRunResult
from tests.support.channels import serving
from tests.support.targets import ScriptedAgent, text_update


class Steps:
    """Agents that stop half-way: `wait…` until `gate`, `fail…` by raising."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.ended = asyncio.Event()

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        text = messages[-1].text
        turn = 1
        if session is not None:
            turn = session.state["turns"] = session.state.get("turns", 0) + 1
        try:
            yield text_update(f"{turn}: ")
            if text.startswith("wait"):
                self.waiting.set()
                await self.gate.wait()
            if text.startswith("fail"):
                raise ValueError("half-way")
            yield text_update(text)
        finally:
            self.ended.set()


class OwnStream(ScriptedAgent):
    """The usual: a `ResponseStream`."""

    def __init__(self, steps: Steps) -> None:
        super().__init__()
        self.steps = steps

    def updates(self, messages: list[Message], session: AgentSession | None) -> Any:
        return self.steps.updates(messages, session)


class BareGenerator(OwnStream):
    """Gives an async generator."""

    def run(self, messages: Any = None, *, stream: bool = False, session: Any = None, options: Any = None) -> Any:
        if stream:
            return self.steps.updates(messages, session)
        return super().run(messages, session=session)


class Coroutine(OwnStream):
    """Gives a coroutine of a stream."""

    async def run(self, messages: Any = None, *, stream: bool = False, session: Any = None, options: Any = None) -> Any:
        running = super().run(messages, stream=stream, session=session)
        return running if stream else await running


class CoroutineOfGenerator(BareGenerator):
    async def run(self, messages: Any = None, *, stream: bool = False, session: Any = None, options: Any = None) -> Any:
        running = super().run(messages, stream=stream, session=session)
        return running if stream else await running


@pytest.fixture(params=[OwnStream, BareGenerator, Coroutine, CoroutineOfGenerator])
def agent(request: pytest.FixtureRequest) -> OwnStream:
    return request.param(Steps())


async def test_a_stream_gives_updates_and_then_the_response(agent: OwnStream, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "x")
        assert turn.session is not None and turn.session.session_id == "a"
        assert [update.text async for update in turn] == ["1: ", "x"]
        response = await turn.get_final_response()
        assert isinstance(response, AgentResponse) and response.text == "1: x"
        assert turn.hosted is not None and (turn.hosted.result, turn.hosted.saved) == (response, True)
        assert (await served.ask("a", "y")).result.text == "2: y"


async def test_a_stream_may_be_awaited_unread_half_read_and_again(agent: OwnStream) -> None:
    async with serving(agent) as served:
        unread = await served.stream("a", "x")
        assert (await unread).text == "1: x"
        half = await served.stream("a", "y")
        assert (await anext(aiter(half))).text == "2: "
        response = await half
        assert response.text == "2: y"
        assert await half is await half.get_final_response() is response


async def test_a_stream_is_read_once(agent: OwnStream) -> None:
    async with serving(agent) as served:
        turn = await served.stream("a", "x")
        assert [update.text async for update in turn] == ["1: ", "x"]
        assert [update.text async for update in turn] == []
        assert (await turn).text == "1: x"
        assert [update.text async for update in turn] == []


async def test_the_turn_is_saved_when_the_response_is_given_and_not_before(
    agent: OwnStream, state_dir: Path | None
) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        async with aclosing(await served.stream("a", "x")) as turn:
            async for _ in turn:
                pass
        assert (await served.ask("a", "y")).result.text == "1: y"
        turn = await served.stream("a", "z")
        await turn
        # The lease is free: nobody has closed the stream.
        async with asyncio.timeout(5):
            assert (await served.ask("a", "y")).result.text == "3: y"


@pytest.mark.parametrize("read", [False, True])
async def test_closing_ends_the_run_and_leaves_no_trace(agent: OwnStream, read: bool, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        await served.ask("a", "x")
        agent.steps.ended.clear()
        turn = await served.stream("a", "y")
        if read:
            assert (await anext(aiter(turn))).text == "2: "
        await turn.aclose()
        await turn.aclose()
        assert agent.steps.ended.is_set() is read
        assert [update.text async for update in turn] == []
        with pytest.raises(ConfigurationError, match="closed before"):
            await turn
        assert (await served.ask("a", "z")).result.text == "2: z"


async def test_cancelling_the_reader_ends_the_run_and_leaves_no_trace(agent: OwnStream, state_dir: Path | None) -> None:
    async def read() -> None:
        async with aclosing(await served.stream("a", "wait")) as turn:
            async for _ in turn:
                pass

    async with serving(agent, state_dir=state_dir) as served:
        await served.ask("a", "x")
        agent.steps.ended.clear()
        reader = asyncio.create_task(read())
        await agent.steps.waiting.wait()
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        assert agent.steps.ended.is_set()
        assert (await served.ask("a", "z")).result.text == "2: z"


async def test_cancelling_a_one_shot_run_leaves_no_trace(agent: OwnStream, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        await served.ask("a", "x")
        agent.steps.ended.clear()
        turn = asyncio.create_task(served.ask("a", "wait"))
        await agent.steps.waiting.wait()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert agent.steps.ended.is_set()
        assert (await served.ask("a", "z")).result.text == "2: z"


@pytest.mark.parametrize("awaited", [False, True])
async def test_an_error_half_way_reaches_the_reader_and_leaves_no_trace(
    agent: OwnStream, awaited: bool, state_dir: Path | None
) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        await served.ask("a", "x")
        turn = await served.stream("a", "fail")
        if not awaited:
            assert (await anext(aiter(turn))).text == "2: "
        with pytest.raises(ValueError, match="half-way"):
            await (turn if awaited else anext(aiter(turn)))
        with pytest.raises(ConfigurationError, match="closed before"):
            await turn
        await turn.aclose()
        assert (await served.ask("a", "z")).result.text == "2: z"


async def test_closing_after_the_end_changes_nothing(agent: OwnStream, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "x")
        response = await turn
        await turn.aclose()
        assert await turn is response
        assert (await served.ask("a", "y")).result.text == "2: y"


async def test_streams_of_one_conversation_wait_for_each_other(agent: OwnStream, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        first = await served.stream("a", "x")
        second = asyncio.create_task(served.stream("a", "y"))
        other = await served.stream("b", "z")
        assert (await other).text == "1: z"
        assert not second.done()
        await first
        assert (await (await second)).text == "2: y"


async def test_a_stream_outside_a_conversation_is_only_a_stream(agent: OwnStream) -> None:
    async with serving(agent) as served:
        turn = await served.stream(None, "x")
        assert ((await turn).text, turn.session) == ("1: x", None)
        assert isinstance(turn.hosted, HostedRunResult) and not turn.hosted.saved


async def test_another_task_may_close_a_stream_that_is_being_read(agent: OwnStream, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "wait")

        async def read() -> list[str]:
            return [update.text async for update in turn]

        reader = asyncio.create_task(read())
        async with asyncio.timeout(10):
            await agent.steps.waiting.wait()
            await turn.aclose()
        assert agent.steps.ended.is_set(), "the run is over when the stream is closed"
        assert await reader == ["1: "]
        with pytest.raises(ConfigurationError, match="closed before"):
            await turn
        assert (await served.ask("a", "y")).result.text == "1: y", "the conversation is as it was before"


async def test_a_stream_belongs_to_the_task_that_reads_it(agent: OwnStream, state_dir: Path | None) -> None:
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "wait")
        reader = asyncio.create_task(turn.get_final_response())
        async with asyncio.timeout(10):
            await agent.steps.waiting.wait()
        for read in (turn.get_final_response(), anext(aiter(turn))):
            with pytest.raises(RuntimeError, match="Another task"):
                await read
        other = asyncio.create_task(served.ask("a", "y"))
        agent.steps.gate.set()
        assert (await reader).text == "1: wait"
        assert (await other).result.text == "2: y", "the conversation was not free before"


async def test_another_task_may_close_a_stream_that_is_waited_for(agent: OwnStream) -> None:
    async with serving(agent) as served:
        turn = await served.stream("a", "wait")
        waiter = asyncio.create_task(turn.get_final_response())
        async with asyncio.timeout(10):
            await agent.steps.waiting.wait()
            await turn.aclose()
        with pytest.raises(ConfigurationError, match="closed before"):
            await waiter
        assert (await served.ask("a", "y")).result.text == "1: y"


async def test_updates_are_handed_out_until_there_are_enough(agent: OwnStream, state_dir: Path | None) -> None:
    heard: list[str] = []

    def one(update: AgentResponseUpdate) -> bool:
        heard.append(update.text)
        return True

    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "x")
        assert await turn.feed(one) and heard == ["1: "]
        assert await turn.feed(one) and heard == ["1: ", "x"]
        assert not await turn.feed(one) and not await turn.feed(one)
        assert (await turn).text == "1: x"
        assert heard == ["1: ", "x"]


async def test_what_is_handed_out_has_passed_the_hook(agent: OwnStream) -> None:
    heard: list[str] = []

    def most(update: AgentResponseUpdate) -> bool:
        heard.append(update.text)
        return len(heard) == 1

    async def hook(update: AgentResponseUpdate) -> AgentResponseUpdate | None:
        return None if update.text == "x" else text_update(update.text.upper() + "!")

    async with serving(agent) as served:
        for message, expected in (("x", ["1: !"]), ("y", ["2: !", "Y!"])):
            heard.clear()
            turn = await served.stream("a", message, hooks={"stream_update_hook": hook})
            assert await turn.feed(most)
            assert not await turn.feed(most)
            await turn
            assert heard == expected


async def test_another_task_may_close_a_stream_that_is_handed_out(agent: OwnStream, state_dir: Path | None) -> None:
    heard: list[str] = []
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "wait")
        reader = asyncio.create_task(turn.feed(lambda update: heard.append(update.text) or False))
        async with asyncio.timeout(10):
            await agent.steps.waiting.wait()
            await turn.aclose()
        assert agent.steps.ended.is_set()
        assert not await reader and heard == ["1: "]
        assert (await served.ask("a", "y")).result.text == "1: y", "the conversation is as it was before"


async def test_an_error_half_way_reaches_whoever_is_handed_updates(agent: OwnStream) -> None:
    async with serving(agent) as served:
        turn = await served.stream("a", "fail")
        with pytest.raises(ValueError, match="half-way"):
            await turn.feed(lambda update: False)
        with pytest.raises(ConfigurationError, match="closed before"):
            await turn
        assert (await served.ask("a", "y")).result.text == "1: y"


async def test_a_run_that_waits_often_is_handed_out_at_one_go() -> None:
    agent = Remembering(waits=True)
    heard: list[str] = []
    async with serving(agent) as served:
        turn = await served.stream("a", "x")
        assert not await turn.feed(lambda update: heard.append(update.text) or False)
        assert word.get() == "the caller's"
        await turn
    assert heard == ["the caller's", "the agent's", "the agent's"]
    assert agent.ended == ["the caller's"]


@pytest.mark.parametrize("close", [False, True], ids=["cancelled", "closed"])
async def test_nobody_is_handed_what_an_agent_says_that_has_swallowed_its_end(close: bool) -> None:
    waiting = asyncio.Event()
    said: list[str] = []
    heard: list[str] = []

    class Stubborn(ScriptedAgent):
        async def updates(
            self, messages: list[Message], session: AgentSession | None
        ) -> AsyncIterator[AgentResponseUpdate]:
            with suppress(asyncio.CancelledError):
                yield text_update("before")
                waiting.set()
                await asyncio.Event().wait()
            for text in ("after", "later"):
                said.append(text)
                yield text_update(text)

    async with serving(Stubborn()) as served:
        turn = await served.stream("a", "x")
        reader = asyncio.create_task(turn.feed(lambda update: heard.append(update.text) or False))
        async with asyncio.timeout(10):
            await waiting.wait()
            if close:
                await turn.aclose()
                assert not await reader
            else:
                reader.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await reader
    assert (heard, said) == (["before"], ["after"])


word: ContextVar[str] = ContextVar("word", default="the caller's")


class Remembering(ScriptedAgent):
    """Sets a variable, says what it finds in it after each update, and takes it back."""

    def __init__(self, *, waits: bool) -> None:
        super().__init__()
        self.waits = waits
        self.ended: list[str] = []

    async def updates(
        self, messages: list[Message], session: AgentSession | None
    ) -> AsyncIterator[AgentResponseUpdate]:
        yield text_update(word.get())
        token = word.set("the agent's")
        try:
            for _ in range(2):
                if self.waits:
                    await asyncio.sleep(0)
                yield text_update(word.get())
        finally:
            word.reset(token)
            self.ended.append(word.get())


@pytest.mark.parametrize("waits", [False, True])
async def test_what_an_agent_sets_in_its_context_is_there_for_it_alone(waits: bool, state_dir: Path | None) -> None:
    agent = Remembering(waits=waits)
    async with serving(agent, state_dir=state_dir) as served:
        turn = await served.stream("a", "x")
        heard: list[str] = []
        async for update in turn:
            heard.append(update.text)
            assert word.get() == "the caller's"
        await turn
    assert heard == ["the caller's", "the agent's", "the agent's"]
    assert agent.ended == ["the caller's"]


@pytest.mark.parametrize("waits", [False, True])
async def test_an_agent_that_is_closed_by_another_task_cleans_up_in_its_own_context(waits: bool) -> None:
    agent = Remembering(waits=waits)
    async with serving(agent) as served:
        turn = await served.stream("a", "x")
        updates = aiter(turn)
        assert [(await anext(updates)).text for _ in range(2)] == ["the caller's", "the agent's"]
        await asyncio.create_task(turn.aclose())
    assert agent.ended == ["the caller's"]


@pytest.mark.parametrize("close", [False, True], ids=["cancelled", "closed"])
@pytest.mark.parametrize("rest", [["done"], []], ids=["goes-on", "ends"])
async def test_an_agent_that_swallows_its_cancellation_is_over_all_the_same(
    rest: list[str], close: bool, state_dir: Path | None
) -> None:
    waiting = asyncio.Event()

    async def act(messages: list[Message], session: AgentSession | None) -> list[str]:
        if messages[-1].text == "wait":
            waiting.set()
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            return rest
        return ["done"]

    async with serving(ScriptedAgent(act), state_dir=state_dir) as served:
        turn = await served.stream("a", "wait")
        reader = asyncio.create_task(turn.get_final_response())
        async with asyncio.timeout(10):
            await waiting.wait()
            if close:
                await turn.aclose()
            else:
                reader.cancel()
        with pytest.raises(ConfigurationError if close else asyncio.CancelledError):
            await reader
        assert turn.hosted is None
        assert (await served.ask("a", "y")).result.text == "done"


async def test_an_agent_that_closes_its_own_stream_is_stopped_there() -> None:
    streams: list[Any] = []
    ended: list[str] = []

    async def act(messages: list[Message], session: AgentSession | None) -> list[str]:
        try:
            await streams[0].aclose()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise
        return ["done"]

    async with serving(ScriptedAgent(act)) as served:
        streams.append(await served.stream("a", "x"))
        async with asyncio.timeout(10):
            assert [update async for update in streams[0]] == []
    assert ended == ["cancelled"]


async def test_a_read_stream_leaves_nothing_to_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        async with serving(ScriptedAgent()) as served:
            turn = await served.stream("a", "x")
            updates = [update async for update in turn]
            await turn
            gone = weakref.ref(turn)
            del turn, updates
            assert gone() is None
    finally:
        gc.enable()
