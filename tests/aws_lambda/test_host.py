"""A real host behind the handler."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from agent_framework import Agent, BaseChatClient, ChatResponse, Message

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError
from agent_framework_hosting_aws_lambda import LambdaHandler, iam_identity
from agent_framework_hosting_invocations import InvocationsChannel
from emulators.lambda_events import Event, HttpRequest, function_url, http_api, load_balancer, rest_api
from tests.support.ends import CAUSES, ENDS, SECRET, EndingAgent

ARN = "arn:aws:iam::111122223333:user/one"


class Counting(BaseChatClient):
    """Answers with the number of messages it was given."""

    def _inner_get_response(self, *, messages: Any, stream: bool, options: Any, **kwargs: Any) -> Any:
        async def answer() -> ChatResponse:
            return ChatResponse(messages=[Message("assistant", [f"{len(messages)} messages"])])

        return answer()


@pytest.fixture
def handler() -> Iterator[LambdaHandler]:
    host = AgentFrameworkHost(Agent(Counting()), channels=[InvocationsChannel(auth=iam_identity)])
    made = LambdaHandler(host)
    yield made
    made.close()


def say(handler: LambdaHandler, event: Event) -> tuple[int, Any]:
    result = handler(event, None)  # type: ignore[arg-type]
    return result["statusCode"], json.loads(result["body"])


def message(text: str, session: str, *, stream: bool = False) -> HttpRequest:
    body = json.dumps({"message": text, "session_id": session, "stream": stream}).encode()
    return HttpRequest("POST", "/invocations", headers=[("content-type", "application/json")], body=body)


def iam(arn: str) -> dict[str, Any]:
    return {"iam": {"userArn": arn, "accountId": "111122223333"}}


def test_conversation_belongs_to_its_caller(handler: LambdaHandler) -> None:
    status, first = say(handler, function_url(message("a", "s"), authorizer=iam(ARN)))
    assert (status, first["response"]) == (200, "1 messages")
    _, second = say(handler, http_api(message("b", "s"), stage="prod", authorizer=iam(ARN)))
    assert second["response"] == "3 messages"
    _, third = say(handler, rest_api(message("c", "s"), identity={"userArn": ARN, "accountId": "111122223333"}))
    assert third["response"] == "5 messages"
    _, foreign = say(handler, function_url(message("a", "s"), authorizer=iam(ARN + "two")))
    assert foreign["response"] == "1 messages"


@pytest.mark.parametrize("make", [function_url, http_api, rest_api, load_balancer])
def test_caller_that_the_platform_does_not_know(make: Any, handler: LambdaHandler) -> None:
    assert handler(make(message("a", "s")), None)["statusCode"] == 401  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [function_url, http_api, rest_api, load_balancer])
def test_readiness(make: Any, handler: LambdaHandler) -> None:
    assert handler(make(HttpRequest(path="/readiness")), None)["body"] == "ok"  # type: ignore[arg-type]


def test_open_channel_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="AWS Lambda"):
        LambdaHandler(AgentFrameworkHost(Agent(Counting()), channels=[InvocationsChannel()]))


def test_debug_is_refused() -> None:
    channel = InvocationsChannel(allow_anonymous=True)
    with pytest.raises(ConfigurationError, match="AWS Lambda"):
        LambdaHandler(AgentFrameworkHost(Agent(Counting()), channels=[channel], debug=True))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("end", ENDS)
def test_however_an_agent_ends_it_has_failed_and_the_next_invocation_is_served(
    end: str, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    handler = LambdaHandler(AgentFrameworkHost(EndingAgent(), channels=[InvocationsChannel(allow_anonymous=True)]))
    try:
        assert say(handler, function_url(message("x", "s")))[1]["response"] == "1: x"
        with caplog.at_level(logging.ERROR, "agent_framework.hosting"):
            result: Any = handler(function_url(message(end, "s", stream=stream)), None)  # type: ignore[arg-type]
        assert (result["statusCode"], result["headers"]["x-should-retry"]) == (500, "false")
        assert json.loads(result["body"])["error"]["code"] == "target_failed"
        assert SECRET not in str(result)
        assert CAUSES.get(end, end) in caplog.text
        assert say(handler, function_url(message("y", "s")))[1]["response"] == "2: y"
    finally:
        handler.close()
