"""From a decoded body to an invocation, and from its caller to the conversation."""

from __future__ import annotations

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from hashlib import sha256

import msgspec

from agent_framework_hosting import ChannelIdentity, InvalidRequest, isolation_key
from agent_framework_hosting.body import Json

MAX_SESSION_ID = 512
MAX_IDEMPOTENCY_KEY = 256
MINTED = re.compile(r"ses_[A-Za-z0-9_-]{32}")
TRACE_CONTEXT = frozenset({b"traceparent", b"tracestate"})
FIELDS = frozenset({"message", "responses", "session_id", "stream"})


class Invocation(msgspec.Struct, frozen=True):
    """Exactly one of `message` (any JSON but null) and `responses` (answers by pending id) is not None."""

    message: Json
    responses: dict[str, Json] | None
    session_id: str | None
    stream: bool


def parse_invocation(body: Json) -> Invocation:
    """Check a body field by field.

    A `session_id` of null is none: that is how an answer says that there is nothing to continue.

    Raises:
        InvalidRequest: A field is missing, unknown, or not of its kind.
    """
    if not isinstance(body, dict):
        raise InvalidRequest("body", 'The body must be a JSON object such as {"message": "Hello"}.')
    if not body.keys() <= FIELDS:
        unknown = min(body.keys() - FIELDS)[:80]
        raise InvalidRequest(unknown, f"{unknown!r} is not a field of an invocation: use {', '.join(sorted(FIELDS))}.")
    message = body.get("message")
    if "message" in body and message is None:
        raise InvalidRequest("message", "message must not be null.")
    responses = body.get("responses")
    if "responses" in body and (not isinstance(responses, dict) or not responses):
        raise InvalidRequest("responses", "responses must be an object that maps pending ids to their answers.")
    if (message is None) is (responses is None):
        raise InvalidRequest("message", "Send exactly one of message and responses.")
    session_id = body.get("session_id")
    if session_id is not None and (not isinstance(session_id, str) or not 0 < len(session_id) <= MAX_SESSION_ID):
        raise InvalidRequest("session_id", f"session_id must be a text of 1 to {MAX_SESSION_ID} characters.")
    if responses is not None and session_id is None:
        raise InvalidRequest("session_id", "responses need the session_id that came with what is pending.")
    stream = body.get("stream", False)
    if not isinstance(stream, bool):
        raise InvalidRequest("stream", "stream must be true or false.")
    return Invocation(message, responses, session_id, stream)  # pyright: ignore[reportArgumentType]


def check_text(message: Json) -> None:
    """Refuse what only a workflow can take.

    Raises:
        InvalidRequest: The message is not a text, or empty.
    """
    if not isinstance(message, str) or not message:
        raise InvalidRequest("message", "message must be a text that is not empty: this host serves an agent.")


def parse_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Collect what the host wants to know of them, as a request's attributes: `idempotency_key` and the trace context.

    Raises:
        InvalidRequest: There are several idempotency keys, or it is empty or too long.
    """
    attributes: dict[str, str] = {}
    for name, value in headers:
        if name == b"idempotency-key":
            if "idempotency_key" in attributes or not 0 < len(value) <= MAX_IDEMPOTENCY_KEY:
                raise InvalidRequest(
                    "Idempotency-Key", f"Send one Idempotency-Key of 1 to {MAX_IDEMPOTENCY_KEY} characters."
                )
            attributes["idempotency_key"] = value.decode("latin-1")
        elif name in TRACE_CONTEXT:
            attributes[name.decode()] = value.decode("latin-1")
    return attributes


class Conversation(msgspec.Struct, frozen=True):
    """Which conversation an invocation belongs to; `chosen` is false for an id that was made here just now.

    `fresh` says that nobody else can know the id.
    """

    session_id: str
    key: str
    chosen: bool
    fresh: bool


def find_conversation(
    invocation: Invocation,
    *,
    channel: str,
    caller: ChannelIdentity | None,
    idempotency_key: str | None,
    allow_anonymous: bool,
    mint: Callable[[], str],
) -> Conversation:
    """Name the conversation: the caller's own id, or a new one.

    A new conversation with an idempotency key gets an id derived from caller and key, so that the repeat finds it.

    Raises:
        InvalidRequest: The caller is anonymous, and the id is not one that could have been minted here; or it sends
            an idempotency key, from which no id can be derived that others could not derive too.
    """
    owner = None if caller is None else caller.native_id
    session_id = invocation.session_id
    if session_id is not None:
        if caller is None and not allow_anonymous and not MINTED.fullmatch(session_id):
            raise InvalidRequest(
                "session_id",
                "Without authentication a conversation goes on only under the session_id it was given here: leave "
                "session_id out to begin one, and send the one from the answer.",
            )
        return Conversation(session_id, isolation_key(channel, owner, session_id), chosen=True, fresh=False)
    if idempotency_key is None:
        session_id = mint()
    elif owner is None:
        raise InvalidRequest(
            "session_id",
            "An Idempotency-Key without authentication needs a session_id: a repeat would begin another conversation.",
        )
    else:
        digest = sha256(isolation_key(channel, owner, idempotency_key).encode()).digest()
        session_id = "ses_" + urlsafe_b64encode(digest[:24]).decode()
    return Conversation(
        session_id, isolation_key(channel, owner, session_id), chosen=False, fresh=idempotency_key is None
    )
