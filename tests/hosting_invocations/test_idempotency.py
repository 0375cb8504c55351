from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from starlette.types import ASGIApp

from agent_framework_hosting.errors import StateUnavailable, TurnRepeated
from agent_framework_hosting.requests import ChannelRequest, HostedRunResult
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.asgi import Reply, post_json
from tests.support.contexts import FakeContext, ScriptedStream, agent_result, app_of, tell, update
from tests.support.sse import Event, parse_events

AUTH = {"ops": "ops-key-0123456789", "web": "web-key-0123456789"}


class OnceContext(FakeContext):
    """A host that runs each idempotency key of a conversation once."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str | None, str]] = set()
        self.saved = True

    def enter(self, request: ChannelRequest) -> None:
        assert request.session is not None
        turn = (request.session.isolation_key, request.attributes.get("idempotency_key", ""))
        if turn[1] and turn in self.seen:
            raise TurnRepeated("This turn is already part of the conversation.")
        if self.saved:
            self.seen.add(turn)

    async def run(self, request: ChannelRequest, **extras: Any) -> HostedRunResult[Any]:
        self.enter(request)
        self.requests.append(request)
        hosted = agent_result(f"answer {len(self.requests)}", saved=self.saved)
        await tell(extras["on_saved"], hosted)
        return hosted

    async def run_stream(self, request: ChannelRequest, **extras: Any) -> ScriptedStream:
        self.enter(request)
        self.requests.append(request)
        text = f"answer {len(self.requests)}"
        return ScriptedStream([update(text)], agent_result(text, saved=self.saved), extras["on_saved"])


@pytest.fixture
def context() -> OnceContext:
    return OnceContext()


@pytest.fixture
def app(context: OnceContext) -> ASGIApp:
    return app_of(InvocationsChannel(auth=AUTH, allow_anonymous=True, replay_wait=0.3), context)


async def invoke(app: ASGIApp, key: str | None, caller: str | None = "ops", **body: Any) -> Reply:
    headers = {} if key is None else {"idempotency-key": key}
    if caller is not None:
        headers["authorization"] = f"Bearer {caller}-key-0123456789"
    return await post_json(app, "/invocations", {"message": "hi", **body}, headers)


async def test_a_repeat_gets_the_first_answer(app: ASGIApp, context: OnceContext) -> None:
    first = await invoke(app, "k1", session_id="s")
    again = await invoke(app, "k1", session_id="s")
    assert (again.status, again.body, len(context.requests)) == (200, first.body, 1)
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert context.requests[0].attributes == {"idempotency_key": "invocations%3Aops%3As:k1", "session_id": "s"}


async def test_a_repeat_of_the_first_message_finds_its_new_conversation(app: ASGIApp, context: OnceContext) -> None:
    first = await invoke(app, "k1")
    again = await invoke(app, "k1")
    assert again.json == first.json
    assert len(context.requests) == 1
    onward = await invoke(app, "k2", session_id=first.json["session_id"])
    assert onward.json == {"response": "answer 2", "session_id": first.json["session_id"]}


async def test_another_key_session_or_caller_is_another_turn(app: ASGIApp, context: OnceContext) -> None:
    await invoke(app, "k1", session_id="s")
    for key, caller, session in [("k2", "ops", "s"), ("k1", "web", "s"), ("k1", "ops", "t"), ("k1", None, "s")]:
        reply = await invoke(app, key, caller, session_id=session)
        assert "idempotent-replayed" not in reply.headers
    assert len(context.requests) == 5


async def test_without_a_key_nothing_is_stored(app: ASGIApp, context: OnceContext) -> None:
    await invoke(app, None, session_id="s")
    assert not context.documents.documents


async def test_what_is_stored_is_under_its_owner_and_shows_no_caller_s_text_in_names(
    app: ASGIApp, context: OnceContext
) -> None:
    await invoke(app, "../k1", session_id="../s")
    await invoke(app, "../k2", session_id="../s")
    await invoke(app, "../k1", "web", session_id="../s")
    names = [name.split("/") for name in context.documents.documents]
    assert all(len(part) == 64 and set(part) <= set("0123456789abcdef") for name in names for part in name)
    assert len({owner for owner, _ in names}) == 2
    assert len({document for _, document in names}) == 3


async def test_a_key_used_for_another_request_is_refused(app: ASGIApp) -> None:
    await invoke(app, "k1", session_id="s")
    reply = await invoke(app, "k1", session_id="s", message="something else")
    assert (reply.status, reply.json["error"]["field"]) == (422, "Idempotency-Key")


async def test_a_repeat_may_be_streamed(app: ASGIApp) -> None:
    first = await invoke(app, "k1", session_id="s")
    again = await invoke(app, "k1", session_id="s", stream=True)
    assert again.headers["idempotent-replayed"] == "true"
    assert parse_events(again.body) == [Event("answer 1"), Event(first.body.decode(), "result"), Event("[DONE]")]


async def test_a_streamed_answer_may_be_repeated_at_once(app: ASGIApp) -> None:
    first = await invoke(app, "k1", session_id="s", stream=True)
    again = await invoke(app, "k1", session_id="s")
    assert parse_events(first.body)[1].data == again.body.decode()


async def test_an_answer_that_is_still_being_stored_is_waited_for(app: ASGIApp, context: OnceContext) -> None:
    first = await invoke(app, "k1", session_id="s")
    stored = dict(context.documents.documents)
    context.documents.documents.clear()
    reads: list[str] = []

    def on_get(name: str) -> None:
        reads.append(name)
        if len(reads) == 2:
            context.documents.documents.update(stored)

    context.documents.on_get = on_get
    assert (await invoke(app, "k1", session_id="s")).body == first.body
    assert len(reads) == 2


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_never_comes_is_a_conflict_that_stops_retries(
    app: ASGIApp, context: OnceContext, stream: bool
) -> None:
    await invoke(app, "k1", session_id="s")
    context.documents.documents.clear()
    reply = await invoke(app, "k1", session_id="s", stream=stream)
    assert (reply.status, reply.headers["x-should-retry"]) == (409, "false")
    assert "already part of the conversation" in reply.json["error"]["message"]


async def test_an_answer_that_cannot_be_stored_is_given_all_the_same(
    app: ASGIApp, context: OnceContext, caplog: pytest.LogCaptureFixture
) -> None:
    context.documents.failure = StateUnavailable("away")
    assert (await invoke(app, "k1", session_id="s")).status == 200
    assert "could not be kept" in caplog.text
    assert (await invoke(app, "k1", session_id="s")).status == 503


async def test_an_answer_that_was_not_saved_is_not_kept(app: ASGIApp, context: OnceContext) -> None:
    context.saved = False
    await invoke(app, "k1", session_id="s")
    assert not context.documents.documents


@pytest.mark.parametrize("data", [b"", b"{}", b'{"format": 2}', b"\xff"])
async def test_a_damaged_answer_is_an_error_and_kept(app: ASGIApp, context: OnceContext, data: bytes) -> None:
    await invoke(app, "k1", session_id="s")
    (name,) = context.documents.documents
    context.documents.documents[name] = data
    assert (await invoke(app, "k1", session_id="s")).status == 500
    assert context.documents.documents[name] == data


async def test_an_answer_of_a_newer_format_is_an_error(app: ASGIApp, context: OnceContext) -> None:
    await invoke(app, "k1", session_id="s")
    (name,) = context.documents.documents
    document = msgspec.json.decode(context.documents.documents[name])
    context.documents.documents[name] = msgspec.json.encode({**document, "format": 2})
    assert (await invoke(app, "k1", session_id="s")).status == 500


async def test_an_anonymous_caller_needs_a_session_with_its_key(app: ASGIApp) -> None:
    reply = await invoke(app, "k1", None)
    assert (reply.status, reply.json["error"]["field"]) == (422, "session_id")
    assert (await invoke(app, "k1", None, session_id="s")).status == 200


@pytest.mark.parametrize("key", ["", "k" * 257])
async def test_a_key_that_is_empty_or_too_long_is_refused(app: ASGIApp, key: str) -> None:
    reply = await invoke(app, key, session_id="s")
    assert (reply.status, reply.json["error"]["field"]) == (422, "Idempotency-Key")


async def test_repeats_at_the_same_time_get_one_answer(app: ASGIApp, context: OnceContext) -> None:
    replies = await asyncio.gather(*[invoke(app, "k1", session_id="s") for _ in range(5)])
    assert len({reply.body for reply in replies}) == 1
    assert len(context.requests) == 1
