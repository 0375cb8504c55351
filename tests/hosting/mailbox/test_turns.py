"""What an update's work may do: turns of every kind, and what they give when the update is tried again."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentResponse, Content, Message

from agent_framework_hosting import HostLimits, InboundUpdate
from agent_framework_hosting.errors import (
    HostingError,
    SessionTooLarge,
    StateDamaged,
    TurnBusy,
    TurnConflict,
    TurnRepeated,
)
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.memory import MemoryStore
from tests.hosting.mailbox.desk import KEY, Act, Desk, PostChannel, Times, check_at_rest, dead, desk, post, reply
from tests.hosting.protocol.diary import LARGE, LONG, Diary, read_diary, request
from tests.hosting.protocol.questions import asking
from tests.support.stores import FaultStore
from tests.support.targets import ScriptedAgent

QUICK = HostLimits(lease=timedelta(seconds=0.1), turn_timeout=timedelta(seconds=2.2))


class Twice:
    """Has an act fail after its first attempt, when its turns are saved; `errors` is what each attempt raised."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.attempts = 0
        self.errors: list[type[BaseException] | None] = []

    async def __call__(self, channel: PostChannel, update: InboundUpdate) -> None:
        self.attempts += 1
        try:
            await self.act(channel, update)
        except Exception as error:
            self.errors.append(type(error))
            raise
        self.errors.append(None)
        if self.attempts == 1:
            raise ValueError("the reply was not sent")


@asynccontextmanager
async def tried_twice(
    store: FaultStore, act: Act, *, target: Any = None, **parts: Any
) -> AsyncIterator[tuple[Desk, Twice]]:
    """Process one update twice, the second time on another instance, which the channel is given for."""
    times, twice = Times(), Twice(act)
    async with desk(store, twice, target=target, times=times, **parts) as one:
        await one.accept(post("a"))
        assert await one.drain() is not None
        async with desk(store, twice, target=target, times=times, sent=one.sent, **parts) as other:
            await other.finish()
            assert twice.attempts == 2
            yield other, twice


async def test_a_turn_that_is_repeated_answers_as_before_without_running(store: FaultStore, padding: int) -> None:
    agent = Diary(padding=padding)
    async with tried_twice(store, reply, target=agent) as (other, _):
        assert other.sent == ["1: a", "1: a"]
    assert agent.heard == ["a"]
    await check_at_rest(store, ["a"])


async def test_a_repeated_turn_shows_the_session_that_it_has_saved(store: FaultStore) -> None:
    seen: list[Any] = []

    async def look(channel: PostChannel, update: InboundUpdate) -> None:
        hosted = await channel.run(update)
        session: Any = hosted.session
        seen.append((session.session_id, session.state["diary"], hosted.saved))

    async with tried_twice(store, look):
        assert seen == [(KEY, ["a"], True)] * 2


async def test_a_streamed_turn_is_streamed_again(store: FaultStore) -> None:
    texts: list[list[str]] = []

    async def stream(channel: PostChannel, update: InboundUpdate) -> None:
        hosted = await channel.context.run_stream(request(update.isolation_key, "a"))
        updates = [piece.text async for piece in hosted]
        texts.append(["".join(updates), (await hosted.get_final_response()).text])

    async with tried_twice(store, stream, target=(agent := Diary())):
        assert texts == [["1: a", "1: a"]] * 2
    assert agent.heard == ["a"]


async def test_two_turns_of_an_update_are_each_saved_once(store: FaultStore) -> None:
    async def two(channel: PostChannel, update: InboundUpdate) -> None:
        for word in ("one", "two"):
            await channel.send((await channel.run(update, word)).result.text)

    async with tried_twice(store, two, target=(agent := Diary())) as (other, _):
        assert other.sent == ["1: one", "2: two"] * 2
    assert agent.heard == ["one", "two"]
    await check_at_rest(store, ["one", "two"])


async def test_turns_at_the_same_time_come_one_after_another(store: FaultStore) -> None:
    async def both(channel: PostChannel, update: InboundUpdate) -> None:
        answers = await asyncio.gather(channel.run(update, "one"), channel.run(update, "two"))
        await channel.send(" ".join(hosted.result.text for hosted in answers))

    async with tried_twice(store, both) as (other, _):
        assert other.sent == ["1: one 2: two"] * 2
    await check_at_rest(store, ["one", "two"])


async def test_a_turn_that_failed_is_not_taken_for_the_one_after_it(store: FaultStore) -> None:
    """The channel catches the first one's failure; the repeat runs that again, and only that."""
    failures = iter([True, False])

    async def between(word: str) -> None:
        if word == "bad" and next(failures):
            raise ValueError("the model is away")

    async def two(channel: PostChannel, update: InboundUpdate) -> None:
        with suppress(ValueError):
            await channel.send((await channel.run(update, "bad")).result.text)
        await channel.send((await channel.run(update, "good")).result.text)

    async with tried_twice(store, two, target=(agent := Diary(between))) as (other, _):
        assert other.sent == ["1: good", "2: bad", "1: good"]
    assert agent.heard == ["bad", "good", "bad"]
    await check_at_rest(store, ["good", "bad"])


async def test_a_reset_and_a_turn_after_it(store: FaultStore) -> None:
    async def anew(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.run(update, "before")
        await channel.context.reset_session(KEY)
        await channel.send((await channel.run(update, "after")).result.text)

    async with tried_twice(store, anew, target=(agent := Diary())) as (other, _):
        assert other.sent == ["1: after"] * 2
    assert agent.heard == ["before", "after"]
    await check_at_rest(store, ["after"])
    assert len(await store.list(f"k/{conversation_path(KEY)}/s/")) == 1


async def test_a_turn_in_another_conversation_is_taken_once(store: FaultStore) -> None:
    """Its result is not kept there: whoever wants to go on catches what says that it is saved."""

    async def elsewhere(channel: PostChannel, update: InboundUpdate) -> None:
        for key in ("there", "further"):
            with suppress(TurnRepeated):
                await channel.send((await channel.run(update, key=key)).result.text)
        await reply(channel, update)

    async with tried_twice(store, elsewhere) as (other, _):
        assert other.sent == ["1: a", "1: a", "1: a", "1: a"]
    for key in (KEY, "there", "further"):
        assert await read_diary(store, key) == ["a"]


async def test_a_repeat_in_another_conversation_that_nobody_catches_ends_the_update(
    store: FaultStore, caplog: pytest.LogCaptureFixture
) -> None:
    async def elsewhere(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.run(update, key="there")

    async with tried_twice(store, elsewhere) as (_, twice):
        assert twice.errors == [None, TurnRepeated]
    assert "its reply may be missing" in caplog.text
    assert await dead(store) == []
    assert await store.list("in/") == []


async def test_a_turn_may_go_on_from_another_conversation(store: FaultStore) -> None:
    async with desk(store) as one:
        await one.channel.context.run(request("parent", "p"))

    async def fork(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.send((await channel.run(update, parent="parent")).result.text)

    async with tried_twice(store, fork) as (other, _):
        assert other.sent == ["2: a"] * 2
    await check_at_rest(store, ["p", "a"])


async def test_a_turn_inside_of_a_turn_is_refused_in_time() -> None:
    channels: list[PostChannel] = []

    async def between(word: str) -> None:
        if word == "a":
            await channels[0].context.run(request(KEY, "inner"))

    errors: list[type[Exception]] = []

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        channels.append(channel)
        try:
            await channel.run(update)
        except TurnBusy as error:
            errors.append(type(error))

    async with desk(MemoryStore(), act, target=Diary(between), limits=QUICK) as one:
        await one.accept(post("a"))
        async with asyncio.timeout(10):
            assert await one.drain() is None
    assert errors == [TurnBusy]


async def test_a_turn_that_outlives_its_update_is_not_saved(store: FaultStore) -> None:
    go, tasks = asyncio.Event(), list[asyncio.Task[Any]]()

    async def between(word: str) -> None:
        if word == "late":
            await go.wait()

    async def leave(channel: PostChannel, update: InboundUpdate) -> None:
        if update.id == "a":
            tasks.append(asyncio.create_task(channel.run(update, "late")))
            await asyncio.sleep(0.01)
        else:
            await reply(channel, update)
            go.set()
            await asyncio.wait(tasks)

    async with desk(store, leave, target=Diary(between)) as one:
        await one.accept(post("a"), post("b"))
        assert await one.drain() is None
        with pytest.raises(TurnConflict, match="concluded"):
            await tasks[0]
        assert one.sent == ["1: b"]
    await check_at_rest(store, ["b"])


async def test_a_workflow_answers_again_and_its_questions_stay_open(store: FaultStore) -> None:
    asked: list[Any] = []

    async def ask(channel: PostChannel, update: InboundUpdate) -> None:
        hosted = await channel.run(update, "ask me")
        asked.append((hosted.result.get_outputs(), hosted.pending))

    async with tried_twice(store, ask, target=asking) as (other, _):
        (outputs, pending), again = asked
        assert outputs == ["1: ask me"]
        assert [question.data for question in pending] == ["ask me"]
        assert again == (outputs, pending)

        async def answer(channel: PostChannel, update: InboundUpdate) -> None:
            turn = replace(request(KEY, ""), input=None, responses={pending[0].id: "yes"})
            hosted = await channel.context.run(turn)
            await channel.send(hosted.result.get_outputs()[0])

        other.channel.act = answer
        await other.accept(post("b"))
        await other.finish()
        assert other.sent == ["2: yes"]


async def test_two_turns_of_a_workflow_in_one_update_and_its_stream(store: FaultStore) -> None:
    async def two(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.send((await channel.run(update, "one")).result.get_outputs()[0])
        stream = await channel.context.run_stream(request(KEY, "two"))
        await channel.send("".join([piece.text async for piece in stream]))
        await channel.send((await stream.get_final_response()).get_outputs()[0])

    async with tried_twice(store, two, target=asking) as (other, _):
        assert other.sent == ["1: one", "2: two", "2: two"] * 2


async def test_a_result_with_more_than_text_comes_back_as_it_was(store: FaultStore) -> None:
    contents = [
        Content.from_text("see"),
        Content.from_uri("data:image/png;base64,AAAA", media_type="image/png"),
        Content.from_function_call("c1", "tool", arguments={"a": 1}),
    ]

    class Rich(ScriptedAgent):
        def run(self, messages: Any = None, **how: Any) -> Any:
            async def answer() -> AgentResponse:
                how["session"].state["x"] = 1
                return AgentResponse(messages=[Message("assistant", contents)], response_id="r1")

            return answer()

    seen: list[Any] = []

    async def look(channel: PostChannel, update: InboundUpdate) -> None:
        result = (await channel.run(update)).result
        seen.append((result.response_id, [content.to_dict() for content in result.messages[0].contents]))

    async with tried_twice(store, look, target=Rich()):
        assert seen[0] == seen[1]


@pytest.mark.parametrize(
    "odd",
    [float("nan"), float("-inf"), [1, {"x": float("inf")}], "half \ud83d of a pair", object()],
    ids=["nan", "infinite", "deep", "surrogate", "object"],
)
async def test_what_has_no_json_form_does_not_cost_the_reply(store: FaultStore, odd: Any) -> None:
    class Odd(ScriptedAgent):
        def run(self, messages: Any = None, **how: Any) -> Any:
            async def answer() -> AgentResponse:
                how["session"].state["diary"] = ["a"]
                message = Message("assistant", ["fine"], additional_properties={"odd": odd})
                return AgentResponse(messages=[message], additional_properties={"odd": odd})

            return answer()

    async with tried_twice(store, reply, target=Odd()) as (other, _):
        assert other.sent == ["fine", "fine"]
    assert await dead(store) == []


class Own:
    """A result that no other process could read."""


async def test_a_result_that_could_not_be_read_again_fails_its_turn_by_name(store: FaultStore) -> None:
    class Strange(ScriptedAgent):
        def run(self, messages: Any = None, **how: Any) -> Any:
            async def answer() -> Own:
                how["session"].state["x"] = 1
                return Own()

            return answer()

    limits = replace(LONG, update_attempts=1)
    async with desk(store, reply, target=Strange(), limits=limits) as one:
        await one.accept(post("a"))
        await one.drain()
    [update] = await dead(store)
    assert "register_checkpoint_type" in update.error


async def test_a_large_result_has_a_document_of_its_own_until_the_update_is_done(store: FaultStore) -> None:
    text = "x" * 200_000

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.send((await channel.run(update)).result.text)

    async with tried_twice(store, act, target=ScriptedAgent(lambda *_: text)) as (other, _):
        assert other.sent == [text, text]
        assert len([name for name in await store.list("k/") if "/b/" in name]) == 1
        await other.accept(post("b"))  # Its turn removes what the conversation does not need any more.
        await other.finish()
    assert len({name for name in store.names("delete") if "/b/" in name}) >= 1


async def test_a_large_result_that_is_missing_sets_the_update_aside(store: FaultStore) -> None:
    times, text = Times(), "x" * 200_000

    async def lose(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.run(update)
        for name in await store.list("k/"):
            if "/b/" in name:
                await store.delete(name)
        raise ValueError("no")

    limits = replace(LONG, update_attempts=2)
    async with desk(store, lose, target=ScriptedAgent(lambda *_: text), times=times, limits=limits) as one:
        await one.accept(post("a"), post("b"))
        assert await one.drain() is not None
        one.channel.act = reply
        await one.finish()
        assert one.sent == [text]
    [update] = await dead(store)
    assert update.error.startswith("StateDamaged")


@pytest.mark.parametrize("how", ["too large", "damaged"])
async def test_a_conversation_that_cannot_go_on_can_be_reset_by_an_update(store: FaultStore, how: str) -> None:
    times, errors = Times(), list[type[HostingError]]()

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        try:
            await reply(channel, update)
        except (SessionTooLarge, StateDamaged) as error:
            errors.append(type(error))
            await channel.context.reset_session(KEY)
            await channel.send("reset")

    async with desk(store, act, target=Diary(padding=LARGE), times=times) as one:
        await one.accept(post("a"))
        await one.finish()
    limits = replace(LONG, session_bytes=LARGE // 2) if how == "too large" else LONG
    if how == "damaged":
        [name] = [name for name in await store.list("k/") if "/b/" in name]
        await store.put(name, b"{")
    async with desk(store, act, times=times, limits=limits) as one:
        await one.accept(post("b"), post("c"))
        await one.finish()
        assert one.sent == ["reset", "1: c"]
    assert errors == [SessionTooLarge if how == "too large" else StateDamaged]
    await check_at_rest(store, ["c"])


async def test_a_conversation_that_has_grown_too_large_has_its_updates_set_aside_at_once(store: FaultStore) -> None:
    times = Times()
    async with desk(store, target=Diary(padding=LARGE), times=times) as one:
        await one.accept(post("a"))
        await one.finish()
    limits = replace(LONG, session_bytes=LARGE // 2, update_attempts=2)
    async with desk(store, times=times, limits=limits) as one:
        await one.accept(post("b"), post("c"))
        await one.finish()
        assert one.sent == []
    assert [(update.id, update.attempts, update.error[:15]) for update in await dead(store)] == [
        ("b", 1, "SessionTooLarge"),
        ("c", 1, "SessionTooLarge"),
    ]
    await check_at_rest(store, ["a"])


_request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")


async def test_an_update_is_not_processed_in_the_context_of_whoever_was_answered(state_dir: Path | None) -> None:
    from tests.hosting.mailbox.desk import serving
    from tests.support.faults import eventually

    async def tell(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.send(_request.get())

    async with serving(tell, state_dir=state_dir) as channel:
        token = _request.set("somebody's")
        await channel.context.accept(post("a"))
        _request.reset(token)
        await eventually(lambda: len(channel.sent) == 1, "not processed")
        assert channel.sent == ["none"]
