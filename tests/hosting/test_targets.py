"""What a host serves: objects, factories, classes and builders."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

import pytest
from agent_framework import Workflow, workflow

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError
from tests.support.channels import ProbeChannel, Served, serving, started
from tests.support.targets import (
    Counted,
    ManagedAgent,
    Memory,
    ScriptedAgent,
    chat_workflow,
    memory_builder,
    memory_workflow,
    recalling_agent,
)


async def agent_later() -> ScriptedAgent:
    await asyncio.sleep(0)
    return ScriptedAgent()


async def workflow_later() -> Workflow:
    await asyncio.sleep(0)
    return memory_workflow()


class AgentBuilder:
    def build(self) -> ScriptedAgent:
        return ScriptedAgent()


AGENTS: dict[str, Any] = {
    "object": ScriptedAgent(),
    "factory": lambda: ScriptedAgent(),
    "async factory": agent_later,
    "class": ScriptedAgent,
    "builder": AgentBuilder(),
    "builder class": AgentBuilder,
    "factory of a builder": lambda: AgentBuilder(),
}
WORKFLOWS: dict[str, Any] = {
    "object": memory_workflow,
    "factory": lambda: memory_workflow,
    "async factory": lambda: workflow_later,
    "builder": memory_builder,
    "factory of a builder": lambda: memory_builder,
}


@pytest.mark.parametrize("kind", AGENTS)
async def test_agents_are_served(kind: str) -> None:
    async with serving(AGENTS[kind]) as served:
        assert isinstance(served.context.target, ScriptedAgent)
        assert (await served.ask("a", "x")).result.text == "1: x"
        assert (await served.ask("a", "y")).result.text == "2: y"


async def test_the_frameworks_own_agent_is_served() -> None:
    async with serving(recalling_agent()) as served:
        await served.ask("a", "x")
        assert (await served.ask("a", "y")).result.text == "x | y"


@pytest.mark.parametrize("kind", WORKFLOWS)
async def test_workflows_are_served(kind: str) -> None:
    async with serving(WORKFLOWS[kind]()) as served:
        assert isinstance(served.context.target, Workflow)
        assert (await served.ask("a", "x")).result.get_outputs()[-1] == "nothing+x & x"


async def test_a_workflow_agent_may_come_from_a_factory() -> None:
    factory = Counted(lambda: chat_workflow().as_agent("chat"))
    async with serving(factory) as served:
        await served.ask("a", "x")
        assert (await served.ask("a", "y")).result.text == "x+y & x+y"
    assert len(factory.made) == 1


async def test_an_agent_factory_is_called_once_at_start_up_on_the_serving_loop() -> None:
    factory = Counted(ScriptedAgent)
    channel = ProbeChannel()
    host = AgentFrameworkHost(factory, channels=[channel])
    _ = host.app
    assert factory.made == []
    async with started(host):
        assert factory.loops == [asyncio.get_running_loop()]
        for _ in range(3):
            assert channel.context.target is factory.made[0]
    assert len(factory.made) == 1


async def test_a_workflow_factory_is_called_once_for_each_turn() -> None:
    factory = Counted(memory_workflow)
    async with serving(factory) as served:
        at_start = len(factory.made)
        for number in range(1, 4):
            await served.ask("a", "x")
            assert len(factory.made) == at_start + number
        assert set(factory.loops) == {asyncio.get_running_loop()}
        used = [workflow.executors["memory"] for workflow in factory.made]
        assert isinstance(used[0], Memory) and used[0].heard == ["nothing"]  # The first only shows what it is like.


async def test_an_agent_that_is_a_context_manager_is_entered_and_closed() -> None:
    for factory in (False, True):
        events: list[str] = []
        agent = ManagedAgent(events)

        def make(agent: ManagedAgent = agent) -> ManagedAgent:
            return agent

        async with serving(make if factory else agent) as served:
            assert events == ["entered"]
            await served.ask("a", "x")
        assert events == ["entered", "closed"]


async def test_an_agent_is_closed_when_start_up_fails_later() -> None:
    async def fail() -> None:
        raise ValueError("no port")

    events: list[str] = []
    host = AgentFrameworkHost(ManagedAgent(events), channels=[ProbeChannel(on_startup=[fail])])
    with pytest.raises(ValueError, match="no port"):
        async with started(host):
            pass
    assert events == ["entered", "closed"]


class Unready(ManagedAgent):
    """An agent that cannot be entered."""

    async def __aenter__(self) -> Self:
        self.events.append("refused")
        raise ValueError("not yet")


@pytest.mark.parametrize("where", ["factory", "agent", "channel"])
async def test_after_a_failed_start_up_the_next_one_calls_the_factory_again(where: str) -> None:
    events: list[str] = []
    failures = [where]

    def make() -> ManagedAgent:
        events.append("made")
        if failures == ["factory"]:
            raise ValueError("not yet")
        return (Unready if failures == ["agent"] else ManagedAgent)(events)

    async def listen() -> None:
        if failures == ["channel"]:
            raise ValueError("not yet")

    channel = ProbeChannel(on_startup=[listen])
    host = AgentFrameworkHost(make, channels=[channel])
    with pytest.raises(ValueError, match="not yet"):
        async with started(host):
            pass
    assert (
        events
        == {
            "factory": ["made"],
            "agent": ["made", "refused"],
            "channel": ["made", "entered", "closed"],
        }[where]
    )
    events.clear()
    failures.clear()
    async with started(host):
        assert events == ["made", "entered"]
        assert (await Served(host, channel.context).ask("a", "x")).result.text == "1: x"
    assert events == ["made", "entered", "closed"]


@pytest.mark.parametrize(
    "target",
    [ScriptedAgent(), ScriptedAgent, memory_workflow(), memory_workflow],
    ids=["agent", "class", "workflow", "factory"],
)
async def test_after_the_shutdown_turns_are_refused_until_the_next_start(target: Any) -> None:
    channel = ProbeChannel()
    host = AgentFrameworkHost(target, channels=[channel])
    for _ in range(2):
        async with started(host):
            served = Served(host, channel.context)
            await served.ask("a", "x")
        for run in (served.ask, served.stream):
            with pytest.raises(ConfigurationError, match="has not been started") as refused:
                await run("a", "y")
            assert not refused.value.started


class ManagedWorkflow(Workflow):
    """A workflow that is an async context manager."""

    events: list[str]

    async def __aenter__(self) -> Self:
        self.events.append("entered")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.events.append("closed" if error is None else f"closed after {type(error).__name__}")


def managed_workflow(events: list[str]) -> Workflow:
    made = memory_workflow()
    made.__class__ = ManagedWorkflow
    assert isinstance(made, ManagedWorkflow)
    made.events = events
    return made


async def test_a_workflow_is_entered_at_start_up() -> None:
    events: list[str] = []
    async with serving(managed_workflow(events)) as served:
        await served.ask("a", "x")
        assert events == ["entered"]
    assert events == ["entered", "closed"]


async def test_a_workflow_of_a_factory_is_entered_around_its_turn() -> None:
    events: list[str] = []
    async with serving(lambda: managed_workflow(events)) as served:
        assert events == []
        await served.ask("a", "x")
        assert events == ["entered", "closed"]
        with pytest.raises(ValueError, match="secret"):
            await served.ask("a", "fail")
        turn = await served.stream("a", "x")
        assert events[4:] == ["entered"]
        await turn.aclose()
        assert len(events) == 6 and events[5].startswith("closed")


def functional() -> Any:
    @workflow
    async def echo(text: str) -> str:
        return text

    return echo


FUNCTIONAL: dict[str, Any] = {
    "definition": functional,
    "workflow": lambda: functional().build(),
    "agent": lambda: functional().build().as_agent(),
}


@pytest.mark.filterwarnings("ignore:.FUNCTIONAL_WORKFLOWS")
@pytest.mark.parametrize("kind", FUNCTIONAL)
async def test_a_functional_workflow_is_refused(kind: str) -> None:
    with pytest.raises(ConfigurationError, match="functional workflow"):
        AgentFrameworkHost(FUNCTIONAL[kind](), channels=[])
    if kind != "definition":
        with pytest.raises(ConfigurationError, match="functional workflow"):
            async with serving(FUNCTIONAL[kind]):
                pass


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (None, "NoneType is no target"),
        ("agent", "str is no target"),
        (object(), "object is no target"),
    ],
)
def test_what_is_no_target_is_refused(target: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        AgentFrameworkHost(target, channels=[])


async def nothing_later() -> None:
    return None


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        (lambda: None, "returned NoneType"),
        (nothing_later, "returned NoneType"),
        (lambda: "agent", "returned str"),
        (dict, "returned dict"),
        (lambda: ScriptedAgent, "returned type"),
    ],
)
async def test_a_factory_that_returns_no_target_fails_the_start_up(factory: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        async with serving(factory):
            pass


async def test_a_failing_factory_fails_the_start_up() -> None:
    def fail() -> ScriptedAgent:
        raise OSError("no model")

    with pytest.raises(OSError, match="no model"):
        async with serving(fail):
            pass


async def test_a_factory_that_fails_later_fails_its_turn_and_no_other() -> None:
    made: list[Workflow] = []

    def sometimes() -> Workflow:
        made.append(memory_workflow())
        if len(made) == 3:
            raise OSError("out of memory")
        return made[-1]

    async with serving(sometimes) as served:
        await served.ask("a", "x")
        with pytest.raises(OSError, match="out of memory"):
            await served.ask("a", "y")
        assert (await served.ask("a", "z")).result.get_outputs()[-1] == "nothing+x+z & x+z"


class BrokenBuilder:
    def build(self) -> ScriptedAgent:
        raise OSError("no model")


def test_a_builder_that_fails_fails_the_construction() -> None:
    with pytest.raises(OSError, match="no model"):
        AgentFrameworkHost(BrokenBuilder(), channels=[])
