"""From a body, and who sent it, to the turn that it asks for."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from agent_framework_hosting import (
    ChannelIdentity,
    ChannelRequest,
    ChannelSession,
    InvalidRequest,
    get_current_isolation_keys,
    isolation_key,
)
from agent_framework_hosting.body import Json
from agent_framework_hosting.outputs import own_tools

from .callers import Owner, owner_of
from .making import Making, seed_of
from .parsing import Create, parse_create
from .problems import unknown_conversation, unknown_previous
from .records import check_continuable
from .targets import check_tools, input_for, model_name

if TYPE_CHECKING:
    from .service import Service

MAX_IDEMPOTENCY_KEY = 256
KEPT = frozenset({b"traceparent", b"tracestate"})
Began = Literal["previous", "conversation"] | None


class Headers(NamedTuple):
    """What counts of a request's headers: its trace context, and its idempotency key."""

    trace: dict[str, str]
    idempotency_key: str | None


class Call(msgspec.Struct, frozen=True):
    """One parsed request.

    `session` says what it goes on from, and `key` is that of the response: None where nothing is kept. `repeatable`
    tells whether a repeat of it is known.
    """

    body: Json
    create: Create
    caller: ChannelIdentity | None
    session: ChannelSession
    making: Making
    attributes: dict[str, str]
    key: str | None
    repeatable: bool

    @property
    def began(self) -> Began:
        if self.create.previous_response_id is not None:
            return "previous"
        return "conversation" if self.create.conversation is not None else None


def read_call(service: Service, body: Json, caller: ChannelIdentity | None, headers: Headers) -> Call:
    """Check a request, and give its response an id.

    Raises:
        InvalidRequest: Something in it is refused.
        ConfigurationError: The operator's factory gave something that is no id.
    """
    create = parse_create(body, service.rules, mint=service.mint)
    if create.options:
        check_tools(create.options, service.context.target)
    owner = owner_of(service.name, caller)
    session = session_of(create, owner)
    response_id, digest, idempotency_key = service.response_id(), "", headers.idempotency_key
    if idempotency_key is not None:
        if not create.store:
            raise InvalidRequest("Idempotency-Key", "A repeat is known by what is kept: leave store out.")
        response_id = derived_id(owner, session, idempotency_key)
        digest = sha256(msgspec.json.encode(body, order="deterministic")).hexdigest()
    seed = seed_of(create, id=response_id, model=model_name(service.context.target), created_at=int(service.clock()))
    making = Making(
        create,
        seed,
        mint=service.mint,
        clock=service.clock,
        digest=digest,
        hooked=service.hooked,
        own=lambda: own_tools(service.context.target),
    )
    key = owner.response(response_id) if create.store else None
    return Call(body, create, caller, session, making, headers.trace, key, idempotency_key is not None)


def request_of(service: Service, call: Call, *, over: bytes | None = None) -> ChannelRequest:
    """Give what the host is to run. The response is kept under its key: a copy, where a conversation grows.

    `over` is what is kept there already.
    """
    create = call.create
    attributes = {**call.attributes, "response_id": call.making.seed.id}
    if call.repeatable:
        attributes["idempotency_key"] = call.making.seed.id
    session = call.session
    if call.key is not None and session.isolation_key is not None:
        session = ChannelSession(session.isolation_key, existing=session.existing, copy=call.key, copy_over=over)
    elif call.key is not None:
        fresh = over is None and not call.repeatable
        session = ChannelSession(call.key, parent=session.parent, admit=session.admit, fresh=fresh)
    return ChannelRequest(
        channel=service.name,
        operation="responses.create",
        input=input_for(service.context.target, create.input),
        session=session if session.isolation_key or session.parent else None,
        options=create.options or None,
        attributes=attributes,
        stream=create.stream,
        identity=call.caller,
        responses=create.answers or None,
    )


def session_of(create: Create, owner: Owner) -> ChannelSession:
    """Say what the request goes on from; it has no key yet where that is not a growing conversation.

    Raises:
        UnknownId: There can be nothing with that id.
        InvalidRequest: What goes on in a conversation is to be kept nowhere.
    """
    if create.previous_response_id is not None:
        if (parent := owner.response(create.previous_response_id)) is None:
            raise unknown_previous()
        return ChannelSession(parent=parent, admit=check_continuable)
    keys = get_current_isolation_keys()
    if create.conversation is not None:
        if (key := owner.conversation(create.conversation)) is None:
            raise unknown_conversation()
        existing = True
    elif keys is not None and keys.chat_key:
        key, existing = owner.chat(keys.chat_key), False
    else:
        return ChannelSession()
    if not create.store:
        raise InvalidRequest("store", "A response in a conversation becomes part of it: leave store out.")
    return ChannelSession(key, existing=existing)


def read_headers(headers: list[tuple[bytes, bytes]]) -> Headers:
    """Collect what counts of them.

    Raises:
        InvalidRequest: There are several idempotency keys, or it is empty or too long.
    """
    trace: dict[str, str] = {}
    key: str | None = None
    for name, value in headers:
        if name == b"idempotency-key":
            if key is not None or not 0 < len(value) <= MAX_IDEMPOTENCY_KEY:
                raise InvalidRequest(
                    "Idempotency-Key", f"Send one Idempotency-Key of 1 to {MAX_IDEMPOTENCY_KEY} characters."
                )
            key = value.decode("latin-1")
        elif name in KEPT:
            trace[name.decode()] = value.decode("latin-1")
    return Headers(trace, key)


def derived_id(owner: Owner, session: ChannelSession, idempotency_key: str) -> str:
    """Give the id that every repeat of a request comes to.

    Raises:
        InvalidRequest: The caller is anonymous and names no conversation: others could derive the same id.
    """
    scope = session.isolation_key or session.parent
    if scope is None and owner.anonymous:
        raise InvalidRequest(
            "Idempotency-Key",
            "An Idempotency-Key without authentication needs a conversation or a previous_response_id.",
        )
    name = isolation_key(owner.channel, owner.name, "idempotency", scope, idempotency_key)
    return f"resp_{sha256(name.encode()).hexdigest()[:48]}"
