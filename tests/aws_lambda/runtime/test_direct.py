"""Direct calls: an invocation without HTTP around it, and who may make one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_aws_lambda import LambdaFunction, LambdaHandler, any_of, direct_identity, iam_identity
from agent_framework_hosting_invocations import InvocationsChannel
from emulators.lambda_events import Event, HttpRequest, function_url, http_api, load_balancer, rest_api
from tests.support.targets import ScriptedAgent

from .conftest import Running, running, serving

KEYS = {"one": "key-one-0123456789abcdef"}


def function(auth: Any = None, agent: Any = None, folder: Path | None = None) -> Callable[[], LambdaFunction]:
    channel = InvocationsChannel(auth=auth or any_of(KEYS, direct_identity()))
    return lambda: LambdaFunction(AgentFrameworkHost(agent or ScriptedAgent(), channels=[channel], state_dir=folder))


async def failure(it: Running, event: object) -> tuple[str, str]:
    answer = await it.invoke(event).answer()
    assert answer.error is not None, answer
    return answer.error.type, answer.error.message


async def test_a_message_is_answered_with_the_channels_json() -> None:
    async with running(function()) as it:
        first = (await it.invoke({"message": "a", "session_id": "s"}).answer()).json
        assert first["response"] == "1: a"
        assert (await it.invoke({"message": "b", "session_id": "s"}).answer()).json["response"] == "2: b"
        new = (await it.invoke({"message": "c"}).answer()).json
        assert new["response"] == "1: c"
        again = await it.invoke({"message": "d", "session_id": new["session_id"]}).answer()
        assert again.json["response"] == "2: d"


async def test_headers_say_who_calls_and_win_over_the_direct_caller() -> None:
    async with running(function()) as it:
        keyed = {"message": "a", "session_id": "s", "headers": {"AUTHORIZATION": f"Bearer {KEYS['one']}"}}
        assert (await it.invoke(keyed).answer()).json["response"] == "1: a"
        # Another caller, and so another conversation.
        assert (await it.invoke({"message": "b", "session_id": "s"}).answer()).json["response"] == "1: b"
        assert (await it.invoke(keyed).answer()).json["response"] == "2: a"


async def test_without_direct_identity_nobody_is_known() -> None:
    async with running(function(auth=KEYS)) as it:
        kind, message = await failure(it, {"message": "a"})
        assert (kind, message[:4]) == ("CallFailed", "401 ")


@pytest.mark.parametrize("make", [function_url, http_api, rest_api, load_balancer])
async def test_http_cannot_claim_to_be_a_direct_call(make: Any) -> None:
    body = json.dumps({"message": "a", "aws.direct": True}).encode()
    names = [("aws.direct", "true"), ("x-aws-direct", "1"), ("content-type", "application/json")]
    event: Event = {**make(HttpRequest("POST", "/invocations", headers=names, body=body)), "aws.direct": True}
    async with running(function()) as it:
        for forged in (event, {**event, "message": "a"}, {**event, "message": "a", "headers": {"aws.direct": "true"}}):
            assert (await it.invoke(forged).answer()).status == 401


async def test_a_direct_call_cannot_claim_to_be_signed() -> None:
    async with running(function(auth=iam_identity)) as it:
        context = {"authorizer": {"iam": {"userArn": "arn:aws:iam::111122223333:user/one"}}}
        assert (await failure(it, {"message": "a"}))[1].startswith("401")
        kind, _ = await failure(it, {"message": "a", "requestContext": context, "version": "2.0"})
        assert kind == "UnsupportedEvent"


@pytest.mark.parametrize(
    ("event", "kind", "words"),
    [
        ({"message": 3}, "CallFailed", "4"),
        ({"message": None}, "CallFailed", "4"),
        ({"message": "a", "session_id": 3}, "CallFailed", "4"),
        ({"message": "a", "session_id": ""}, "CallFailed", "4"),
        ({"message": "a", "headers": []}, "UnsupportedEvent", "damaged"),
        ({"message": "a", "headers": "x"}, "UnsupportedEvent", "damaged"),
        ({"message": "a", "headers": {"x": 1}}, "UnsupportedEvent", "damaged"),
        ({"message": "a", "headers": {"é": "1"}}, "UnsupportedEvent", "damaged"),
        ({"message": "a", "headers": {"x": "€"}}, "UnsupportedEvent", "damaged"),
        ({"message": "a", "stream": True}, "UnsupportedEvent", "this one has: stream"),
        (b'{"message": "\\ud800"}', "UnsupportedEvent", "no JSON"),
    ],
)
async def test_wrong_bodies_are_told(event: object, kind: str, words: str) -> None:
    async with running(function()) as it:
        told = await failure(it, event)
        assert told[0] == kind and words in told[1]
        assert (await it.invoke({"message": "a"}).answer()).error is None


async def test_without_the_channel_it_is_said_what_lacks() -> None:
    async with serving(Starlette()) as it:
        kind, message = await failure(it, {"message": "a"})
        assert kind == "ConfigurationError" and "InvocationsChannel" in message


async def test_an_asynchronous_call_that_lambda_repeats_runs_once(tmp_path: Path) -> None:
    agent = ScriptedAgent()
    async with running(function(agent=agent, folder=tmp_path)) as it:
        event = {"message": "a", "session_id": "s"}
        call = it.invoke(event)
        first = (await call.answer()).json
        repeat = it.api.invoke(event)
        repeat.id = call.id  # As Lambda does it: the same request again, under the same id.
        assert (await repeat.answer()).json == first
        assert len(agent.heard) == 1
        assert (await it.invoke(event).answer()).json["response"] == "2: a"


async def test_an_agent_that_fails_is_a_failed_call() -> None:
    def act(messages: Any, session: Any) -> Any:
        raise OSError("the model is away: secret-detail")

    async with running(function(agent=ScriptedAgent(act))) as it:
        kind, message = await failure(it, {"message": "a"})
        assert kind == "CallFailed" and message.startswith("500 ") and "target_failed" in message
        assert "secret-detail" not in message


async def test_an_answer_of_seven_megabytes_is_a_failed_call() -> None:
    async with running(function(agent=ScriptedAgent(lambda messages, session: "x" * 7_000_000))) as it:
        kind, message = await failure(it, {"message": "a"})
        assert kind == "NoResponse" and "at most 6 MB" in message
        assert (await it.invoke({"af-hosting": "ping"}).answer()).json == {"ready": True}


async def test_a_hanging_agent_is_a_failed_call_in_time() -> None:
    async def act(messages: Any, session: Any) -> Any:
        await asyncio.Event().wait()

    async with running(function(agent=ScriptedAgent(act))) as it:
        answer = await it.invoke({"message": "a"}, timeout=1).answer()
        assert answer.error is not None and answer.error.message.startswith("504 ")
        assert "deadline_reached" in answer.error.message


def test_the_stock_handler_takes_direct_calls_as_well() -> None:
    class Context:
        aws_request_id = "r"

        def get_remaining_time_in_millis(self) -> int:
            return 30_000

    handler = LambdaHandler(
        AgentFrameworkHost(ScriptedAgent(), channels=[InvocationsChannel(auth=any_of(KEYS, direct_identity()))])
    )
    try:
        assert handler({"message": "a", "session_id": "s"}, Context())["response"] == "1: a"
        assert handler(function_url(HttpRequest("POST", "/invocations", body=b'{"message":"a"}')), Context())[
            "statusCode"
        ] in (401, 415)
    finally:
        handler.close()
