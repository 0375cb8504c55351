"""What a conversation needs outlives the process that held it."""

from __future__ import annotations

import pytest

from scripts.demo_deployment import Deployment

TOLD = {"session_id": "tea", "message": "My name is Ada and my order is 1002."}
ASKED = {"session_id": "tea", "message": "What is my name, and where is my parcel?"}
REMEMBERED = "Your name is Ada. The parcel of order 1002 is on its way, expected on Friday."


async def test_a_conversation_goes_on_after_its_process_is_killed(deployment: Deployment) -> None:
    assert (await deployment.call(TOLD)).status == 200
    for _ in range(2):
        await deployment.kill()
        answer = await deployment.call(ASKED)
        assert answer.cold
        assert answer.body == {"response": REMEMBERED, "session_id": "tea"}


async def test_a_reset_reaches_a_running_process_and_leaves_other_conversations_alone(deployment: Deployment) -> None:
    await deployment.call(TOLD)
    await deployment.call({**TOLD, "session_id": "coffee"})
    await deployment.reset("tea")
    forgotten = await deployment.call({"session_id": "tea", "message": "What is my name?"})
    assert not forgotten.cold
    assert forgotten.body["response"] == "You have not told me your name yet."
    assert (await deployment.call({**ASKED, "session_id": "coffee"})).body["response"] == REMEMBERED


@pytest.mark.parametrize(
    ("approved", "outcome"),
    [
        (True, "64.00 EUR are refunded for order 1002 (reason: it leaks)."),
        (False, "That was not done (Tool call invocation was rejected by user)."),
    ],
)
async def test_a_tool_approval_is_answered_in_a_new_process(
    deployment: Deployment, approved: bool, outcome: str
) -> None:
    asked = await deployment.call({"session_id": "tea", "message": "Refund order 1002 because it leaks."})
    (request,) = asked.body["pending"]
    assert request["kind"] == "tool_approval"
    assert request["data"] == {"name": "refund_order", "arguments": {"order_id": "1002", "reason": "it leaks"}}
    await deployment.kill()
    reply = {"session_id": "tea", "responses": {request["id"]: approved}}
    answer = await deployment.call(reply)
    assert answer.body == {"response": outcome, "session_id": "tea"}
    # Answered is answered: the tool does not run again.
    assert (await deployment.call(reply)).status == 422


async def test_a_workflow_waits_for_its_decision_across_processes(deployment: Deployment) -> None:
    await deployment.serve("workflow")
    asked = await deployment.call({"session_id": "cups", "message": "Refund order 1003: two cups are broken."})
    (request,) = asked.body["pending"]
    assert request["kind"] == "workflow_request"
    assert request["data"]["order_id"] == "1003"
    assert request["response_schema"] == {"type": "boolean"}
    await deployment.kill()
    other = await deployment.call({"session_id": "tins", "message": "Refund order 1001."})
    assert other.body["response"] == "18.50 EUR are refunded for order 1001: a small sum."
    reply = {"session_id": "cups", "responses": {request["id"]: True}}
    assert (await deployment.call(reply)).body == {
        "response": "112.90 EUR are refunded for order 1003: a manager agreed.",
        "session_id": "cups",
    }
    assert (await deployment.call(reply)).status == 422
    await deployment.kill()
    # The executor's own state has come along: a second request in one conversation is never a small one.
    again = await deployment.call({"session_id": "tins", "message": "Refund order 1001."})
    assert again.body["pending"][0]["data"]["risk"] == "repeated"


async def test_callers_need_a_key(deployment: Deployment) -> None:
    await deployment.call(TOLD)
    deployment.key = "another key that nobody was given"
    assert (await deployment.call(ASKED)).status == 401


async def test_nothing_is_served_where_nobody_said_who_may_call(deployment: Deployment) -> None:
    deployment.settings = {"API_KEYS": ""}
    with pytest.raises(Exception, match="Set API_KEYS"):
        await deployment.call(TOLD)
