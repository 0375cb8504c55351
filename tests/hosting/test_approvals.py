"""Tool approvals of an agent: pending in one host, answered in another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Agent, Content, Message, tool

from agent_framework_hosting import HostedRunResult, InvalidRequest
from tests.support.channels import Served, serving
from tests.support.targets import ScriptedClient, recall

done: list[str] = []


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    done.clear()


@tool(approval_mode="always_require")
def delete(name: str) -> str:
    """Delete a thing."""
    done.append(name)
    return f"deleted {name}"


def reply(messages: Sequence[Message]) -> str | list[Content]:
    """Call `delete` for every word after "delete", then tell what became of it."""
    results = [content for message in messages for content in message.contents if content.type == "function_result"]
    last = next(message for message in reversed(messages) if message.role == "user" and message.text)
    names = last.text.split()[1:] if last.text.startswith("delete") else []
    made = {content.call_id for message in messages for content in message.contents if content.type == "function_call"}
    calls = [f"call-{name}" for name in names]
    if names and not made.intersection(calls):
        return [
            Content.from_function_call(call, "delete", arguments=json.dumps({"name": name}))
            for call, name in zip(calls, names, strict=True)
        ]
    told = [str(result.result) for result in results if result.call_id in calls]
    return ", ".join(told) if told else f"heard: {recall(messages)}"


def agent() -> Agent[Any]:
    return Agent(client=ScriptedClient(reply), name="deleter", tools=[delete])


def ids(hosted: HostedRunResult[Any]) -> list[str]:
    return [request.id for request in hosted.pending]


async def answer(served: Served, responses: Mapping[str, Any], stream: bool) -> HostedRunResult[Any]:
    if not stream:
        return await served.answer("a", responses)
    turn = await served.stream("a", responses=responses)
    await turn
    assert turn.hosted is not None
    return turn.hosted


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("given", "approved"),
    [(True, True), ({"approved": True}, True), (False, False), ({"approved": False, "reason": "no"}, False)],
)
async def test_an_approval_is_answered_in_another_host(
    tmp_path: Path, given: Any, approved: bool, stream: bool
) -> None:
    async with serving(agent(), state_dir=tmp_path) as served:
        hosted = await served.ask("a", "delete x")
        (pending,) = hosted.pending
        assert hosted.saved and done == []
        assert (pending.kind, pending.data) == ("tool_approval", {"name": "delete", "arguments": {"name": "x"}})
        json.dumps(pending.response_schema)
    async with serving(agent(), state_dir=tmp_path) as served:
        hosted = await answer(served, {pending.id: given}, stream)
        assert (done, list(hosted.pending)) == (["x"] if approved else [], [])
        assert ("deleted x" in hosted.result.text) is approved
        with pytest.raises(InvalidRequest):
            await served.answer("a", {pending.id: True})
        assert (await served.ask("a", "and now")).result.text.startswith("heard:")
        assert done == (["x"] if approved else [])


async def test_approvals_may_be_answered_one_by_one(state_dir: Path | None) -> None:
    async with serving(agent(), state_dir=state_dir) as served:
        hosted = await served.ask("a", "delete x y")
        of_x, of_y = ids(hosted)
        hosted = await served.answer("a", {of_x: True})
        assert ids(hosted) == [of_y] and "y" not in done
        hosted = await served.answer("a", {of_y: True})
        assert list(hosted.pending) == []
        assert sorted(done) == ["x", "y"]


@pytest.mark.parametrize(
    ("responses", "field"),
    [
        ({}, "responses"),
        ({"nonsense": True}, "responses.nonsense"),
        ({"ID": "yes"}, "responses.ID"),
        ({"ID": None}, "responses.ID"),
        ({"ID": 1}, "responses.ID"),
        ({"ID": {"approved": "true"}}, "responses.ID"),
        ({"ID": {}}, "responses.ID"),
        ({"ID": True, "nonsense": True}, "responses.nonsense"),
    ],
)
async def test_answers_that_do_not_fit_are_refused_and_run_nothing(
    responses: dict[str, Any], field: str, state_dir: Path | None
) -> None:
    async with serving(agent(), state_dir=state_dir) as served:
        (pending,) = ids(await served.ask("a", "delete x"))
        given = {key.replace("ID", pending): value for key, value in responses.items()}
        with pytest.raises(InvalidRequest) as raised:
            await served.answer("a", given)
        assert raised.value.field == field.replace("ID", pending) and not raised.value.started
        assert done == []
        await served.answer("a", {pending: True})
        assert done == ["x"]


async def test_an_approval_belongs_to_its_conversation(state_dir: Path | None) -> None:
    async with serving(agent(), state_dir=state_dir) as served:
        (pending,) = ids(await served.ask("a", "delete x"))
        for key in ("b", None):
            with pytest.raises(InvalidRequest):
                await served.ask(key, responses={pending: True})
        await served.context.reset_session("a")
        with pytest.raises(InvalidRequest):
            await served.answer("a", {pending: True})
        assert done == []


async def test_a_message_may_come_while_an_approval_is_pending(state_dir: Path | None) -> None:
    async with serving(agent(), state_dir=state_dir) as served:
        (pending,) = ids(await served.ask("a", "delete x"))
        hosted = await served.ask("a", "wait a moment")
        assert ids(hosted) == [pending] and done == []
        hosted = await served.answer("a", {pending: True})
        assert (done, list(hosted.pending)) == (["x"], [])


async def test_a_failing_answer_leaves_the_approval_pending(state_dir: Path | None) -> None:
    broken = agent()
    async with serving(broken, state_dir=state_dir) as served:
        (pending,) = ids(await served.ask("a", "delete x"))
        turn = await served.stream("a", responses={pending: False})
        await turn.aclose()
        assert ids(await served.ask("a", "still there?")) == [pending]


async def test_without_a_conversation_approvals_are_told_and_forgotten() -> None:
    async with serving(agent()) as served:
        hosted = await served.ask(None, "delete x")
        assert len(hosted.pending) == 1 and not hosted.saved
