"""State of one conversation never reaches another, whatever kind of workflow is served."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import cycle
from pathlib import Path
from typing import Any, Never

import pytest
from agent_framework import (
    AgentExecutor,
    AgentResponse,
    Executor,
    Workflow,
    WorkflowAgent,
    WorkflowBuilder,
    WorkflowContext,
    WorkflowExecutor,
    handler,
    register_checkpoint_type,
)

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError, HostLimits, TurnBusy
from tests.support.channels import PATIENCE, ProbeChannel, Served, serving, started, until
from tests.support.targets import (
    Busy,
    ChatMemory,
    ForgetfulMemory,
    Memory,
    Question,
    chat_workflow,
    memory_builder,
    memory_workflow,
    recalling_agent,
)

register_checkpoint_type(Question)

SHORT = HostLimits(lease=timedelta(milliseconds=100), turn_timeout=timedelta(milliseconds=2200))
LEASED = HostLimits(lease=timedelta(seconds=1), turn_timeout=timedelta(milliseconds=3200))
"""Short as well, but with a lease that a busy machine can renew."""


def shared_executor() -> Callable[[], Workflow]:
    """A factory whose workflows all hold the same executor."""
    executor = Memory()
    return lambda: memory_workflow(executor)


def pool_of_two() -> Callable[[], Workflow]:
    """A factory that makes a workflow to look at, and then gives two others in turn."""
    workflows = cycle([memory_workflow(), memory_workflow()])
    first = [memory_workflow()]
    return lambda: first.pop() if first else next(workflows)


TARGETS: dict[str, Callable[[], Any]] = {
    "workflow": memory_workflow,
    "builder": memory_builder,
    "factory": lambda: memory_workflow,
    "factory of a builder": lambda: memory_builder,
    "factory with one executor": shared_executor,
    "factory with a pool": pool_of_two,
}


AGENTS: dict[str, Callable[[], Any]] = {
    "workflow agent": lambda: chat_workflow().as_agent("chat"),
    "factory of a workflow agent": lambda: lambda: chat_workflow().as_agent("chat"),
}
STREAMED = pytest.mark.parametrize("streamed", ["", "abcd", "bd"], ids=["once", "stream", "mixed"])
"""Which of the conversations a, b, c and d are streamed."""


@pytest.fixture(params=TARGETS)
def target(request: pytest.FixtureRequest) -> Any:
    return (TARGETS | AGENTS)[request.param]()


def text_of(result: Any) -> str:
    if isinstance(result, AgentResponse):
        return result.text
    return "".join(str(output) for output in result.get_outputs())


async def say(served: Served, key: str | None, text: str, *, stream: bool = False) -> str:
    if not stream:
        return text_of((await served.ask(key, text)).result)
    turn = await served.stream(key, text)
    parts = [update.text async for update in turn]
    await turn
    return "".join(parts)


@pytest.mark.parametrize("stream", [False, True])
async def test_conversations_do_not_meet(target: Any, state_dir: Path | None, stream: bool) -> None:
    async with serving(target, state_dir=state_dir) as served:
        for turn in ("1", "2", "3"):
            for key in ("a", "b", "c"):
                said = [f"{key}{number}" for number in range(1, int(turn) + 1)]
                reply = await say(served, key, f"{key}{turn}", stream=stream)
                assert reply == f"so: nothing+{'+'.join(said)} & {'+'.join(said)}"


@STREAMED
async def test_conversations_at_once_do_not_meet(target: Any, state_dir: Path | None, streamed: str) -> None:
    async with serving(target, state_dir=state_dir) as served:
        for turn in ("1", "2"):
            replies = await asyncio.gather(*[say(served, key, key + turn, stream=key in streamed) for key in "abcd"])
            for key, reply in zip("abcd", replies, strict=True):
                said = "+".join(f"{key}{number}" for number in range(1, int(turn) + 1))
                assert reply == f"so: nothing+{said} & {said}"


@STREAMED
@pytest.mark.parametrize("target", AGENTS, indirect=True)
async def test_conversations_of_a_workflow_agent_at_once_do_not_meet(
    target: Any, state_dir: Path | None, streamed: str
) -> None:
    executors = ExecutorsSeen(target)
    async with serving(executors.target, state_dir=state_dir) as served:
        for turn in ("1", "2"):
            replies = await asyncio.gather(*[say(served, key, key + turn, stream=key in streamed) for key in "abcd"])
            for key, reply in zip("abcd", replies, strict=True):
                said = "+".join(f"{key}{number}" for number in range(1, int(turn) + 1))
                assert reply == f"{said} & {said}"
        assert [executor.most_running for executor in executors.all] == [1]


async def test_turns_outside_a_conversation_know_nothing(target: Any) -> None:
    async with serving(target) as served:
        await say(served, "a", "secret")
        for _ in range(2):
            assert await say(served, None, "x") == "so: nothing+x & x"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_failed_turn_leaves_no_trace(target: Any, state_dir: Path | None, stream: bool) -> None:
    async with serving(target, state_dir=state_dir) as served:
        await say(served, "a", "a1")
        with pytest.raises(ValueError, match="own secret"):
            await say(served, "a", "fail", stream=stream)
        assert await say(served, "b", "b1") == "so: nothing+b1 & b1"
        assert await say(served, "a", "a2") == "so: nothing+a1+a2 & a1+a2"


@pytest.mark.parametrize("target", ["workflow", "factory with one executor", "factory with a pool"], indirect=True)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cancelled_turn_leaves_no_trace(target: Any, state_dir: Path | None, stream: bool) -> None:
    executors = ExecutorsSeen(target)
    async with serving(executors.target, state_dir=state_dir) as served:
        await say(served, "a", "a1")
        turn = asyncio.create_task(say(served, "a", "wait", stream=stream))
        await executors.until_waiting()
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert all(executor.running == 0 for executor in executors.all)
        assert await say(served, "b", "b1") == "so: nothing+b1 & b1"
        assert await say(served, "a", "a2") == "so: nothing+a1+a2 & a1+a2"


@pytest.mark.parametrize("target", TARGETS, indirect=True)
async def test_an_abandoned_stream_leaves_no_trace(target: Any, state_dir: Path | None) -> None:
    executors = ExecutorsSeen(target)
    async with serving(executors.target, state_dir=state_dir) as served:
        await say(served, "a", "a1")
        turn = await served.stream("a", "wait")
        assert (await anext(aiter(turn))).text == "so: "
        await turn.aclose()
        assert all(executor.running == 0 for executor in executors.all)
        assert await say(served, "b", "b1", stream=True) == "so: nothing+b1 & b1"
        assert await say(served, "a", "a2") == "so: nothing+a1+a2 & a1+a2"


async def test_pending_requests_stay_in_their_conversation(target: Any, state_dir: Path | None) -> None:
    async with serving(target, state_dir=state_dir) as served:
        (of_a,) = (await served.ask("a", "ask a")).pending
        (of_b,) = (await served.ask("b", "ask b")).pending
        assert [request.data for request in (of_a, of_b)] == [{"about": "ask a"}, {"about": "ask b"}]
        with pytest.raises(Exception, match="waits for an answer with this id"):
            await served.answer("b", {of_a.id: True})
        assert (await served.ask("c", "c1")).pending == []
        answered = await served.answer("a", {of_a.id: True})
        assert (text_of(answered.result), answered.pending) == ("ask a? yes, after nothing+ask a", [])
        answered = await served.answer("b", {of_b.id: False})
        assert text_of(answered.result) == "ask b? no, after nothing+ask b"


async def test_an_abandoned_request_is_gone_from_the_object(target: Any) -> None:
    async with serving(target) as served:
        turn = await served.stream("a", "ask")
        async for _ in turn:
            break
        await turn.aclose()
        assert (await served.ask("b", "b1")).pending == []
        assert (await served.ask("a", "a1")).pending == []


class ExecutorsSeen:
    """Wraps a target so that the executors of every workflow it gives are known."""

    def __init__(self, target: Any) -> None:
        self.all: list[Busy] = []
        if callable(target):
            self.target: Any = lambda: self.note(target())
        else:
            self.target = self.note(target)

    def note(self, made: Any) -> Any:
        if isinstance(made, WorkflowBuilder):
            made = made.build()
        workflow = made.workflow if isinstance(made, WorkflowAgent) else made
        for executor in workflow.executors.values():
            assert isinstance(executor, Busy)
            if executor not in self.all:
                self.all.append(executor)
        return made

    async def until_waiting(self, count: int = 1) -> None:
        await until(lambda: sum(executor.waiting.is_set() for executor in self.all) >= count)


@asynccontextmanager
async def two_waiting(
    served: Served, executors: ExecutorsSeen, streamed: str = ""
) -> AsyncIterator[list[asyncio.Task[str]]]:
    turns = [asyncio.create_task(say(served, key, f"wait {key}", stream=key in streamed)) for key in "ab"]
    try:
        yield turns
    finally:
        for executor in executors.all:
            executor.gate.set()
        await asyncio.gather(*turns)


@STREAMED
@pytest.mark.parametrize("target", ["workflow", "builder", "factory with one executor", *AGENTS], indirect=True)
async def test_turns_on_shared_executors_run_one_at_a_time(target: Any, streamed: str) -> None:
    executors = ExecutorsSeen(target)
    async with serving(executors.target) as served:
        async with two_waiting(served, executors, streamed):
            await executors.until_waiting()
        assert [executor.most_running for executor in executors.all] == [1]


async def test_a_factory_runs_conversations_side_by_side() -> None:
    executors = ExecutorsSeen(memory_workflow)
    async with serving(executors.target) as served, two_waiting(served, executors):
        await executors.until_waiting(2)
        assert sum(executor.running for executor in executors.all) == 2


async def test_a_pool_runs_side_by_side_what_it_does_not_share() -> None:
    executors = ExecutorsSeen(pool_of_two())
    async with serving(executors.target) as served, two_waiting(served, executors):
        await executors.until_waiting(2)
        assert sum(executor.running for executor in executors.all) == 2


@pytest.mark.parametrize("target", ["workflow", "factory with one executor", "workflow agent"], indirect=True)
async def test_waiting_for_a_shared_workflow_ends(target: Any) -> None:
    executors = ExecutorsSeen(target)
    async with serving(executors.target, limits=SHORT) as served, two_waiting(served, executors) as turns:
        await executors.until_waiting()
        done, _ = await asyncio.wait(turns, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        with pytest.raises(TurnBusy, match="factory"):
            await done.pop()
        turns[:] = [turn for turn in turns if not turn.done()]


@pytest.mark.parametrize("target", ["workflow"], indirect=True)
async def test_a_conversation_and_a_shared_workflow_are_waited_for_within_one_time_out(
    target: Any, state_dir: Path | None
) -> None:
    # Only a limit of seconds is valid: the waiting itself is real.
    limits = SHORT if state_dir is None else LEASED
    whole = limits.turn_timeout.total_seconds()
    clock = asyncio.get_running_loop().time
    executors = ExecutorsSeen(target)
    async with serving(executors.target, state_dir=state_dir, limits=limits) as served:
        holder = asyncio.create_task(say(served, "b", "wait"))
        await executors.until_waiting()
        first = asyncio.create_task(say(served, "a", "1"))
        ended, _ = await asyncio.wait([first], timeout=whole / 5)
        assert not ended
        began = clock()
        with pytest.raises(TurnBusy, match="factory"):  # It got its conversation from the first, which gave up.
            await say(served, "a", "2")
        assert clock() - began < whole * 1.5
        with pytest.raises(TurnBusy, match="factory"):
            await first
        executors.all[0].gate.set()
        await holder


async def test_two_hosts_of_one_builder_start_from_its_first_state() -> None:
    builder = memory_builder()
    async with serving(builder) as served:
        await say(served, "a", "secret")
    async with serving(builder) as served:
        assert await say(served, "a", "x") == "so: nothing+x & x"


@pytest.mark.parametrize("stream", [False, True])
async def test_conversations_of_a_workflow_agent_do_not_meet(state_dir: Path | None, stream: bool) -> None:
    async with serving(chat_workflow().as_agent("chat"), state_dir=state_dir) as served:
        for turn in ("1", "2", "3"):
            for key in ("a", "b"):
                said = "+".join(f"{key}{number}" for number in range(1, int(turn) + 1))
                assert await say(served, key, key + turn, stream=stream) == f"{said} & {said}"
        assert await say(served, None, "x", stream=stream) == "x & x"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_workflow_agent_forgets_a_turn_that_did_not_end(state_dir: Path | None, stream: bool) -> None:
    executor = ChatMemory()
    async with serving(chat_workflow(executor).as_agent("chat"), state_dir=state_dir) as served:
        await say(served, "a", "a1")
        with pytest.raises(ValueError, match="own secret"):
            await say(served, "a", "fail", stream=stream)
        turn = await served.stream("a", "wait")
        assert (await anext(aiter(turn))).text == "waiting"
        await turn.aclose()
        assert await say(served, "b", "b1", stream=stream) == "b1 & b1"
        assert await say(served, "a", "a2", stream=stream) == "a1+a2 & a1+a2"


async def test_pending_requests_of_a_workflow_agent_stay_in_their_conversation(state_dir: Path | None) -> None:
    async with serving(chat_workflow().as_agent("chat"), state_dir=state_dir) as served:
        (of_a,) = (await served.ask("a", "ask a")).pending
        assert await say(served, "b", "b1") == "b1 & b1"
        (of_b,) = (await served.ask("b", "ask b")).pending
        assert text_of((await served.answer("a", {of_a.id: True})).result) == "ask a? yes, after ask a"
        assert text_of((await served.answer("b", {of_b.id: False})).result) == "ask b? no, after b1+ask b"
        assert await say(served, "a", "a2") == "ask a+a2 & ask a+a2"


def agent_executor_workflow() -> Workflow:
    return WorkflowBuilder(name="agents", start_executor=AgentExecutor(recalling_agent())).build()


@pytest.mark.parametrize("factory", [False, True])
async def test_agents_in_a_workflow_have_a_session_for_each_conversation(state_dir: Path | None, factory: bool) -> None:
    target = agent_executor_workflow if factory else agent_executor_workflow()
    async with serving(target, state_dir=state_dir) as served:
        for turn in ("1", "2"):
            for key in ("a", "b"):
                said = " | ".join(f"{key}{number}" for number in range(1, int(turn) + 1))
                assert await say(served, key, key + turn) == said


class Relay(Executor):
    """Passes a text on, and yields what comes back."""

    @handler
    async def relay(self, text: str, ctx: WorkflowContext[str, str]) -> None:
        await ctx.send_message(text)


def nested_workflow(inner: Workflow | None = None) -> Workflow:
    sub = WorkflowExecutor(inner or memory_workflow(name="inner"), id="sub", allow_direct_output=True)
    relay = Relay(id="relay")
    return WorkflowBuilder(name="outer", start_executor=relay).add_edge(relay, sub).build()


def nested_around_one_inner() -> Callable[[], Workflow]:
    """A factory of new workflows around the same inner one."""
    inner = memory_workflow(name="inner")
    return lambda: nested_workflow(inner)


@pytest.mark.parametrize(
    "target",
    [nested_workflow(), nested_workflow, nested_around_one_inner()],
    ids=["workflow", "factory", "factory with one inner workflow"],
)
async def test_conversations_do_not_meet_in_a_workflow_inside(target: Any, state_dir: Path | None) -> None:
    async with serving(target, state_dir=state_dir) as served:
        for turn in ("1", "2"):
            for key in ("a", "b"):
                said = "+".join(f"{key}{number}" for number in range(1, int(turn) + 1))
                assert await say(served, key, key + turn) == f"so: nothing+{said} & {said}"
        with pytest.raises(ValueError, match="own secret"):
            await say(served, "a", "fail")
        assert await say(served, "c", "c1") == "so: nothing+c1 & c1"


class SessionTeller(Executor):
    """Tells the session id of an agent beside it."""

    def __init__(self, agent: AgentExecutor) -> None:
        super().__init__(id="teller")
        self.agent = agent

    @handler
    async def tell(self, text: str, ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output((await self.agent.on_checkpoint_save())["agent_session"]["session_id"])

    async def on_checkpoint_save(self) -> dict[str, Any]:
        return {}

    async def on_checkpoint_restore(self, state: dict[str, Any]) -> None:
        return


def telling_workflow(name: str) -> Workflow:
    agent = AgentExecutor(recalling_agent(), id="agent")
    teller = SessionTeller(agent)
    # The agent is never reached; it only has to be part of the workflow.
    return WorkflowBuilder(name=name, start_executor=teller).add_edge(teller, agent, lambda message: False).build()


@pytest.mark.parametrize("nested", [False, True])
async def test_session_ids_of_agents_in_a_workflow_differ(nested: bool) -> None:
    workflow = telling_workflow("tell")
    async with serving(nested_workflow(workflow) if nested else workflow) as served:
        ids = {key: await say(served, key, "x") for key in ("a", "b")}
        assert len(set(ids.values())) == 2
        assert {key: await say(served, key, "x") for key in ("a", "b")} == ids


def warnings_of(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)


def agent_around_a_workflow() -> Workflow:
    agent = chat_workflow().as_agent("inner")
    return WorkflowBuilder(name="outer", start_executor=AgentExecutor(agent, id="wrapped")).build()


@pytest.mark.parametrize(
    ("target", "named"),
    [
        (lambda: memory_workflow(ForgetfulMemory("lossy")), "lossy"),
        (lambda: nested_workflow(memory_workflow(ForgetfulMemory("lossy"), name="inner")), "lossy"),
        (agent_around_a_workflow, "wrapped"),
    ],
    ids=["plain", "inside", "workflow agent inside"],
)
async def test_executors_without_hooks_are_named(
    target: Callable[[], Workflow], named: str, caplog: pytest.LogCaptureFixture
) -> None:
    # A factory keeps conversations apart, but not what is lost between turns.
    for made in (target,) if named == "wrapped" else (target(), target):
        caplog.clear()
        async with serving(made):
            assert f"The executors {named} do not save what they keep" in warnings_of(caplog)


@pytest.mark.parametrize("target", [memory_workflow, nested_workflow, agent_executor_workflow])
async def test_executors_with_hooks_are_not_named(
    target: Callable[[], Workflow], caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(target()):
        assert warnings_of(caplog) == ""


class BrokenAtFirst(Memory):
    async def on_checkpoint_save(self) -> dict[str, Any]:
        raise ValueError("nothing to save yet")


async def test_a_workflow_whose_first_state_cannot_be_saved_does_not_start() -> None:
    host = AgentFrameworkHost(memory_workflow(BrokenAtFirst("broken")), channels=[ProbeChannel()])
    with pytest.raises(ConfigurationError, match=r"'broken' cannot be restored.*nothing to save yet"):
        async with started(host):
            pass


async def test_answers_without_end_do_not_add_up(state_dir: Path | None) -> None:
    async with serving(memory_workflow(max_iterations=5), state_dir=state_dir) as served:
        pending = (await served.ask("a", "loop")).pending
        for _ in range(12):
            pending = (await served.answer("a", {pending[0].id: True})).pending
        assert len(pending) == 1
