"""The official client over real HTTP: what it makes, reads, lists and deletes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import BadRequestError, NotFoundError, OpenAI

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_responses import ResponsesChannel
from tests.support.responses_server import AUTH, WEB, ResponsesServer
from tests.support.targets import ScriptedAgent

NEVER = "resp_" + "0" * 48
NO_CONVERSATION = "conv_" + "0" * 48


@pytest.fixture
def agent() -> ScriptedAgent:
    return ScriptedAgent()


@pytest.fixture
def server(agent: ScriptedAgent, state_dir: Path | None) -> Iterator[ResponsesServer]:
    channel = ResponsesChannel("/v1/responses", auth=AUTH)
    with ResponsesServer(AgentFrameworkHost(agent, channels=[channel], state_dir=state_dir).app) as server:
        yield server


@pytest.fixture
def client(server: ResponsesServer) -> Iterator[OpenAI]:
    with server.client() as client:
        yield client


def say(client: OpenAI, said: Any, **how: Any) -> Any:
    return client.responses.create(input=said, **how)


def refused(error: pytest.ExceptionInfo[BadRequestError]) -> tuple[str | None, str | None]:
    return error.value.param, error.value.code


def test_a_response_is_made_kept_and_shown(client: OpenAI) -> None:
    made = say(client, "hi", metadata={"topic": "greeting"}, model="mine")
    assert (made.output_text, made.status, made.model) == ("1: hi", "completed", "scripted")
    assert made.metadata == {"topic": "greeting"}
    assert client.responses.retrieve(made.id) == made


async def test_with_the_asynchronous_client(server: ResponsesServer) -> None:
    async with server.async_client() as client:
        made = await client.responses.create(input="hi")
        events = [event async for event in await client.responses.create(input="you", stream=True)]
        async with client.responses.stream(model="m", input="again", previous_response_id=made.id) as stream:
            last = await stream.get_final_response()
        assert (made.output_text, last.output_text) == ("1: hi", "2: again")
        assert events[-1].type == "response.completed"
        assert await client.responses.retrieve(made.id) == made
        await client.responses.delete(made.id)
        with pytest.raises(NotFoundError):
            await client.responses.retrieve(made.id)


def test_a_streamed_response_is_the_one_that_is_kept(client: OpenAI) -> None:
    events = list(say(client, "hi", stream=True))
    assert [event.sequence_number for event in events] == [*range(len(events))]
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    whole = events[-1].response
    assert (text, whole.output_text) == ("1: hi", "1: hi")
    assert client.responses.retrieve(whole.id) == whole


def test_the_stream_helper(client: OpenAI) -> None:
    with client.responses.stream(model="scripted", input="hi") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        final: Any = stream.get_final_response()
    assert ("".join(deltas), final.output_text, final.status) == ("1: hi", "1: hi", "completed")
    kept: Any = client.responses.retrieve(final.id)
    assert (kept.output_text, kept.output[0].id) == (final.output_text, final.output[0].id)
    with client.responses.stream(response_id=final.id) as again:
        assert again.get_final_response().output_text == "1: hi"


def test_a_kept_response_is_streamed_again(client: OpenAI) -> None:
    made = say(client, "hi")
    events: list[Any] = [*client.responses.retrieve(made.id, stream=True)]
    assert events[-1].response == made
    for after in (0, 3, len(events) - 2):
        assert list(client.responses.retrieve(made.id, stream=True, starting_after=after)) == events[after + 1 :]
    assert list(client.responses.retrieve(made.id, stream=True, starting_after=len(events) - 1)) == []
    with pytest.raises(BadRequestError) as error:
        client.responses.retrieve(made.id, starting_after=1)
    assert refused(error) == ("starting_after", "invalid_request")


def test_a_deleted_response_is_gone(client: OpenAI, agent: ScriptedAgent) -> None:
    made = say(client, "hi")
    later = say(client, "you", previous_response_id=made.id)
    client.responses.delete(made.id)
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(NotFoundError) as error:
            ask(made.id)
        assert error.value.code == "not_found"
    with pytest.raises(BadRequestError) as refusal:
        say(client, "more", previous_response_id=made.id)
    assert refused(refusal) == ("previous_response_id", "previous_response_not_found")
    assert say(client, "more", previous_response_id=later.id).output_text == "3: more"
    assert len(agent.heard) == 3


def test_input_items_are_paged(client: OpenAI) -> None:
    texts = [str(number) for number in range(7)]
    made = say(client, [{"role": "user", "content": text} for text in texts])
    items: Any = client.responses.input_items

    def told(**how: Any) -> list[str]:
        return [item.content[0].text for item in items.list(made.id, **how)]

    assert told() == told(limit=3) == told(order="desc", limit=1) == texts[::-1]
    assert told(order="asc", limit=2) == texts
    page = items.list(made.id, order="asc", limit=3)
    assert [item.content[0].text for item in page.data] == texts[:3]
    assert page.has_more
    assert told(order="asc", after=page.last_id) == texts[3:]
    assert told(after=page.last_id) == texts[1::-1]
    for wrong in ({"after": "msg_1"}, {"limit": 0}, {"limit": 101}, {"order": "up"}):
        with pytest.raises(BadRequestError) as error:
            items.list(made.id, **wrong)
        assert error.value.param in wrong


def test_any_earlier_response_can_be_continued_and_forked(client: OpenAI) -> None:
    first = say(client, "a")
    second = say(client, "b", previous_response_id=first.id)
    third = say(client, "c", previous_response_id=second.id)
    forks = [say(client, text, previous_response_id=first.id, stream=False) for text in "de"]
    assert [made.output_text for made in (second, third, *forks)] == ["2: b", "3: c", "2: d", "2: e"]
    assert say(client, "f", previous_response_id=forks[0].id).output_text == "3: f"
    assert say(client, "g", previous_response_id=third.id).output_text == "4: g"
    assert third.previous_response_id == second.id
    assert client.responses.retrieve(first.id) == first


def test_conversations_grow(client: OpenAI) -> None:
    conversation = client.conversations.create(metadata={"topic": "x"})
    assert client.conversations.retrieve(conversation.id) == conversation
    made = [say(client, text, conversation=conversation.id) for text in "ab"]
    made.append(say(client, "c", conversation={"id": conversation.id}))
    assert [response.output_text for response in made] == ["1: a", "2: b", "3: c"]
    assert made[0].conversation.id == conversation.id
    assert [client.responses.retrieve(response.id) for response in made] == made
    assert client.conversations.retrieve(conversation.id) == conversation
    # A fork from within leaves the conversation alone.
    fork = say(client, "d", previous_response_id=made[0].id)
    assert (fork.output_text, fork.conversation) == ("2: d", None)
    assert say(client, "e", conversation=conversation.id).output_text == "4: e"


def test_a_deleted_conversation_is_gone_and_its_responses_are_not(client: OpenAI) -> None:
    conversation = client.conversations.create()
    made = say(client, "a", conversation=conversation.id)
    assert client.conversations.delete(conversation.id).deleted
    for ask in (client.conversations.retrieve, client.conversations.delete):
        with pytest.raises(NotFoundError):
            ask(conversation.id)
    with pytest.raises(NotFoundError) as error:
        say(client, "b", conversation=conversation.id)
    assert error.value.param == "conversation"
    assert client.responses.retrieve(made.id) == made
    assert say(client, "b", previous_response_id=made.id).output_text == "2: b"


@pytest.mark.parametrize("stream", [False, True])
def test_what_is_not_stored_is_not_there(client: OpenAI, server: ResponsesServer, stream: bool) -> None:
    first = say(client, "a")
    made = say(client, "b", store=False, previous_response_id=first.id, stream=stream)
    if stream:
        made = list(made)[-1].response
    assert (made.output_text, made.store) == ("2: b", False)
    with pytest.raises(NotFoundError):
        client.responses.retrieve(made.id)
    with pytest.raises(BadRequestError):
        say(client, "c", previous_response_id=made.id)
    assert say(client, "c", previous_response_id=first.id).output_text == "2: c"


@pytest.mark.parametrize("stream", [False, True])
def test_a_conversation_keeps_what_is_said_in_it(client: OpenAI, agent: ScriptedAgent, stream: bool) -> None:
    conversation = client.conversations.create()
    with pytest.raises(BadRequestError) as error:
        say(client, "a", conversation=conversation.id, store=False, stream=stream)
    assert error.value.param == "store"
    assert not agent.heard


def test_only_what_runs_in_the_background_is_cancelled(client: OpenAI) -> None:
    made = say(client, "hi")
    with pytest.raises(BadRequestError) as error:
        client.responses.cancel(made.id)
    assert refused(error) == ("response_id", "not_background")
    with pytest.raises(NotFoundError):
        client.responses.cancel(NEVER)


def test_the_target_is_listed_as_a_model(client: OpenAI) -> None:
    [listed] = client.models.list()
    assert listed.id == "scripted"
    assert client.models.retrieve("scripted") == listed
    with pytest.raises(NotFoundError) as error:
        client.models.retrieve("gpt-5")
    assert error.value.code == "not_found"


@pytest.mark.parametrize("id", [NEVER, "resp_1", "x" * 256, "x" * 257, NO_CONVERSATION, "ä"])
def test_ids_that_never_were(client: OpenAI, agent: ScriptedAgent, id: str) -> None:
    for ask in (client.responses.retrieve, client.responses.delete, client.responses.cancel):
        with pytest.raises(NotFoundError) as error:
            ask(id)
        assert (error.value.message, error.value.code) == ("Error code: 404 - There is no such response.", "not_found")
    with pytest.raises(BadRequestError) as refusal:
        say(client, "hi", previous_response_id=id)
    assert refusal.value.param == "previous_response_id"
    with pytest.raises((NotFoundError, BadRequestError)) as unknown:
        say(client, "hi", conversation=id)
    assert unknown.value.param == "conversation"
    assert not agent.heard


def test_another_caller_s_client_sees_nothing(server: ResponsesServer, client: OpenAI) -> None:
    made = say(client, "hi")
    with server.client(WEB) as other, pytest.raises(NotFoundError):
        other.responses.retrieve(made.id)
