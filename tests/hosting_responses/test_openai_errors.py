"""Refusals as the official client raises them, and its own retries: no turn runs twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from agent_framework import AgentSession, Message

from agent_framework_hosting import AgentFrameworkHost, HostLimits
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.settle import ATTEMPTS
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.proxy import FaultProxy, cut_after
from tests.support.responses_server import AUTH, ResponsesServer, store_app
from tests.support.stores import FaultStore, away, wait_for
from tests.support.targets import ScriptedAgent, count

BRIEF = HostLimits(lease=timedelta(seconds=1), turn_timeout=timedelta(seconds=3.1))
MANY = 3


class Slow:
    """An agent's `act` that waits where the text is `wait`, until it is told to go on; `fail` raises."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go = threading.Event()

    async def __call__(self, messages: list[Message], session: AgentSession | None) -> list[str]:
        if messages[-1].text == "fail":
            raise ValueError("the agent's own secret")
        if messages[-1].text == "wait":
            self.reached.set()
            await wait_for(self.go, "Nobody lets the agent go on.")
        return count(messages, session)


@contextmanager
def served(agent: Any, state_dir: Path | None = None, **how: Any) -> Iterator[ResponsesServer]:
    channel = ResponsesChannel("/v1/responses", auth=AUTH)
    with ResponsesServer(AgentFrameworkHost(agent, channels=[channel], state_dir=state_dir, **how).app) as server:
        yield server


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("body", "kind", "param", "code"),
    [
        ({"input": "hi", "temperature": 2}, openai.BadRequestError, "temperature", "invalid_request"),
        (
            {"input": "hi", "previous_response_id": "resp_1"},
            openai.BadRequestError,
            "previous_response_id",
            "previous_response_not_found",
        ),
        ({"input": "hi", "conversation": "conv_1"}, openai.NotFoundError, "conversation", "not_found"),
    ],
)
def test_errors_by_class(
    body: dict[str, Any], kind: type[openai.APIStatusError], param: str | None, code: str, stream: bool
) -> None:
    with served(ScriptedAgent()) as server, server.client(max_retries=MANY) as client:
        with pytest.raises(kind) as error:
            client.responses.create(**body, stream=stream)
        assert (error.value.param, error.value.code) == (param, code)
        assert len(server.statuses) == 1


def test_an_unknown_key() -> None:
    with served(ScriptedAgent()) as server, server.client("wrong-key-0123456789", max_retries=MANY) as client:
        asks = [
            lambda: client.responses.create(input="hi"),
            lambda: client.responses.retrieve("resp_1"),
            lambda: client.responses.delete("resp_1"),
            lambda: client.responses.cancel("resp_1"),
            lambda: client.responses.input_items.list("resp_1"),
            client.conversations.create,
            lambda: client.conversations.retrieve("conv_1"),
            lambda: client.conversations.delete("conv_1"),
            client.models.list,
        ]
        for ask in asks:
            with pytest.raises(openai.AuthenticationError) as error:
                ask()
            assert error.value.code == "unauthenticated"
        assert server.statuses == [401] * len(asks)


@pytest.mark.parametrize("stream", [False, True])
def test_a_target_that_fails_is_run_once(state_dir: Path | None, stream: bool) -> None:
    agent = ScriptedAgent(Slow())
    with served(agent, state_dir) as server, server.client(max_retries=MANY) as client:
        first = client.responses.create(input="hi")
        if stream:
            events = list(client.responses.create(input="fail", previous_response_id=first.id, stream=True))
            assert events[-1].type == "response.failed"
        else:
            with pytest.raises(openai.InternalServerError) as error:
                client.responses.create(input="fail", previous_response_id=first.id)
            assert error.value.code == "target_failed"
            assert "secret" not in str(error.value)
            assert error.value.response.headers["x-should-retry"] == "false"
        assert [messages[-1].text for messages in agent.heard] == ["hi", "fail"]
        assert client.responses.create(input="you", previous_response_id=first.id).output_text == "2: you"


def test_a_busy_conversation_is_a_conflict_which_the_client_sits_out(state_dir: Path | None) -> None:
    slow = Slow()
    agent = ScriptedAgent(slow)
    with (
        served(agent, state_dir, limits=BRIEF) as server,
        server.client() as client,
        server.client(max_retries=50) as patient,
        ThreadPoolExecutor() as threads,
    ):
        conversation = client.conversations.create().id

        def say(client: openai.OpenAI, text: str, stream: bool) -> str:
            if not stream:
                return client.responses.create(input=text, conversation=conversation).output_text
            events = list(client.responses.create(input=text, conversation=conversation, stream=True))
            return events[-1].response.output_text  # type: ignore[union-attr]

        first = threads.submit(say, client, "wait", False)
        assert slow.reached.wait(10)
        second, third = threads.submit(say, client, "b", False), threads.submit(say, patient, "c", True)
        with pytest.raises(openai.ConflictError) as error:
            second.result(20)
        assert error.value.code == "turn_busy"
        server.checked.until(lambda exchanges: [each.status for each in exchanges].count(409) >= 2)
        slow.go.set()
        assert (first.result(20), third.result(20)) == ("1: wait", "2: c")
        assert [messages[-1].text for messages in agent.heard] == ["wait", "c"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_store_that_is_away_before_the_run_is_waited_for(stream: bool) -> None:
    agent, store = ScriptedAgent(), FaultStore(MemoryStore())
    channel = ResponsesChannel("/v1/responses", auth=AUTH)
    with ResponsesServer(store_app(agent, store, channel)) as server, server.client(max_retries=MANY) as client:
        first = client.responses.create(input="a")
        store.plan(away, kind="get", times=2)
        made: Any = client.responses.create(input="b", previous_response_id=first.id, stream=stream)
        made = list(made)[-1].response if stream else made
        assert made.output_text == "2: b"
        assert server.statuses == [200, 503, 503, 200]
        assert len(agent.heard) == 2


def test_a_store_that_is_away_after_the_run_does_not_have_it_run_again() -> None:
    agent, store = ScriptedAgent(), FaultStore(MemoryStore())
    channel = ResponsesChannel("/v1/responses", auth=AUTH)
    with ResponsesServer(store_app(agent, store, channel)) as server, server.client(max_retries=MANY) as client:
        store.plan(away, kind="put", times=None)
        with pytest.raises(openai.InternalServerError) as error:
            client.responses.create(input="a")
        assert (error.value.status_code, error.value.code) == (503, "state_unavailable")
        assert (len(agent.heard), server.statuses) == (1, [503])


def test_a_turn_whose_response_is_not_kept_beside_it_is_not_run_again() -> None:
    """The conversation has the turn by then: a client that blindly repeated it would double it."""
    agent, store = ScriptedAgent(), FaultStore(MemoryStore())
    channel = ResponsesChannel("/v1/responses", auth=AUTH)
    with ResponsesServer(store_app(agent, store, channel)) as server, server.client(max_retries=MANY) as client:
        conversation = client.conversations.create().id
        (head,) = store.names("put")
        store.plan(away, kind="put", name=lambda name: name != head, times=ATTEMPTS)
        with pytest.raises(openai.InternalServerError) as error:
            client.responses.create(input="a", conversation=conversation)
        assert (error.value.code, server.statuses) == ("state_unavailable", [200, 503])
        assert client.responses.create(input="b", conversation=conversation).output_text == "2: b"
        assert [messages[-1].text for messages in agent.heard] == ["a", "b"]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("where", ["alone", "previous", "conversation"])
def test_an_answer_that_got_lost_is_given_again_to_whoever_sends_a_key(
    state_dir: Path | None, where: str, stream: bool
) -> None:
    agent = ScriptedAgent()
    with (
        served(agent, state_dir) as server,
        FaultProxy(server.port) as proxy,
        server.client(max_retries=MANY) as own,
        own.with_options(base_url=f"http://127.0.0.1:{proxy.port}/v1") as client,
    ):
        on: dict[str, Any] = {}
        if where == "previous":
            on["previous_response_id"] = client.responses.create(input="a").id
        if where == "conversation":
            on["conversation"] = client.conversations.create().id
        runs = len(agent.heard)
        proxy.plan(cut_after, method="POST")
        made: Any = client.responses.create(input="b", stream=stream, extra_headers={"Idempotency-Key": "k"}, **on)
        made = list(made)[-1].response if stream else made
        assert len(agent.heard) == runs + 1
        assert client.responses.retrieve(made.id) == made
