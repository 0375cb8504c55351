"""One state directory under several platforms: the conversation does not know which one it runs on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from scripts.demo_deployment import Deployment
from scripts.demo_platforms import AwsLambda, AzureFunctions, Server

pytestmark = pytest.mark.needs("lambda-emulator", "functions-worker")
FACTS = dict(zip(("tea", "pot", "cup", "tin", "lid", "jar", "tray", "spoon"), range(8), strict=True))


@pytest.fixture
async def deployments(tmp_path: Path) -> AsyncGenerator[list[Deployment]]:
    """The sample on Lambda, on Functions and on a server."""
    key = secrets.token_urlsafe()
    async with AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                Deployment(platform, tmp_path / "state", key=key, settings={"OFFLINE_PACE": "0"})
            )
            for platform in (AwsLambda(), AzureFunctions(), Server())
        ]


async def test_a_conversation_moves_from_lambda_to_functions_to_a_server(deployments: list[Deployment]) -> None:
    on_lambda, on_functions, on_server = deployments
    await on_lambda.call({"session_id": "tea", "message": "My name is Ada and my order is 1002."})
    asked = await on_functions.call({"session_id": "tea", "message": "What is my name? Refund my order please."})
    (request,) = asked.body["pending"]
    assert request["data"]["arguments"]["order_id"] == "1002"
    approved = await on_server.call({"session_id": "tea", "responses": {request["id"]: True}})
    assert approved.body["response"].startswith("Your name is Ada. 64.00 EUR are refunded")
    # The Lambda process is the same all along: what it has in memory is not what counts.
    again = await on_lambda.call({"session_id": "tea", "responses": {request["id"]: True}})
    assert not again.cold
    assert again.status == 422


async def test_a_workflow_asks_on_one_platform_and_is_answered_on_another(deployments: list[Deployment]) -> None:
    for deployment in deployments:
        await deployment.serve("workflow")
    for asking, answering in zip(deployments, [*deployments[1:], deployments[0]], strict=True):
        session = f"cups-{id(asking)}"
        asked = await asking.call({"session_id": session, "message": "Refund order 1003."})
        (request,) = asked.body["pending"]
        answer = await answering.call({"session_id": session, "responses": {request["id"]: False}})
        assert answer.body["response"] == "Order 1003 is not refunded: a manager declined."


async def test_turns_of_one_conversation_take_turns_on_all_platforms(deployments: list[Deployment]) -> None:
    for deployment in deployments:
        await deployment.call({"session_id": "warm", "message": "Hello"})
    told = [
        deployments[number % 3].call({"session_id": "tea", "message": f"My {thing} is {number}."})
        for thing, number in FACTS.items()
    ]
    assert [answer.status for answer in await asyncio.gather(*told)] == [200] * len(FACTS)
    question = " ".join(f"What is my {thing}?" for thing in FACTS)
    answer = await deployments[0].call({"session_id": "tea", "message": question})
    assert answer.body["response"] == " ".join(f"Your {thing} is {number}." for thing, number in FACTS.items())
