"""Executors that no checkpoint covers: they are named, and what cannot be brought back at all is refused."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Never

import pytest
from agent_framework import AgentExecutor, Executor, Workflow, WorkflowBuilder, WorkflowContext, handler

from agent_framework_hosting import ConfigurationError
from tests.support.channels import serving
from tests.support.targets import chat_workflow, recalling_agent


class Notes(Executor):
    """Keeps what it hears, and saves nothing."""

    def __init__(self) -> None:
        super().__init__(id="notes")
        self.notes: list[str] = []

    @handler
    async def hear(self, text: str, ctx: WorkflowContext[Never, list[str]]) -> None:
        self.notes.append(text)
        await ctx.yield_output([*self.notes])


class CountingAgent(AgentExecutor):
    """Keeps something beside the agent's session, which is what its base class saves."""

    def __init__(self) -> None:
        super().__init__(recalling_agent(), id="counting")
        self.count = 0


class OwnBuilder:
    """Makes a workflow anew each time, as the framework's orchestration builders do."""

    def build(self) -> Workflow:
        return of(Notes())


def of(executor: Executor) -> Workflow:
    return WorkflowBuilder(name="notes", start_executor=executor).build()


@pytest.mark.parametrize("target", [lambda: of(Notes()), OwnBuilder()], ids=["factory", "builder"])
async def test_conversations_on_executors_of_their_own_do_not_meet(target: Any, state_dir: Path | None) -> None:
    async with serving(target, state_dir=state_dir) as served:
        for key, text in (("alice", "4711"), ("bob", "here"), ("alice", "again")):
            assert (await served.ask(key, text)).result.get_outputs() == [[text]]


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: of(Notes()), "notes"),
        (lambda: of(CountingAgent()), "counting"),
        (lambda: of(AgentExecutor(recalling_agent(), id="plain")), None),
    ],
    ids=["executor", "agent executor", "plain agent executor"],
)
async def test_who_keeps_what_it_does_not_save_is_named(
    make: Callable[[], Workflow], named: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(make()):
        pass
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (named is not None)
    for warning in warnings:
        assert f"The executors {named} do not save what they keep" in warning
        assert "shown to other conversations" in warning and "a function that constructs the workflow" in warning


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
