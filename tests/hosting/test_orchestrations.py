"""The framework's own orchestrations as targets: given as a builder or a function, conversations are kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Agent, AgentResponse, Message
from agent_framework_orchestrations import (
    ConcurrentBuilder,
    GroupChatBuilder,
    HandoffBuilder,
    MagenticBuilder,
    SequentialBuilder,
)

from agent_framework_hosting import HostedRunResult, InvalidRequest
from tests.support.channels import serving
from tests.support.targets import ScriptedClient


def echo(name: str, **how: Any) -> Agent[Any]:
    """An agent that tells all that its user has said."""

    def reply(messages: Sequence[Message]) -> str:
        return f"{name}<{'|'.join(message.text for message in messages if message.role == 'user' and message.text)}>"

    return Agent(client=ScriptedClient(reply), name=name, description=f"The {name}.", **how)


def manage(messages: Sequence[Message]) -> str:
    """Plan the task, and say after each round how far it is."""
    task = next(message.text for message in messages if message.role == "user")
    if "is_request_satisfied" not in messages[-1].text:
        return f"plan for {task}"
    answers: dict[str, Any] = {
        "is_request_satisfied": any(message.text.startswith("one<") for message in messages),
        "is_in_loop": False,
        "is_progress_being_made": True,
        "next_speaker": "one",
        "instruction_or_question": f"do {task}",
    }
    return json.dumps({name: {"reason": f"because of {task}", "answer": answer} for name, answer in answers.items()})


def sequential() -> Any:
    return SequentialBuilder(name="sequential", participants=[echo("one"), echo("two")])


def concurrent() -> Any:
    return ConcurrentBuilder(name="concurrent", participants=[echo("one"), echo("two")])


def group_chat() -> Any:
    def pick(state: Any) -> str:
        return list(state.participants)[state.current_round % 2]

    return GroupChatBuilder(
        name="group_chat",
        participants=[echo("one"), echo("two")],
        selection_func=pick,
        max_rounds=2,
        output_from="all",
    )


def handoff() -> Any:
    one, two = (echo(name, require_per_service_call_history_persistence=True) for name in ("one", "two"))
    return HandoffBuilder(name="handoff", participants=[one, two]).with_start_agent(one)


def magentic() -> Any:
    manager = Agent(client=ScriptedClient(manage), name="manager")
    return MagenticBuilder(name="magentic", participants=[echo("one")], manager_agent=manager, enable_plan_review=True)


def told(value: Any) -> str:
    """All the text in an output."""
    if isinstance(value, list):
        return " ".join(map(told, value))
    return value.text if isinstance(value, (AgentResponse, Message)) else str(value)


def said(hosted: HostedRunResult[Any]) -> str:
    return told(hosted.result.get_outputs()) + json.dumps([pending.data for pending in hosted.pending])


KINDS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "builder": lambda make: make(),
    "function of a builder": lambda make: make,
    "function of a workflow": lambda make: lambda: make().build(),
    "workflow": lambda make: make().build(),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("make", [sequential, concurrent, group_chat, handoff])
async def test_conversations_do_not_meet(make: Callable[[], Any], kind: str, state_dir: Path | None) -> None:
    async with serving(KINDS[kind](make), state_dir=state_dir) as served:
        for key, other in (("alice", "bob"), ("bob", "alice")):
            told = said(await served.ask(key, f"from {key}"))
            assert f"from {key}" in told and f"from {other}" not in told


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "workflow"])
async def test_a_plan_of_one_conversation_is_not_shown_to_another(kind: str, state_dir: Path | None) -> None:
    """The orchestrator restores only what was saved: an object of its own for each turn has nothing to forget."""
    async with serving(KINDS[kind](magentic), state_dir=state_dir) as served:
        (plan,) = (await served.ask("alice", "from alice")).pending
        assert "from alice" in said(await served.answer("alice", {plan.id: {"review": []}}))
        hosted = await served.ask("bob", "from bob")
        assert "from bob" in said(hosted) and "from alice" not in said(hosted)


@pytest.mark.parametrize("answer", [["more"], [{"role": "user", "contents": [{"type": "text", "text": "more"}]}]])
async def test_messages_that_are_asked_for_are_answered_as_json(answer: Any, tmp_path: Path) -> None:
    async with serving(handoff(), state_dir=tmp_path) as served:
        (asked,) = (await served.ask("alice", "from alice")).pending
    assert asked.response_schema is not None and asked.response_schema["type"] == "array"
    async with serving(handoff(), state_dir=tmp_path) as served:
        with pytest.raises(InvalidRequest, match="does not fit"):
            await served.answer("alice", {asked.id: [7]})
        assert "one<more>" in said(await served.answer("alice", {asked.id: answer}))


async def test_a_plan_is_revised_with_a_text(state_dir: Path | None) -> None:
    async with serving(magentic(), state_dir=state_dir) as served:
        (plan,) = (await served.ask("alice", "from alice")).pending
        assert len((await served.answer("alice", {plan.id: {"review": ["better"]}})).pending) == 1
