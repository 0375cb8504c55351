"""Executors that no checkpoint covers: what they keep is lost between turns, and seen by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
from agent_framework import AgentExecutor, Executor, Message, Workflow, WorkflowBuilder, WorkflowContext, handler

from agent_framework_hosting import ConfigurationError
from tests.support.channels import serving
from tests.support.targets import chat_workflow


class Notes(Executor):
    """Keeps what it hears in attributes, and has no checkpoint hooks."""

    def __init__(self) -> None:
        super().__init__(id="notes")
        self.client = object()
        self.connection: object | None = None
        self.notes: list[str] = []
        self.by_word: dict[str, dict[str, int]] = {"all": {}}

    @handler
    async def hear(self, text: str, ctx: WorkflowContext[Never, list[Any]]) -> None:
        await ctx.yield_output(self.told(text))

    @handler
    async def chat(self, messages: list[Message], ctx: WorkflowContext[Never, str]) -> None:
        await ctx.yield_output(" ".join(self.told(messages[-1].text)))

    def told(self, text: str) -> list[str]:
        if text == "fail":
            self.notes.append("failed")
            raise ValueError(text)
        self.connection = self.connection or object()
        self.notes.append(text)
        self.by_word["all"][text] = 1
        seen = [*self.notes, *self.by_word["all"], getattr(self, "last", "nothing")]
        self.last = text
        return seen


def workflow(executor: Notes | None = None) -> WorkflowBuilder:
    return WorkflowBuilder(name="notes", start_executor=executor or Notes())


def shared_executor() -> Callable[[], Workflow]:
    executor = Notes()
    return lambda: workflow(executor).build()


TARGETS: dict[str, Callable[[], Any]] = {
    "workflow": lambda: workflow().build(),
    "builder": workflow,
    "factory": lambda: lambda: workflow().build(),
    "factory with one executor": shared_executor,
}


@pytest.mark.parametrize("name", TARGETS)
async def test_plain_attributes_begin_anew_in_every_turn(name: str, state_dir: Path | None) -> None:
    async with serving(TARGETS[name](), state_dir=state_dir) as served:
        for key, text in (("alice", "4711"), ("bob", "here"), ("alice", "again")):
            assert (await served.ask(key, text)).result.get_outputs() == [[text, text, "nothing"]]
        with pytest.raises(ValueError, match="fail"):
            await served.ask("alice", "fail")
        assert (await served.ask("bob", "well")).result.get_outputs() == [["well", "well", "nothing"]]


@pytest.mark.parametrize("factory", [False, True])
async def test_those_of_a_workflow_agent_do_too(factory: bool, state_dir: Path | None) -> None:
    agent = workflow().build().as_agent("notes")
    async with serving((lambda: agent) if factory else agent, state_dir=state_dir) as served:
        for key, text in (("alice", "4711"), ("bob", "here"), ("alice", "again")):
            assert (await served.ask(key, text)).result.text == f"{text} {text} nothing"


async def test_what_is_no_plain_data_stays() -> None:
    """A client or a connection may be costly to make, and need not be one that can be copied."""
    executor = Notes()
    client = executor.client
    async with serving(workflow(executor)) as served:
        await served.ask("alice", "x")
        connection = executor.connection
        await served.ask("bob", "x")
        assert executor.client is client and executor.connection is connection is not None


async def test_a_second_host_of_one_executor_begins_where_the_first_did() -> None:
    executor = Notes()
    for _ in range(2):
        async with serving(workflow(executor)) as served:
            assert (await served.ask("alice", "x")).result.get_outputs() == [["x", "x", "nothing"]]


def around(agent: Any) -> Workflow:
    return WorkflowBuilder(name="outer", start_executor=AgentExecutor(agent, id="wrapped")).build()


@pytest.mark.parametrize("kind", ["workflow", "workflow agent"])
async def test_one_object_around_a_workflow_agent_is_refused(kind: str) -> None:
    target = around(chat_workflow().as_agent("inner"))
    with pytest.raises(ConfigurationError, match=r"'wrapped' runs an agent made from a workflow.*WorkflowExecutor"):
        async with serving(target if kind == "workflow" else target.as_agent("outer")):
            pass


async def test_a_factory_around_one_workflow_agent_is_refused_when_it_is_used_again() -> None:
    agent = chat_workflow().as_agent("inner")
    async with serving(lambda: around(agent)) as served:
        with pytest.raises(ConfigurationError, match="constructs the whole workflow"):
            await served.ask("alice", "x")


async def test_a_factory_of_workflow_agents_keeps_conversations_apart(state_dir: Path | None) -> None:
    async with serving(lambda: around(chat_workflow().as_agent("inner")), state_dir=state_dir) as served:
        assert "alice" in (await served.ask("alice", "alice 1")).result.get_outputs()[-1].text
        with pytest.raises(Exception, match="own secret"):
            await served.ask("alice", "fail")
        assert "alice" not in (await served.ask("bob", "bob 1")).result.get_outputs()[-1].text
