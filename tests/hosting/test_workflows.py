"""Workflows as targets: what goes in and comes out, what is pending, and where checkpoints go."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Never, cast

import pytest
from agent_framework import (
    Agent,
    AgentExecutor,
    AgentResponse,
    Content,
    Executor,
    InMemoryCheckpointStorage,
    Message,
    Workflow,
    WorkflowBuilder,
    WorkflowCheckpoint,
    WorkflowCheckpointException,
    WorkflowContext,
    WorkflowEvent,
    WorkflowRunResult,
    handler,
    register_checkpoint_type,
    response_handler,
)
from pydantic import BaseModel

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelSession,
    ConfigurationError,
    HostedRunResult,
    HostingError,
    HostLimits,
    InvalidRequest,
    SessionTooLarge,
    StateDamaged,
    StateUnavailable,
)
from agent_framework_hosting.state.checkpoints import ForeignCheckpoints
from agent_framework_hosting.state.head import Checkpoint
from tests.support.channels import ProbeChannel, Served, serving, started
from tests.support.targets import (
    ChatMemory,
    Memory,
    Question,
    ScriptedAgent,
    ScriptedClient,
    chat_workflow,
    memory_builder,
    memory_workflow,
    recalling_agent,
)

register_checkpoint_type(Question)


def outputs(hosted: HostedRunResult[Any]) -> list[Any]:
    assert isinstance(hosted.result, WorkflowRunResult)
    return hosted.result.get_outputs()


def text_of(result: Any) -> str:
    """What a workflow, or an agent of one, has answered."""
    return result.text if isinstance(result, AgentResponse) else result.get_outputs()[-1]


class Echo(Executor):
    """Yields what it gets, of any type."""

    @handler
    async def echo(self, value: dict | list | Message | str, ctx: WorkflowContext[Never, Any]) -> None:  # type: ignore[type-arg]
        await ctx.yield_output(value)


def echo() -> Any:
    return WorkflowBuilder(name="echo", start_executor=Echo(id="echo")).build()


@pytest.mark.parametrize("value", ["text", {"a": [1]}, [1, 2], Message("user", ["hi"])], ids=type)
async def test_a_workflow_gets_its_input_as_it_is(value: Any) -> None:
    async with serving(echo()) as served:
        assert outputs(await served.ask("a", value)) == [value]


@pytest.mark.parametrize("value", [None, 7, b"bytes"])
async def test_input_that_no_handler_takes_is_refused(value: Any) -> None:
    async with serving(echo()) as served:
        with pytest.raises(InvalidRequest) as raised:
            await served.ask("a", value)
        assert raised.value.field == "message" and not raised.value.started


async def test_options_are_refused() -> None:
    for target in (echo(), chat_workflow().as_agent("chat")):
        async with serving(target) as served:
            with pytest.raises(InvalidRequest) as raised:
                await served.ask("a", "x", options={"temperature": 1})
            assert raised.value.field == "options"


async def test_only_outputs_are_streamed_each_with_its_event() -> None:
    async with serving(memory_workflow()) as served:
        turn = await served.stream("a", "x")
        updates = [update async for update in turn]
        assert [update.text for update in updates] == ["so: ", "nothing+x & x"]
        for update in updates:
            event = cast("WorkflowEvent", update.raw_representation)
            assert (event.type, event.data) == ("output", update.text)
            assert (update.author_name, update.role) == ("memory", "assistant")
        result = await turn.get_final_response()
        assert isinstance(result, WorkflowRunResult)
        assert result.get_outputs() == ["so: ", "nothing+x & x"]
        assert "superstep_completed" in {event.type for event in result}


async def test_updates_of_an_agent_keep_their_contents() -> None:
    agent = Agent(client=ScriptedClient(lambda _: [Content.from_text("a"), Content.from_text("b")]), name="ab")
    workflow = WorkflowBuilder(name="one", start_executor=AgentExecutor(agent)).build()
    async with serving(workflow) as served:
        turn = await served.stream("a", "x")
        updates = [update async for update in turn]
        assert [update.text for update in updates if update.text] == ["a", "b"]
        assert {(update.author_name, update.response_id) for update in updates} == {("ab", "r")}
        await turn


class Choice(BaseModel):
    size: int


@dataclass
class Plan:
    steps: list[str]


ANSWERS: dict[str, tuple[Any, Any, Any, Any]] = {
    # type: JSON answer, what the workflow gets, an answer that does not fit
    "bool": (bool, True, True, "yes"),
    "str": (str, "x", "x", 7),
    "int": (int, 0, 0, "0"),
    "list": (list, [1], [1], "x"),
    "list[str]": (list[str], ["a"], ["a"], [1]),
    "dict[str, int]": (dict[str, int], {"a": 1}, {"a": 1}, {"a": "x"}),
    "dataclass": (Plan, {"steps": ["a"]}, Plan(["a"]), {"steps": 1}),
    "model": (Choice, {"size": 1}, Choice(size=1), {"size": "large"}),
    "models": (list[Choice], [{"size": 1}], [Choice(size=1)], ["large"]),
    "models as they are": (list[Choice], [Choice(size=1)], [Choice(size=1)], [1]),
    "model for text": (Choice, {"size": 1}, Choice(size=1), "large"),
}
for kind in (Plan, Choice):
    register_checkpoint_type(kind)


def asking(kind: Any) -> Any:
    class Asker(Executor):
        @handler
        async def ask(self, text: str, ctx: WorkflowContext[Never, Any]) -> None:
            await ctx.request_info({"for": text}, kind)

        @response_handler(request=dict, response=kind)
        async def answered(self, request: Any, answer: Any, ctx: WorkflowContext[Never, Any]) -> None:
            await ctx.yield_output(answer)

    return WorkflowBuilder(name="asker", start_executor=Asker(id="asker")).build()


@pytest.mark.parametrize("name", ANSWERS)
async def test_answers_become_what_the_workflow_asked_for(name: str, tmp_path: Path) -> None:
    kind, given, gotten, wrong = ANSWERS[name]
    async with serving(asking(kind), state_dir=tmp_path) as served:
        (pending,) = (await served.ask("a", "x")).pending
    assert (pending.kind, pending.data) == ("workflow_request", {"for": "x"})
    json.dumps([pending.data, pending.response_schema])
    async with serving(asking(kind), state_dir=tmp_path) as served:
        with pytest.raises(InvalidRequest) as raised:
            await served.answer("a", {pending.id: wrong})
        assert raised.value.field == f"responses.{pending.id}" and not raised.value.started
        hosted = await served.answer("a", {pending.id: given})
        assert (outputs(hosted), hosted.pending) == ([gotten], [])


@pytest.mark.parametrize("kind", [int, float, list[int], dict[str, int], int | str], ids=str)
@pytest.mark.parametrize("given", [True, False])
async def test_a_yes_or_no_is_no_number(kind: Any, given: bool, state_dir: Path | None) -> None:
    wrong: dict[Any, Any] = {list[int]: [given], dict[str, int]: {"a": given}}
    right: dict[Any, Any] = {float: 1.5, list[int]: [1], dict[str, int]: {"a": 1}}
    durable = state_dir if kind != int | str else None  # A union has no checkpoint.
    async with serving(asking(kind), state_dir=durable) as served:
        (pending,) = (await served.ask("a", "x")).pending
        with pytest.raises(InvalidRequest) as raised:
            await served.answer("a", {pending.id: wrong.get(kind, given)})
        assert raised.value.field == f"responses.{pending.id}" and not raised.value.started
        fitting = right.get(kind, 1)
        assert outputs(await served.answer("a", {pending.id: fitting})) == [fitting]


@pytest.mark.parametrize("kind", [bool, object, Any], ids=str)
@pytest.mark.parametrize("given", [True, False])
async def test_a_yes_or_no_is_one_where_one_is_asked_for(kind: Any, given: bool) -> None:
    async with serving(asking(kind)) as served:
        (pending,) = (await served.ask("a", "x")).pending
        (answered,) = outputs(await served.answer("a", {pending.id: given}))
        assert answered is given


@pytest.mark.parametrize("kind", [Choice | str, str | Choice], ids=str)
async def test_a_union_with_a_model_is_answered_by_either(kind: Any) -> None:
    async with serving(asking(kind)) as served:
        for given, gotten in (("x", "x"), ({"size": 1}, Choice(size=1))):
            (pending,) = (await served.ask("a", "x")).pending
            with pytest.raises(InvalidRequest, match="does not fit"):
                await served.answer("a", {pending.id: [7]})
            assert outputs(await served.answer("a", {pending.id: given})) == [gotten]


async def test_in_memory_a_workflow_may_ask_for_a_union() -> None:
    async with serving(asking(str | None)) as served:
        (pending,) = (await served.ask("a", "x")).pending
        with pytest.raises(InvalidRequest):
            await served.answer("a", {pending.id: 7})
        assert outputs(await served.answer("a", {pending.id: None})) == [None]


@pytest.mark.parametrize("responses", [{}, {"nonsense": True}], ids=["none", "unknown"])
@pytest.mark.parametrize("asked", [False, True])
async def test_answers_that_nobody_waits_for_are_refused(
    responses: dict[str, Any], asked: bool, state_dir: Path | None
) -> None:
    async with serving(memory_workflow(), state_dir=state_dir) as served:
        if asked:
            await served.ask("a", "ask")
        with pytest.raises(InvalidRequest) as raised:
            await served.answer("a", responses)
        assert raised.value.field in ("responses", "responses.nonsense")
        with pytest.raises(InvalidRequest):
            await served.ask(None, responses={"nonsense": True})


async def test_a_message_may_come_while_a_question_is_open(state_dir: Path | None) -> None:
    async with serving(memory_workflow(), state_dir=state_dir) as served:
        (first,) = (await served.ask("a", "ask 1")).pending
        hosted = await served.ask("a", "ask 2")
        assert {request.data["about"] for request in hosted.pending} == {"ask 1", "ask 2"}
        assert first in hosted.pending
        hosted = await served.answer("a", {first.id: True})
        assert [request.data["about"] for request in hosted.pending] == ["ask 2"]


async def test_an_answer_counts_once(state_dir: Path | None) -> None:
    async with serving(memory_workflow(), state_dir=state_dir) as served:
        (pending,) = (await served.ask("a", "ask")).pending
        await served.answer("a", {pending.id: True})
        with pytest.raises(InvalidRequest):
            await served.answer("a", {pending.id: True})


@pytest.mark.parametrize("stream", [False, True])
async def test_a_workflow_agent_is_answered_by_another_host(tmp_path: Path, stream: bool) -> None:
    async with serving(chat_workflow().as_agent("chat"), state_dir=tmp_path) as served:
        (pending,) = (await served.ask("a", "ask me")).pending
        assert pending.data == {"about": "ask me"}
    async with serving(chat_workflow().as_agent("chat"), state_dir=tmp_path) as served:
        if stream:
            turn = await served.stream("a", responses={pending.id: False})
            assert [update.text async for update in turn] == ["ask me? no, after ask me"]
            await turn
        else:
            assert (await served.answer("a", {pending.id: False})).result.text == "ask me? no, after ask me"
        assert (await served.ask("a", "on")).result.text == "ask me+on & ask me+on"


async def test_a_workflow_agent_that_waits_takes_nothing_but_answers(state_dir: Path | None) -> None:
    async with serving(chat_workflow().as_agent("chat"), state_dir=state_dir) as served:
        (pending,) = (await served.ask("a", "ask")).pending
        with pytest.raises(InvalidRequest) as raised:
            await served.ask("a", "hello")
        assert raised.value.field == "responses"
        with pytest.raises(InvalidRequest):
            await served.answer("a", {"other": True})
        with pytest.raises(InvalidRequest) as raised:
            await served.answer("a", {pending.id: "perhaps"})
        assert raised.value.field == f"responses.{pending.id}"
        answer = Message("user", [Content.from_function_result(pending.id, result=True)])
        with pytest.raises(ValueError, match="mismatch"):
            await served.ask("a", answer)  # A result in a message is text.
        assert (await served.answer("a", {pending.id: True})).result.text == "ask? yes, after ask"


@dataclass
class Saves:
    """How many more go well."""

    left: int

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise ValueError("cannot be saved")


class Broken(Memory):
    """Fails to save from a given time on."""

    def __init__(self, saves: Saves) -> None:
        super().__init__()
        self.saves = saves

    async def on_checkpoint_save(self) -> dict[str, Any]:
        self.saves.take()
        return await super().on_checkpoint_save()


class BrokenChat(ChatMemory):
    """The same in an agent's workflow."""

    def __init__(self, saves: Saves) -> None:
        super().__init__()
        self.saves = saves

    async def on_checkpoint_save(self) -> dict[str, Any]:
        self.saves.take()
        return await super().on_checkpoint_save()


class Unsavable(ChatMemory):
    """Returns something that is no state, once it has heard something."""

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": []} if not self.heard else [*self.heard]  # type: ignore[return-value]


@pytest.mark.parametrize("good", [1, 2, 3])
@pytest.mark.parametrize("stream", [False, True])
async def test_state_that_cannot_be_saved_fails_the_turn(good: int, stream: bool, state_dir: Path | None) -> None:
    """The first save is asked for at start-up, the next by the restore, then for the input and for the result."""
    saves = Saves(good)
    async with serving(memory_workflow(Broken(saves)), state_dir=state_dir) as served:
        with pytest.raises(ConfigurationError, match="on_checkpoint_save"):
            await served.finish("a", "x", stream=stream)
        saves.left = 100
        assert outputs(await served.ask("a", "y")) == ["so: ", "nothing+y & y"]


BROKEN: dict[str, Callable[[Saves], Any]] = {
    "workflow": lambda saves: memory_workflow(Broken(saves)),
    "factory": lambda saves: lambda: memory_workflow(Broken(saves)),
    "workflow agent": lambda saves: chat_workflow(BrokenChat(saves)).as_agent("chat"),
}


@pytest.mark.parametrize("kind", BROKEN)
@pytest.mark.parametrize("good", [0, 1, 2])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_question_whose_answer_could_not_be_saved_is_still_open(
    kind: str, good: int, stream: bool, state_dir: Path | None
) -> None:
    """Saves are asked for by the restore, then for the answer and for the result."""
    saves = Saves(100)
    async with serving(BROKEN[kind](saves), state_dir=state_dir) as served:
        (pending,) = (await served.ask("a", "ask")).pending
        saves.left = good
        with pytest.raises(ConfigurationError, match="on_checkpoint_save"):
            await served.finish("a", responses={pending.id: True}, stream=stream)
        saves.left = 100
        answered = await served.answer("a", {pending.id: False})
        assert text_of(answered.result) in ("ask? no, after nothing+ask", "ask? no, after ask")
        assert not answered.pending


async def test_a_workflow_agent_whose_state_cannot_be_saved_fails_the_turn(state_dir: Path | None) -> None:
    async with serving(chat_workflow(Unsavable()).as_agent("chat"), state_dir=state_dir) as served:
        with pytest.raises(ConfigurationError, match="on_checkpoint_save"):
            await served.ask("a", "x")


class Unregistered:
    """Nobody has told the framework about it."""


class Hoarder(Memory):
    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": self.heard, "more": Unregistered()}


async def test_an_unregistered_type_fails_the_turn_that_made_it(tmp_path: Path) -> None:
    async with serving(memory_workflow(Hoarder()), state_dir=tmp_path) as served:
        with pytest.raises(ConfigurationError, match=f"type {__name__}:Unregistered in .*register_checkpoint_type"):
            await served.ask("a", "x")


async def test_in_memory_types_need_no_registration_and_one_warning_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(memory_workflow(Hoarder())) as served:
        await served.ask("a", "x")
        assert outputs(await served.ask("a", "y")) == ["so: ", "nothing+x+y & x+y"]
    assert caplog.text.count("register_checkpoint_type") == 1


class Unpicklable(Memory):
    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": self.heard, "more": NOT_PICKLABLE}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        self.heard = list(state["heard"])


class NotPicklable:
    def __deepcopy__(self, memo: object) -> NotPicklable:
        return self

    def __reduce__(self) -> str:
        raise TypeError("no pickle")


NOT_PICKLABLE = NotPicklable()


async def test_state_that_cannot_be_encoded_fails_the_turn(state_dir: Path | None) -> None:
    async with serving(memory_workflow(Unpicklable()), state_dir=state_dir) as served:
        with pytest.raises(ConfigurationError, match="cannot be stored: no pickle"):
            await served.ask("a", "x")


async def test_an_unnamed_workflow_cannot_be_stored(tmp_path: Path) -> None:
    places: list[dict[str, Any]] = [{"state_dir": tmp_path}, {"checkpoint_location": tmp_path}]
    for how in places:
        with pytest.raises(ConfigurationError, match=r"WorkflowBuilder\(name="):
            AgentFrameworkHost(memory_workflow(name=None), channels=[], **how)
        host = AgentFrameworkHost(lambda: memory_workflow(name=None), channels=[ProbeChannel()], **how)
        with pytest.raises(ConfigurationError, match=r"WorkflowBuilder\(name="):
            async with started(host):
                pass


async def test_an_unnamed_workflow_is_welcome_in_memory() -> None:
    async with serving(memory_workflow(name=None)) as served:
        await served.ask("a", "x")
        assert outputs(await served.ask("a", "y"))[-1] == "nothing+x+y & x+y"


@pytest.mark.parametrize("wrap", [lambda workflow: workflow, lambda workflow: workflow.as_agent("a")])
def test_two_checkpoint_storages_are_refused(wrap: Callable[[Any], Any], tmp_path: Path) -> None:
    def target() -> Any:
        return wrap(
            WorkflowBuilder(
                name="chat", start_executor=ChatMemory(), checkpoint_storage=InMemoryCheckpointStorage()
            ).build()
        )

    places: list[dict[str, Any]] = [
        {"state_dir": tmp_path},
        {"state_dir": {"checkpoints": tmp_path}},
        {"checkpoint_location": tmp_path},
        {"checkpoint_location": InMemoryCheckpointStorage()},
    ]
    for how in places:
        with pytest.raises(RuntimeError, match="checkpoint storage of its own"):
            AgentFrameworkHost(target(), channels=[], **how)
    AgentFrameworkHost(target(), channels=[], state_dir={"sessions": tmp_path})


@pytest.mark.parametrize("sessions", [False, True])
async def test_a_workflow_keeps_checkpoints_in_a_storage_of_its_own(sessions: bool, tmp_path: Path) -> None:
    storage = InMemoryCheckpointStorage()
    how: dict[str, Any] = {"state_dir": {"sessions": tmp_path}} if sessions else {}
    async with serving(memory_workflow(checkpoint_storage=storage), **how) as served:
        await served.ask("a", "a1")
        await served.ask("b", "b1")
        assert outputs(await served.ask("a", "a2"))[-1] == "nothing+a1+a2 & a1+a2"
    assert len(await storage.list_checkpoint_ids(workflow_name="memory")) == 3
    if sessions:
        async with serving(memory_workflow(checkpoint_storage=storage), **how) as served:
            assert outputs(await served.ask("a", "a3"))[-1] == "nothing+a1+a2+a3 & a1+a2+a3"


async def test_checkpoints_go_to_the_given_storage(tmp_path: Path) -> None:
    storage = InMemoryCheckpointStorage()
    for text, heard in (("1", "1"), ("2", "1+2")):
        async with serving(memory_workflow(), state_dir={"sessions": tmp_path}, checkpoint_location=storage) as served:
            assert outputs(await served.ask("a", text))[-1] == f"nothing+{heard} & {heard}"
    assert len(await storage.list_checkpoint_ids(workflow_name="memory")) == 2


class Sized(Memory):
    """Holds as many bytes as it was told last."""

    async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        self.heard = ["x" * int(text)]


class SizedChat(ChatMemory):
    """The same in an agent's workflow."""

    async def work(self, messages: list[Message], ctx: WorkflowContext[Never, str]) -> None:
        self.heard = ["x" * int(messages[-1].text)]


SIZED: dict[str, Callable[[], Any]] = {
    "workflow": lambda: memory_workflow(Sized()),
    "factory": lambda: lambda: memory_workflow(Sized()),
    "workflow agent": lambda: chat_workflow(SizedChat()).as_agent("chat"),
}
BOUNDED = HostLimits(session_bytes=100_000)


@pytest.mark.parametrize("kind", SIZED)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_conversation_whose_checkpoint_has_grown_too_large_is_refused_until_it_is_reset(
    kind: str, stream: bool, state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(SIZED[kind](), state_dir=state_dir, limits=BOUNDED) as served:
        await served.finish("a", "70000", stream=stream)
        await served.finish("a", "90000", stream=stream)
        assert "of 100000 bytes" not in caplog.text
        await served.finish("a", "110000", stream=stream)
        assert caplog.text.count("of 100000 bytes") == 1
        for request in ({}, {"session": ChannelSession("child", parent="a")}):
            with pytest.raises(SessionTooLarge, match="session_bytes is 100000") as refused:
                await served.finish("a", "1", stream=stream, **request)
            assert not refused.value.started
        await served.finish("b", "1", stream=stream)
        await served.host.reset_session("a")
        await served.finish("a", "1", stream=stream)
    assert caplog.text.count("of 100000 bytes") == 1


@pytest.mark.parametrize("kind", SIZED)
async def test_the_size_of_what_is_in_a_given_storage_does_not_count(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = InMemoryCheckpointStorage()
    for state_dir in (None, {"sessions": tmp_path}):
        how: dict[str, Any] = {"state_dir": state_dir, "checkpoint_location": storage, "limits": BOUNDED}
        async with serving(SIZED[kind](), **how) as served:
            for _ in range(2):
                await served.ask("a", "200000")
    assert "of 100000 bytes" not in caplog.text


class FailingStorage(InMemoryCheckpointStorage):
    """A storage of the user's; what it is given fails its operations."""

    saving: Exception | None = None
    loading: Exception | None = None

    async def save(self, checkpoint: Any) -> str:
        if self.saving is not None:
            raise self.saving
        return await super().save(checkpoint)

    async def load(self, checkpoint_id: str) -> Any:
        if self.loading is not None:
            raise self.loading
        return await super().load(checkpoint_id)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError("no storage"), StateUnavailable, "did not save the workflow: no storage"),
        (WorkflowCheckpointException("no such type"), ConfigurationError, "refused the workflow's state: no such type"),
        (TypeError("not picklable"), ConfigurationError, "refused the workflow's state: not picklable"),
        (ValueError("too deep"), ConfigurationError, "refused the workflow's state: too deep"),
    ],
    ids=["OSError", "WorkflowCheckpointException", "TypeError", "ValueError"],
)
async def test_a_given_storage_that_does_not_save_fails_the_turn(
    error: Exception, kind: type[HostingError], said: str, stream: bool
) -> None:
    storage = FailingStorage()
    async with serving(memory_workflow(), checkpoint_location=storage) as served:
        await served.ask("a", "1")
        storage.saving = error
        with pytest.raises(kind, match=said) as failed:
            await served.finish("a", "2", stream=stream)
        assert failed.value.started and failed.value.__cause__ is error
        storage.saving = None
        assert outputs(await served.ask("a", "3"))[-1] == "nothing+1+3 & 1+3"


@pytest.mark.parametrize(
    ("error", "kind"),
    [(OSError("no storage"), StateUnavailable), (WorkflowCheckpointException("no storage"), StateDamaged)],
    ids=["OSError", "WorkflowCheckpointException"],
)
async def test_a_given_storage_that_does_not_load_runs_nothing(error: Exception, kind: type[HostingError]) -> None:
    storage = FailingStorage()
    async with serving(memory_workflow(), checkpoint_location=storage) as served:
        await served.ask("a", "1")
        storage.loading = error
        with pytest.raises(kind, match="no storage") as failed:
            await served.ask("a", "2")
        assert not failed.value.started and failed.value.__cause__ is error
        assert outputs(await served.ask("b", "1"))[-1] == "nothing+1 & 1"
        storage.loading = None
        assert outputs(await served.ask("a", "3"))[-1] == "nothing+1+3 & 1+3"


async def test_a_checkpoint_that_a_given_storage_lost_is_damage() -> None:
    storage = InMemoryCheckpointStorage()
    async with serving(memory_workflow(), checkpoint_location=storage) as served:
        await served.ask("a", "x")
        for name in await storage.list_checkpoint_ids(workflow_name="memory"):
            await storage.delete(name)
        with pytest.raises(StateDamaged, match="reset the conversation"):
            await served.ask("a", "y")
        await served.context.reset_session("a")
        assert outputs(await served.ask("a", "z"))[-1] == "nothing+z & z"


@pytest.mark.parametrize("url", [False, True])
async def test_checkpoint_location_wins_over_state_dir(
    url: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "here"
    channel = ProbeChannel()
    host = AgentFrameworkHost(
        memory_workflow(),
        channels=[channel],
        state_dir={"sessions": tmp_path / "sessions", "checkpoints": tmp_path / "not-here"},
        checkpoint_location=place.as_uri() if url else place,
    )
    assert "checkpoint_location wins over state_dir['checkpoints']" in caplog.text
    async with started(host):
        await Served(host, channel.context).ask("a", "x")
    assert [*place.rglob("c/*")] and not (tmp_path / "not-here").exists()


@pytest.mark.parametrize("factory", [False, True])
async def test_checkpoint_location_is_ignored_for_an_agent(
    factory: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    agent = ScriptedAgent()
    for location in (tmp_path / "here", InMemoryCheckpointStorage()):
        caplog.clear()
        async with serving((lambda: agent) if factory else agent, checkpoint_location=location) as served:
            assert (await served.ask("a", "x")).result.text == "1: x"
        assert "checkpoint_location is ignored" in caplog.text
    assert not (tmp_path / "here").exists()


@pytest.mark.parametrize("target", [memory_workflow, recalling_agent])
async def test_stored_checkpoints_without_sessions_are_warned_of(
    target: Callable[[], Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(target(), state_dir={"checkpoints": tmp_path}):
        assert "Only checkpoints have a place" in caplog.text


def changed_workflow() -> Any:
    start = Memory()
    return memory_builder(start).add_edge(start, Echo(id="echo")).build()


async def test_a_checkpoint_of_another_graph_is_kept_and_said_to_be_so(tmp_path: Path) -> None:
    async with serving(memory_workflow(), state_dir=tmp_path) as served:
        await served.ask("a", "x")
    async with serving(changed_workflow(), state_dir=tmp_path) as served:
        with pytest.raises(StateDamaged, match=r"graph has changed.*reset the conversation"):
            await served.ask("a", "y")
        assert outputs(await served.ask("b", "y"))[-1] == "nothing+y & y"
    async with serving(memory_workflow(), state_dir=tmp_path) as served:
        assert outputs(await served.ask("a", "y"))[-1] == "nothing+x+y & x+y"


async def test_a_reset_makes_a_workflow_forget(state_dir: Path | None) -> None:
    async with serving(memory_workflow(), state_dir=state_dir) as served:
        (pending,) = (await served.ask("a", "ask")).pending
        await served.host.reset_session("a")
        with pytest.raises(InvalidRequest):
            await served.answer("a", {pending.id: True})
        assert outputs(await served.ask("a", "x"))[-1] == "nothing+x & x"


async def test_a_workflow_may_be_reset_from_within_its_turn(state_dir: Path | None) -> None:
    class Resetter(Memory):
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await super().work(text, ctx)
            if text == "reset":
                await served.host.reset_session("a")

    async with serving(memory_workflow(Resetter()), state_dir=state_dir) as served:
        await served.ask("a", "x")
        assert outputs(await served.ask("a", "reset"))[-1] == "nothing+x+reset & x+reset"
        assert outputs(await served.ask("a", "y"))[-1] == "nothing+y & y"


async def test_what_a_reset_conversation_has_asked_is_not_pending(state_dir: Path | None) -> None:
    class Resetter(Memory):
        async def work(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
            await served.host.reset_session("a")
            await super().work(text, ctx)

    async with serving(memory_workflow(Resetter()), state_dir=state_dir) as served:
        assert (await served.ask("a", "ask")).pending == ()


async def test_restoring_says_nothing_about_questions_of_others(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        async with serving(memory_workflow()) as served:
            await served.ask("a", "ask")
            await served.ask("b", "x")
    assert "still pending" not in caplog.text


async def test_many_turns_of_many_conversations_keep_their_order(state_dir: Path | None) -> None:
    async with serving(memory_workflow, state_dir=state_dir) as served:

        async def talk(key: str) -> list[str]:
            return [outputs(await served.ask(key, f"{key}{number}"))[-1] for number in range(4)]

        replies = await asyncio.gather(*map(talk, "abcd"))
    for key, said in zip("abcd", replies, strict=True):
        heard = "+".join(f"{key}{number}" for number in range(4))
        assert said[-1] == f"nothing+{heard} & {heard}"


class OfTheScript:
    """Pretends to be defined in the script that was started."""


OfTheScript.__module__ = "__main__"


class ScriptHoarder(Memory):
    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {"heard": self.heard, "more": [OfTheScript()]}


async def test_a_type_of_the_started_script_is_refused_where_others_must_read_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["__main__"], "OfTheScript", OfTheScript, raising=False)
    async with serving(memory_workflow(ScriptHoarder()), state_dir=tmp_path) as served:
        with pytest.raises(ConfigurationError, match="module of its own"):
            await served.ask("a", "x")


async def test_text_may_hold_the_name_of_the_started_script(tmp_path: Path) -> None:
    code = "if __name__ == '__main__': main()  # and __main__ alone: "
    asked = f"{code}__main__"
    workflow = WorkflowBuilder(name="coder", start_executor=AgentExecutor(recalling_agent())).build()
    for text in (asked, "__main__"):
        async with serving(workflow, state_dir=tmp_path) as served:
            (output,) = outputs(await served.ask("a", text))
            assert output.text.endswith(text)
    assert output.text == f"{asked} | __main__"


async def test_shared_state_of_any_name_is_kept(state_dir: Path | None) -> None:
    class Counter(Executor):
        @handler
        async def count(self, text: str, ctx: WorkflowContext[Never, int]) -> None:
            ctx.set_state("_count", (ctx.get_state("_count") or 0) + 1)
            await ctx.yield_output(ctx.get_state("_count"))

    workflow = WorkflowBuilder(name="counter", start_executor=Counter(id="counter")).build()
    async with serving(workflow, state_dir=state_dir) as served:
        for number in (1, 2):
            answer = await served.ask("a", "x", session=ChannelSession("a", fresh=number == 1))
            assert (outputs(answer), answer.saved) == ([number], True)


async def test_a_look_without_a_key_of_its_own_leaves_no_checkpoint(tmp_path: Path) -> None:
    async with serving(memory_workflow(), state_dir=tmp_path) as served:
        await served.ask("a", "x")
        before = checkpoints(tmp_path)
        assert outputs(await served.ask(None, "y", session=ChannelSession(parent="a")))
        assert checkpoints(tmp_path) == before


def checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.rglob("c/*/*"))


class HangingStorage(InMemoryCheckpointStorage):
    async def save(self, checkpoint: Any) -> str:
        await asyncio.Event().wait()
        return ""

    async def load(self, checkpoint_id: str) -> Any:
        await asyncio.Event().wait()


async def test_a_given_storage_that_hangs_is_given_up() -> None:
    keeper = ForeignCheckpoints(HangingStorage(), timeout=0.01)
    with pytest.raises(StateUnavailable, match="did not save"):
        await keeper.keep("k/c/0", "a", WorkflowCheckpoint("w", "hash"))
    with pytest.raises(StateUnavailable, match="did not give"):
        await keeper.load(Checkpoint("c"))


class ManagedWorkflow(Workflow):
    """Fails when it is left, although its turn is saved by then."""

    async def __aenter__(self) -> ManagedWorkflow:
        return self

    async def __aexit__(self, *_: object) -> None:
        raise OSError("cannot be left")


async def test_a_saved_turn_is_concluded_also_where_its_workflow_cannot_be_left() -> None:
    def make() -> Workflow:
        workflow = memory_workflow()
        workflow.__class__ = ManagedWorkflow
        return workflow

    seen: list[bool] = []

    def hook(result: HostedRunResult[Any], **_: Any) -> HostedRunResult[Any]:
        seen.append(result.saved)
        return result

    async with serving(make) as served:
        with pytest.raises(OSError, match="cannot be left"):
            await served.ask("a", "x", hooks={"response_hook": hook})
    assert seen == [True]
