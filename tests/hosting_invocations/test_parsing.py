from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_framework_hosting.errors import InvalidRequest
from agent_framework_hosting.requests import ChannelIdentity
from agent_framework_hosting_invocations.channel import mint_session_id
from agent_framework_hosting_invocations.parsing import (
    MINTED,
    Conversation,
    Invocation,
    check_text,
    find_conversation,
    parse_headers,
    parse_invocation,
)

ADA = ChannelIdentity("platform", "ada")
MINE = "ses_" + "m" * 32


def test_a_message_alone_is_an_invocation() -> None:
    assert parse_invocation({"message": "hi"}) == Invocation("hi", None, None, False)
    full = {"message": {"any": ["json"]}, "session_id": "s", "stream": True}
    assert parse_invocation(full) == Invocation({"any": ["json"]}, None, "s", True)


def test_responses_come_with_their_session() -> None:
    body = {"responses": {"1": True}, "session_id": "s"}
    assert parse_invocation(body) == Invocation(None, {"1": True}, "s", False)


def test_a_session_id_of_null_is_none() -> None:
    assert parse_invocation({"message": "hi", "session_id": None}).session_id is None


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (None, "body"),
        ([], "body"),
        ("hi", "body"),
        ({}, "message"),
        ({"message": None}, "message"),
        ({"message": "hi", "responses": {"1": 1}, "session_id": "s"}, "message"),
        ({"message": None, "responses": {"1": 1}, "session_id": "s"}, "message"),
        ({"responses": None}, "responses"),
        ({"responses": {}, "session_id": "s"}, "responses"),
        ({"responses": [1], "session_id": "s"}, "responses"),
        ({"responses": {"1": 1}}, "session_id"),
        ({"message": "hi", "session_id": ""}, "session_id"),
        ({"message": "hi", "session_id": 7}, "session_id"),
        ({"message": "hi", "session_id": "x" * 513}, "session_id"),
        ({"message": "hi", "stream": "true"}, "stream"),
        ({"message": "hi", "stream": None}, "stream"),
        ({"message": "hi", "stream": 1}, "stream"),
        ({"message": "hi", "sessionId": "s"}, "sessionId"),
        ({"message": "hi", "": 1}, ""),
    ],
)
def test_a_wrong_field_is_named(body: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_invocation(body)
    assert caught.value.field == field


def test_the_name_of_an_unknown_field_is_not_repeated_in_full() -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_invocation({"message": "hi", "x" * 10_000: 1})
    assert len(str(caught.value)) + len(caught.value.field) < 400


@given(
    st.recursive(
        st.none() | st.booleans() | st.text(max_size=3) | st.integers(),
        lambda inner: (
            st.lists(inner, max_size=2)
            | st.dictionaries(st.sampled_from(["message", "responses", "session_id", "stream", "x"]), inner)
        ),
    )
)
def test_any_body_is_an_invocation_or_refused(body: Any) -> None:
    try:
        invocation = parse_invocation(body)
    except InvalidRequest:
        return
    assert (invocation.message is None) is not (invocation.responses is None)


@pytest.mark.parametrize("message", ["", 1, True, ["hi"], {"text": "hi"}])
def test_an_agent_takes_only_text(message: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_text(message)
    assert caught.value.field == "message"


def test_an_idempotency_key_is_one_short_text() -> None:
    assert parse_headers([(b"host", b"x")]) == {}
    assert parse_headers([(b"idempotency-key", b"k" * 256)]) == {"idempotency_key": "k" * 256}
    for values in ([b""], [b"k" * 257], [b"a", b"a"]):
        with pytest.raises(InvalidRequest) as caught:
            parse_headers([(b"idempotency-key", value) for value in values])
        assert caught.value.field == "Idempotency-Key"


def test_the_caller_s_trace_is_continued() -> None:
    headers = [(b"traceparent", b"00-1-2-01"), (b"tracestate", b"a=b"), (b"x-other", b"no")]
    assert parse_headers(headers) == {"traceparent": "00-1-2-01", "tracestate": "a=b"}


def find(session_id: str | None = None, **how: Any) -> Conversation:
    given: dict[str, Any] = {
        "channel": "invocations",
        "caller": None,
        "idempotency_key": None,
        "allow_anonymous": False,
        "mint": lambda: MINE,
    }
    return find_conversation(Invocation("hi", None, session_id, False), **{**given, **how})


def test_minted_ids_are_random_and_of_the_minted_form() -> None:
    ids = {mint_session_id() for _ in range(100)}
    assert len(ids) == 100
    assert all(MINTED.fullmatch(found) for found in ids)


def test_without_an_id_one_is_minted_that_nobody_else_knows() -> None:
    assert find() == Conversation(MINE, f"invocations::{MINE}", chosen=False, fresh=True)
    assert find(caller=ADA) == Conversation(MINE, f"invocations:ada:{MINE}", chosen=False, fresh=True)


def test_an_anonymous_caller_goes_on_only_under_a_minted_id() -> None:
    assert find(MINE) == Conversation(MINE, f"invocations::{MINE}", chosen=True, fresh=False)
    for own in ("mine", "ses_short", MINE + "x", MINE + "\n", "ses_" + "é" * 32):
        with pytest.raises(InvalidRequest) as caught:
            find(own)
        assert caught.value.field == "session_id"
        assert find(own, allow_anonymous=True).session_id == own
        assert find(own, caller=ADA).session_id == own


names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(names, names, names, names)
def test_callers_never_share_a_conversation(one: str, other: str, session: str, another: str) -> None:
    def key(native_id: str | None, session_id: str, channel: str = "invocations") -> str:
        caller = None if native_id is None else ChannelIdentity("platform", native_id)
        return find(session_id, caller=caller, allow_anonymous=True, channel=channel).key

    assert (key(one, session) == key(other, another)) == ((one, session) == (other, another))
    assert key(None, session) != key(one, another)
    assert key(one, session, "second") != key(one, session)


def test_with_an_idempotency_key_a_caller_s_new_conversation_is_found_again() -> None:
    found = find(caller=ADA, idempotency_key="k1")
    assert found == find(caller=ADA, idempotency_key="k1")
    assert MINTED.fullmatch(found.session_id)
    assert not found.fresh
    assert not found.chosen
    assert found.session_id != find(caller=ADA, idempotency_key="k2").session_id
    assert found.session_id != find(caller=ChannelIdentity("platform", "eve"), idempotency_key="k1").session_id


def test_with_an_idempotency_key_an_anonymous_caller_needs_a_session() -> None:
    with pytest.raises(InvalidRequest) as caught:
        find(idempotency_key="k1", allow_anonymous=True)
    assert caught.value.field == "session_id"
    assert find(MINE, idempotency_key="k1") == find(MINE)
