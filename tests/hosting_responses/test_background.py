"""Responses in the background, by the official client over real HTTP: queued, made, polled, cancelled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import openai
import pytest
from agent_framework import Agent, AgentSession, Content, Message
from openai import OpenAI

from agent_framework_hosting import AgentFrameworkHost, ChannelIdentity, ChannelRequest, HostedRunResult, HostLimits
from agent_framework_hosting_responses import ResponsesChannel
from tests.hosting.protocol.questions import asking
from tests.support.responses_server import AUTH, OPS, WEB, ResponsesServer
from tests.support.stores import wait_for
from tests.support.targets import ScriptedAgent, ScriptedClient, count

PATIENCE = 20.0
LIMITS = HostLimits(lease=timedelta(seconds=1.5), turn_timeout=timedelta(seconds=20))
ENDED = ("completed", "failed", "incomplete", "cancelled")


class Gate:
    """An agent's `act` that waits where the text begins with `wait`, until it may go on; `fail` raises."""

    def __init__(self) -> None:
        self.reached = threading.Semaphore(0)
        self.go = threading.Event()
        self.stopped = threading.Event()
        self.begun: list[str] = []

    async def __call__(self, messages: list[Message], session: AgentSession | None) -> list[str]:
        text = messages[-1].text
        self.begun.append(text)
        if text.startswith("fail"):
            raise ValueError("the agent's own secret")
        if text.startswith("wait"):
            self.reached.release()
            try:
                await wait_for(self.go, "Nobody lets the agent go on.")
            except BaseException:
                self.stopped.set()
                raise
        return count(messages, session)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def agent(gate: Gate) -> ScriptedAgent:
    return ScriptedAgent(gate)


@contextmanager
def served(
    agent: Any, state_dir: Path | None, limits: HostLimits = LIMITS, **channel: Any
) -> Iterator[ResponsesServer]:
    responses = ResponsesChannel("/v1/responses", auth=AUTH, **channel)
    host = AgentFrameworkHost(agent, channels=[responses], state_dir=state_dir, limits=limits)
    with ResponsesServer(host.app) as server:
        yield server


@pytest.fixture
def server(agent: ScriptedAgent, state_dir: Path | None) -> Iterator[ResponsesServer]:
    with served(agent, state_dir) as server:
        yield server


@pytest.fixture
def client(server: ResponsesServer) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client


def say(client: OpenAI, said: str, **how: Any) -> Any:
    return client.responses.create(input=said, **how)


def begin(client: OpenAI, said: str, **how: Any) -> Any:
    return say(client, said, background=True, **how)


def until(read: Callable[[], Any], *statuses: str) -> Any:
    """Poll a response until it has one of these statuses."""
    deadline = time.monotonic() + PATIENCE
    while (found := read()).status not in statuses:
        assert time.monotonic() < deadline, found
        time.sleep(0.02)  # A client can only poll.
    return found


def ended(client: OpenAI, made: Any) -> Any:
    return until(lambda: client.responses.retrieve(made.id), *ENDED)


def test_a_response_is_queued_made_and_kept(client: OpenAI, gate: Gate) -> None:
    made = begin(client, "wait", metadata={"topic": "report"})
    assert made.status in ("queued", "in_progress")
    assert (made.background, made.output, made.metadata) == (True, [], {"topic": "report"})
    assert gate.reached.acquire(timeout=PATIENCE)
    working = until(lambda: client.responses.retrieve(made.id), "in_progress")
    assert (working.id, working.created_at, working.output) == (made.id, made.created_at, [])
    asked: Any = client.responses.input_items.list(made.id).data
    gate.go.set()
    whole = ended(client, made)
    assert (whole.status, whole.output_text, whole.background) == ("completed", "1: wait", True)
    assert (whole.id, whole.created_at, whole.metadata) == (made.id, made.created_at, {"topic": "report"})
    assert client.responses.input_items.list(made.id).data == asked
    assert asked[0].content[0].text == "wait"
    assert client.responses.retrieve(made.id) == whole


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_one_goes_on_from_another(client: OpenAI, first: bool, second: bool) -> None:
    one: Any = ended(client, say(client, "a", background=first))
    two = ended(client, say(client, "b", background=second, previous_response_id=one.id))
    fork = ended(client, say(client, "c", background=second, previous_response_id=one.id))
    assert [each.output_text for each in (one, two, fork)] == ["1: a", "2: b", "2: c"]


def test_in_a_conversation_they_are_made_in_order(client: OpenAI, gate: Gate) -> None:
    conversation = client.conversations.create()
    made = [begin(client, text, conversation=conversation.id) for text in ("wait", "b", "c")]
    assert gate.reached.acquire(timeout=PATIENCE)
    states = [client.responses.retrieve(each.id).status for each in made]
    assert states == ["in_progress", "queued", "queued"]
    gate.go.set()
    assert [ended(client, each).output_text for each in made] == ["1: wait", "2: b", "3: c"]
    again: Any = say(client, "d", conversation=conversation.id)
    fork = ended(client, begin(client, "e", previous_response_id=made[1].id))
    assert (again.output_text, fork.output_text) == ("4: d", "3: e")
    assert client.responses.retrieve(made[0].id).conversation.id == conversation.id  # pyright: ignore[reportOptionalMemberAccess]


def test_of_what_is_not_over_nothing_goes_on(client: OpenAI, gate: Gate) -> None:
    running, failed = begin(client, "wait"), ended(client, begin(client, "fail"))
    cancelled = client.responses.cancel(begin(client, "wait too").id)
    for made in (running, failed, cancelled):
        for background in (False, True):
            with pytest.raises(openai.BadRequestError) as error:
                say(client, "more", previous_response_id=made.id, background=background)
            assert (error.value.param, error.value.code) == (
                "previous_response_id",
                "previous_response_not_finished",
            )
    assert "more" not in gate.begun
    gate.go.set()
    ended(client, running)
    assert ended(client, begin(client, "more", previous_response_id=running.id)).output_text == "2: more"


@pytest.mark.parametrize("background", [False, True])
def test_what_there_is_not(client: OpenAI, gate: Gate, background: bool) -> None:
    gone = client.conversations.create()
    client.conversations.delete(gone.id)
    never = "resp_" + "0" * 48
    cases: list[tuple[dict[str, Any], type[openai.APIStatusError]]] = [
        ({"previous_response_id": never}, openai.BadRequestError),
        ({"conversation": gone.id}, openai.NotFoundError),
        ({"conversation": "conv_" + "0" * 48}, openai.NotFoundError),
    ]
    for how, kind in cases:
        with pytest.raises(kind):
            say(client, "hi", background=background, **how)
    assert not gate.begun


def test_a_target_that_fails_is_run_once(client: OpenAI, gate: Gate) -> None:
    failed = ended(client, begin(client, "fail"))
    assert (failed.status, failed.error.code, failed.output) == ("failed", "server_error", [])
    assert "secret" not in failed.error.message
    assert gate.begun == ["fail"]
    assert client.responses.cancel(failed.id) == failed


def test_a_failure_leaves_its_conversation_as_it_was(client: OpenAI) -> None:
    conversation = client.conversations.create()
    made = [begin(client, text, conversation=conversation.id) for text in ("a", "fail", "b")]
    whole = [ended(client, each) for each in made]
    assert [each.status for each in whole] == ["completed", "failed", "completed"]
    assert [whole[0].output_text, whole[2].output_text] == ["1: a", "2: b"]


@pytest.mark.parametrize("grows", [False, True])
def test_what_runs_is_cancelled(client: OpenAI, gate: Gate, grows: bool) -> None:
    how: dict[str, Any] = {"conversation": client.conversations.create().id} if grows else {}
    made = begin(client, "wait", **how)
    assert gate.reached.acquire(timeout=PATIENCE)
    cancelled = client.responses.cancel(made.id)
    assert (cancelled.status, cancelled.id, cancelled.output) == ("cancelled", made.id, [])
    assert gate.stopped.wait(PATIENCE)  # At its next renewal.
    gate.go.set()
    assert client.responses.cancel(made.id) == client.responses.retrieve(made.id) == cancelled
    if grows:
        assert ended(client, begin(client, "b", **how)).output_text == "1: b"
    assert gate.begun == ["wait", "b"][: 1 + grows]
    assert client.responses.retrieve(made.id) == cancelled


def test_what_waits_is_cancelled(client: OpenAI, gate: Gate) -> None:
    conversation = client.conversations.create()
    made = [begin(client, text, conversation=conversation.id) for text in ("wait", "b", "c")]
    assert gate.reached.acquire(timeout=PATIENCE)
    assert client.responses.cancel(made[1].id).status == "cancelled"
    gate.go.set()
    assert ended(client, made[2]).output_text == "2: c"
    assert gate.begun == ["wait", "c"]


def test_what_is_over_stays_as_it_is(client: OpenAI) -> None:
    whole = ended(client, begin(client, "a"))
    assert client.responses.cancel(whole.id) == client.responses.retrieve(whole.id) == whole


@pytest.mark.parametrize("grows", [False, True])
def test_what_is_deleted_is_not_made(client: OpenAI, gate: Gate, grows: bool) -> None:
    how: dict[str, Any] = {"conversation": client.conversations.create().id} if grows else {}
    made = begin(client, "wait", **how)
    assert gate.reached.acquire(timeout=PATIENCE)
    client.responses.delete(made.id)
    assert gate.stopped.wait(PATIENCE)
    for ask in (client.responses.retrieve, client.responses.cancel):
        with pytest.raises(openai.NotFoundError):
            ask(made.id)
    gate.go.set()
    if grows:
        assert ended(client, begin(client, "b", **how)).output_text == "1: b"


def test_with_its_conversation_a_response_is_lost(agent: ScriptedAgent, gate: Gate, state_dir: Path | None) -> None:
    with served(agent, state_dir) as server, server.client() as client:
        conversation = client.conversations.create()
        made = [begin(client, text, conversation=conversation.id) for text in ("wait", "b")]
        assert gate.reached.acquire(timeout=PATIENCE)
        client.conversations.delete(conversation.id)
        assert client.responses.cancel(made[1].id).status == "cancelled"
        gate.go.set()
    assert gate.begun == ["wait"]


def test_a_stream_tells_that_it_is_queued_and_all_that_follows(client: OpenAI, gate: Gate) -> None:
    events: list[Any] = []
    for event in begin(client, "wait", stream=True):
        events.append(event)
        if event.type == "response.queued":
            assert gate.reached.acquire(timeout=PATIENCE)
            gate.go.set()
    assert [event.sequence_number for event in events] == [*range(len(events))]
    assert [event.type for event in events[:3]] == ["response.created", "response.queued", "response.in_progress"]
    assert [event.response.status for event in events[:3]] == ["queued", "queued", "in_progress"]
    whole = events[-1].response
    assert (events[-1].type, whole.output_text) == ("response.completed", "1: wait")
    assert client.responses.retrieve(whole.id) == whole
    for after in (0, 1, 2, len(events) - 2):
        assert list(client.responses.retrieve(whole.id, stream=True, starting_after=after)) == events[after + 1 :]


def test_who_went_away_goes_on_from_the_last_event(client: OpenAI, gate: Gate) -> None:
    stream = begin(client, "wait", stream=True)
    first = next(iter(stream))
    assert gate.reached.acquire(timeout=PATIENCE)
    stream.close()
    assert not gate.stopped.is_set()
    events: list[Any] = []
    for event in client.responses.retrieve(first.response.id, stream=True, starting_after=0):
        events.append(event)
        gate.go.set()
    assert (events[0].type, events[0].sequence_number) == ("response.queued", 1)
    assert events[-1].response.output_text == "1: wait"


def test_the_stream_of_what_is_cancelled_ends(client: OpenAI, gate: Gate) -> None:
    types: list[str] = []
    for event in begin(client, "wait", stream=True):
        types.append(event.type)
        if event.type == "response.queued":
            assert gate.reached.acquire(timeout=PATIENCE)
            client.responses.cancel(event.response.id)
    assert types == ["response.created", "response.queued", "response.in_progress", "response.incomplete"]
    gate.go.set()


def test_the_stream_helper(client: OpenAI) -> None:
    with client.responses.stream(model="m", input="hi", background=True) as stream:
        final: Any = stream.get_final_response()
    assert (final.output_text, final.status) == ("1: hi", "completed")


def test_a_repeat_is_the_same_response(client: OpenAI, gate: Gate) -> None:
    key = {"Idempotency-Key": "report-1"}
    made = begin(client, "wait", extra_headers=key)
    assert gate.reached.acquire(timeout=PATIENCE)
    assert begin(client, "wait", extra_headers=key).id == made.id
    gate.go.set()
    whole = ended(client, made)
    assert whole.status == "completed"
    assert begin(client, "wait", extra_headers=key) == whole
    assert gate.begun == ["wait"]
    for other in ({"said": "else", "background": True}, {"said": "wait"}):
        with pytest.raises(openai.BadRequestError) as error:
            say(client, **other, extra_headers=key)
        assert error.value.param == "Idempotency-Key"
    with pytest.raises(openai.BadRequestError):
        say(client, "x", extra_headers={"Idempotency-Key": "report-2"}, background=True, store=False)


def test_a_key_that_was_used_at_once_is_not_used_later(client: OpenAI, gate: Gate) -> None:
    key = {"Idempotency-Key": "report-1"}
    say(client, "a", extra_headers=key)
    with pytest.raises(openai.BadRequestError) as error:
        begin(client, "a", extra_headers=key)
    assert error.value.param == "Idempotency-Key"
    assert gate.begun == ["a"]


def test_to_another_caller_there_is_none(server: ResponsesServer, client: OpenAI, gate: Gate) -> None:
    made = begin(client, "wait")
    assert gate.reached.acquire(timeout=PATIENCE)
    with server.client(WEB) as other:
        for ask in (other.responses.retrieve, other.responses.cancel, other.responses.delete):
            with pytest.raises(openai.NotFoundError):
                ask(made.id)
        with pytest.raises(openai.BadRequestError) as error:
            begin(other, "hi", previous_response_id=made.id)
        assert error.value.code == "previous_response_not_found"
    gate.go.set()
    assert ended(client, made).status == "completed"


def test_hooks_see_the_same_as_at_once(agent: ScriptedAgent, state_dir: Path | None) -> None:
    seen: list[Any] = []

    def run(request: ChannelRequest, **how: Any) -> ChannelRequest:
        assert request.identity is not None
        seen.append((request.identity.native_id, request.attributes.get("response_id"), how["protocol_request"]))
        return replace(request, input="asked by a hook")

    def respond(result: HostedRunResult[Any], **how: Any) -> HostedRunResult[Any]:
        result.result.messages[0].contents[0].text += "!"
        return result

    with served(agent, state_dir, run_hook=run, response_hook=respond) as server, server.client() as client:
        made = begin(client, "hi")
        whole = ended(client, made)
        assert whole.output_text == "1: asked by a hook!"
        more = ended(client, begin(client, "you", previous_response_id=whole.id))
        assert more.output_text == "2: asked by a hook!"
    assert seen[0] == ("ops", made.id, {"input": "hi", "background": True})
    assert OPS not in str(seen)


def test_a_response_hook_that_raises_fails_the_response(agent: ScriptedAgent, state_dir: Path | None) -> None:
    def respond(result: HostedRunResult[Any], **how: Any) -> HostedRunResult[Any]:
        raise ValueError("not this time")

    with served(agent, state_dir, response_hook=respond) as server, server.client() as client:
        failed = ended(client, begin(client, "hi"))
        assert (failed.status, failed.error.code) == ("failed", "server_error")


def test_another_host_on_the_same_state_works_on_it(tmp_path: Path) -> None:
    """What was accepted outlives the process that accepted it."""
    first, second = Gate(), Gate()
    with served(ScriptedAgent(first), tmp_path) as server, server.client() as client:
        made = begin(client, "wait")
        assert first.reached.acquire(timeout=PATIENCE)
    assert first.stopped.is_set()
    second.go.set()
    with served(ScriptedAgent(second), tmp_path) as server, server.client() as client:
        assert ended(client, made).output_text == "1: wait"
    assert second.begun == ["wait"]


def test_where_nothing_is_worked_on_later_it_is_refused(gate: Gate, tmp_path: Path) -> None:
    host = AgentFrameworkHost(
        ScriptedAgent(gate), channels=[ResponsesChannel("/v1/responses", auth=AUTH)], state_dir=tmp_path
    )
    host.check_platform("a platform without an inbox")
    with ResponsesServer(host.app) as server, server.client() as client:
        for stream in (False, True):
            with pytest.raises(openai.BadRequestError) as error:
                begin(client, "hi", stream=stream)
            assert (error.value.param, error.value.code) == ("background", "unsupported")
            assert "inbox" in error.value.message
        assert say(client, "hi").output_text == "1: hi"
    assert gate.begun == ["hi"]


def test_the_caller_is_known_with_what_is_known_of_it(agent: ScriptedAgent, state_dir: Path | None) -> None:
    seen: list[Any] = []
    known: dict[str, Any] = {"roles": ["buyer"], "limit": 3}

    async def authenticate(request: Any) -> ChannelIdentity:
        return ChannelIdentity("responses", "ada", known)

    def note(request: ChannelRequest, **how: Any) -> ChannelRequest:
        assert request.identity is not None
        seen.append((request.identity.channel, request.identity.native_id, request.identity.attributes))
        return request

    responses = ResponsesChannel("/v1/responses", auth=authenticate, run_hook=note)
    host = AgentFrameworkHost(agent, channels=[responses], state_dir=state_dir, limits=LIMITS)
    with ResponsesServer(host.app) as server, server.client() as client:
        assert ended(client, begin(client, "hi")).status == "completed"
        assert seen == [("responses", "ada", known)]
        known["when"] = object()
        with pytest.raises(openai.InternalServerError):
            begin(client, "hi")
        assert say(client, "hi").output_text == "1: hi"
    assert len(seen) == 2


@pytest.mark.parametrize("grows", [False, True])
def test_a_client_answers_in_the_background(state_dir: Path | None, grows: bool) -> None:
    tool: Any = {"type": "function", "name": "weather", "parameters": {"type": "object", "properties": {}}}

    def reply(messages: Sequence[Message]) -> str | list[Content]:
        results = [c.result for m in messages for c in m.contents if c.type == "function_result"]
        return f"It is {results[-1]}" if results else [Content.from_function_call("c1", "weather", arguments="{}")]

    agent: Any = Agent(client=ScriptedClient(reply), name="helper")
    with served(agent, state_dir, forward_options=("tools",)) as server, server.client() as client:
        how: dict[str, Any] = {"conversation": client.conversations.create().id} if grows else {}
        asked = ended(client, begin(client, "How is it?", tools=[tool], **how))
        assert [item.type for item in asked.output] == ["function_call"]
        how = how or {"previous_response_id": asked.id}
        output: Any = [{"type": "function_call_output", "call_id": "c1", "output": "sunny"}]
        wrong: Any = [{"type": "function_call_output", "call_id": "c2", "output": "sunny"}]
        failed = ended(client, begin(client, wrong, tools=[tool], **how))
        assert (failed.status, failed.error.code) == ("failed", "invalid_request")
        assert ended(client, begin(client, output, tools=[tool], **how)).output_text == "It is sunny"


@pytest.mark.parametrize("grows", [False, True])
def test_a_workflow_asks_and_is_answered_in_the_background(state_dir: Path | None, grows: bool) -> None:
    with served(asking(), state_dir) as server, server.client() as client:
        how: dict[str, Any] = {"conversation": client.conversations.create().id} if grows else {}
        asked = ended(client, begin(client, "ask", **how))
        [request] = [item for item in asked.output if item.type == "function_call"]
        assert request.name == "request_input"
        output: Any = [{"type": "function_call_output", "call_id": request.call_id, "output": "an answer"}]
        answered = ended(client, begin(client, output, **(how or {"previous_response_id": asked.id})))
        assert (answered.status, answered.output_text) == ("completed", "2: an answer")
