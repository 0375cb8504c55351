"""Work after the answer on our runtime: in the same invocation, in order, and before the next one is asked for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
import pytest_asyncio

from tests.aws_lambda.updates.clients import PING, responses
from tests.aws_lambda.updates.deployed import Deployed, deployed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def function(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Deployed]:
    """Two environments, of which the second one is asked where the first is busy."""
    async with (
        deployed(tmp_path_factory.mktemp("function")) as function,
        function.process(),
        function.process(),
    ):
        yield function


async def test_the_answer_leaves_before_the_agent_begins_and_the_reply_before_the_next_invocation(
    function: Deployed,
) -> None:
    hold = function.hold()
    call = function.send("m-1", "first", text="hello first")
    assert (await call.answer()).status == 202
    await hold.wait()
    assert call.finished is not None and call.finished < hold.at
    assert (call.returned, function.api.polls, function.replies("first")) == (None, 1, [])
    hold.go()
    await call.over()
    assert function.replies("first") == ["1: hello first"]
    await function.mailroom.check_at_rest("first", turns=1)


async def test_an_update_does_not_wait_for_what_else_the_request_left_to_do(function: Deployed) -> None:
    background, agent = function.hold(), function.hold()
    call = function.send("b-1", "beside", text="beside", hold="after")
    assert (await call.answer()).status == 202
    await background.wait()
    agent.go()
    await function.receiver.until(len(function.receiver.received) + 1)
    assert (function.replies("beside"), call.returned) == (["1: beside"], None)
    background.go()
    await call.over()
    await function.mailroom.check_at_rest("beside", turns=1)


async def test_updates_of_one_conversation_are_worked_on_in_their_order_by_who_has_it(function: Deployed) -> None:
    hold = function.hold()
    first = function.send("o-1", "order", sequence=1, text="a")
    await hold.wait()
    # The other process accepts them, and leaves the conversation to the one that has it.
    for sequence, text in ((4, "d"), (3, "c"), (2, "b")):
        call = function.send(f"o-{sequence}", "order", sequence=sequence, text=text)
        await call.over()
    assert (first.returned, function.replies("order")) == (None, [])
    hold.go()
    await first.over()
    assert function.replies("order") == ["1: a", "2: b", "3: c", "4: d"]
    await function.mailroom.check_at_rest("order", turns=4)


async def test_a_repeat_is_accepted_and_not_worked_on_again(function: Deployed) -> None:
    hold = function.hold()
    calls = [function.send("r-1", "repeat", text="once")]
    await hold.wait()
    calls.append(function.send("r-1", "repeat", text="once"))
    await calls[1].over()
    hold.go()
    await calls[0].over()
    calls.append(function.send("r-1", "repeat", text="once"))
    await calls[2].over()
    assert [(await call.answer()).status for call in calls] == [202] * 3
    assert (function.asked("once"), function.replies("repeat")) == (1, ["1: once"])


async def test_a_sweep_finds_what_nobody_was_told_of_and_works_on_conversations_side_by_side(
    function: Deployed,
) -> None:
    conversations = [f"sweep-{number}" for number in range(4)]
    for conversation in conversations:
        await function.accept("s-1", conversation, text=conversation)
    holds = [function.hold() for _ in conversations]
    swept = asyncio.create_task(function.sweep())
    for hold in holds:
        await hold.wait()
    for hold in holds:
        hold.go()
    call = await swept
    assert (await call.answer()).json == {"swept": True}
    assert [function.replies(conversation) for conversation in conversations] == [
        [f"1: {conversation}"] for conversation in conversations
    ]


async def test_a_sweep_writes_how_long_updates_wait_and_how_many_were_set_aside(function: Deployed) -> None:
    await function.accept("f-1", "figures")
    await function.sweep()
    lines = [json.loads(line) for line in function.api.logs().splitlines() if line.startswith('{"_aws"')]
    line = lines[-1]
    [metrics] = line["_aws"]["CloudWatchMetrics"]
    assert (metrics["Namespace"], metrics["Dimensions"]) == ("AgentFrameworkHosting", [["FunctionName"]])
    assert [metric["Name"] for metric in metrics["Metrics"]] == ["OldestUpdateAge", "SetAsideUpdates"]
    assert line["FunctionName"] == "function"
    assert 0 <= line["OldestUpdateAge"] < 60
    assert line["SetAsideUpdates"] == 0


async def test_a_failed_update_is_put_on_hold_and_worked_on_by_a_later_invocation(function: Deployed) -> None:
    hold = function.hold(status=500)
    hold.go()
    await function.send("e-1", "failing", text="try again").over()
    head = await function.mailroom.head("failing")
    assert (head.lease, [each.attempts for each in head.hold.values()]) == (None, [1])
    assert function.replies("failing") == []
    # Either environment may be asked, and only the one that had it knows of it.
    await function.hold_over("failing")
    await function.settle("failing", 1)
    assert (function.asked("try again"), function.replies("failing")) == (2, ["1: try again"])
    await function.mailroom.check_at_rest("failing", turns=1)


async def test_at_the_deadline_an_update_is_left_and_its_conversation_given_back(function: Deployed) -> None:
    hold = function.hold()
    call = function.send("d-1", "deadline", timeout=1.5, text="slow")
    assert (await call.answer()).status == 202
    over = await call.over()
    assert call.started is not None and over < call.started + 1.5
    head = await function.mailroom.head("deadline")
    assert (head.lease, head.log, await function.mailroom.waiting("deadline")) == (None, (), 1)
    # It had what an invocation has.
    assert [(each.attempts, "platform gives no more" in (each.error or "")) for each in head.hold.values()] == [
        (1, True)
    ]
    hold.go()
    await function.hold_over("deadline")
    await function.settle("deadline", 1)
    assert function.replies("deadline") == ["1: slow"]


async def test_nothing_is_left_to_do_between_invocations(function: Deployed) -> None:
    await function.api.idle()
    call = function.api.invoke(PING)
    assert (await call.answer()).json == {"ready": True}
    await call.over()


# Responses in the background


async def response(function: Deployed, method: str, path: str = "", body: Any = None) -> dict[str, Any]:
    call = function.api.invoke(responses(method, path, body))
    answer = await call.answer()
    assert answer.status == 200, answer
    return json.loads(answer.payload)


async def test_a_response_in_the_background_is_made_after_the_answer(function: Deployed) -> None:
    hold = function.hold()
    made = await response(function, "POST", body={"input": "in the background", "background": True})
    assert made["status"] == "queued"
    await hold.wait()
    assert (await response(function, "GET", f"/{made['id']}"))["status"] == "in_progress"
    hold.go()
    await function.api.idle()
    whole = await response(function, "GET", f"/{made['id']}")
    assert (whole["status"], whole["output"][0]["content"][0]["text"]) == ("completed", "1: in the background")


async def test_a_response_in_the_background_is_cancelled_from_another_environment(function: Deployed) -> None:
    hold = function.hold()
    made = await response(function, "POST", body={"input": "cancel me", "background": True})
    await hold.wait()
    assert (await response(function, "POST", f"/{made['id']}/cancel"))["status"] == "cancelled"
    await function.api.idle()  # The attempt has ended, although its agent was never answered.
    hold.go()
    assert (await response(function, "GET", f"/{made['id']}"))["status"] == "cancelled"
    assert function.asked("cancel me") == 1
