"""`POST /responses`: one turn of the target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from hashlib import sha256
from typing import TYPE_CHECKING, Literal

import msgspec
from anyio import CancelScope
from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from agent_framework_hosting import (
    ChannelIdentity,
    ChannelRequest,
    ChannelSession,
    ConfigurationError,
    InvalidRequest,
    TurnRepeated,
    get_current_isolation_keys,
    isolation_key,
)
from agent_framework_hosting.body import Json, read_json
from agent_framework_hosting.sse import EventStream

from .callers import Owner, owner_of
from .making import Making
from .parsing import Create, parse_create
from .problems import RefusedHere, failure_of, unknown_conversation, unknown_previous
from .records import ResponseRecord, decode_record
from .schema import encode
from .targets import check_tools, input_for, model_name

if TYPE_CHECKING:
    from .service import Service

MAX_IDEMPOTENCY_KEY = 256
KEPT = frozenset({b"traceparent", b"tracestate"})


class Call(msgspec.Struct, frozen=True):
    """One parsed request; `key` is that of the response, and `repeatable` tells whether a repeat of it is known."""

    body: Json
    create: Create
    request: ChannelRequest
    making: Making
    key: str | None
    repeatable: bool

    @property
    def began(self) -> Literal["previous", "conversation"] | None:
        if self.create.previous_response_id is not None:
            return "previous"
        return "conversation" if self.create.conversation is not None else None


class CreateEndpoint:
    """Answers with a response or with the stream of its events."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.context = service.context

    async def __call__(self, request: Request) -> HttpResponse:
        call: Call | None = None
        try:
            caller = await self.service.authenticate(request)
            body = await read_json(request, self.context.limits.body_bytes)
            call = self.parse(body, caller, request)
            await self.check_new(call)
            return self.stream(call) if call.create.stream else await self.answer(call)
        except Exception as error:
            began = None if call is None else call.began
            return failure_of(error, channel=self.service.name, began=began).response()

    def parse(self, body: Json, caller: ChannelIdentity | None, request: Request) -> Call:
        service = self.service
        create = parse_create(body, service.rules, mint=service.mint)
        if create.background:
            raise RefusedHere("background", "This host runs no responses in the background: leave background out.")
        if create.options:
            check_tools(create.options, self.context.target)
        owner = owner_of(service.name, caller)
        attributes, idempotency_key = read_headers(request.scope["headers"])
        session = self.session(create, owner)
        response_id, fresh = service.response_id(), True
        if idempotency_key is not None:
            if not create.store:
                raise InvalidRequest("Idempotency-Key", "A repeat is known by what is kept: leave store out.")
            response_id, fresh = derived_id(owner, session, idempotency_key), False
            attributes["idempotency_key"] = response_id
        attributes["response_id"] = response_id
        key = owner.response(response_id) if create.store else None
        if key is not None and session.isolation_key is not None:
            session.copy = key
        elif key is not None:
            session.isolation_key = key
            session.fresh = fresh
        making = Making(
            create,
            id=response_id,
            model=model_name(self.context.target),
            mint=service.mint,
            clock=service.clock,
            digest=sha256(msgspec.json.encode(body, order="deterministic")).hexdigest() if idempotency_key else "",
            hooked=service.hooked,
        )
        channel_request = ChannelRequest(
            channel=service.name,
            operation="responses.create",
            input=input_for(self.context.target, create.input),
            session=session if session.isolation_key or session.parent else None,
            options=create.options or None,
            attributes=attributes,
            stream=create.stream,
            identity=caller,
            responses=create.answers or None,
        )
        return Call(body, create, channel_request, making, key, idempotency_key is not None)

    async def check_new(self, call: Call) -> None:
        """Make sure that nothing is stored under an id that the operator's factory gave.

        Raises:
            ConfigurationError: It would continue another response, and take its place.
        """
        if call.key is None or call.repeatable or self.service.random_ids:
            return
        if await self.context.attachment(call.key) is not None:
            raise ConfigurationError(
                "response_id_factory gave an id once more under which this caller has a response: it must give each "
                "id once."
            )

    def session(self, create: Create, owner: Owner) -> ChannelSession:
        """Say what the request goes on from; it has no key yet where that is not a growing conversation.

        Raises:
            UnknownId: There can be nothing with that id.
            InvalidRequest: What goes on in a conversation is to be kept nowhere.
        """
        if create.previous_response_id is not None:
            if (parent := owner.response(create.previous_response_id)) is None:
                raise unknown_previous()
            return ChannelSession(parent=parent)
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

    async def answer(self, call: Call) -> HttpResponse:
        service = self.service
        try:
            hosted = await self.context.run(
                call.request,
                run_hook=service.run_hook,
                protocol_request=call.body,
                response_hook=service.response_hook,
                channel_name=service.name,
                attach=None if call.key is None else call.making.attach,
            )
        except TurnRepeated as repeated:
            return json_response(encode((await self.repeated(call, repeated)).response))
        return json_response(encode(call.making.finish(hosted)))

    def stream(self, call: Call) -> HttpResponse:
        def report(error: Exception) -> bytes:
            failure = failure_of(error, channel=self.service.name, began=call.began)
            events = call.making.events or call.making.stream()
            return events.close("incomplete") + events.ending(call.making.fail(failure.in_response()))

        return EventStream(
            self.frames(call),
            refuse=lambda error: failure_of(error, channel=self.service.name, began=call.began).response(),
            report=report,
            interval=self.service.keep_alive,
        )

    async def frames(self, call: Call) -> AsyncGenerator[bytes, None]:
        service, making = self.service, call.making
        try:
            stream = await self.context.run_stream(
                call.request,
                run_hook=service.run_hook,
                protocol_request=call.body,
                stream_update_hook=service.stream_update_hook,
                response_hook=service.response_hook,
                channel_name=service.name,
                attach=None if call.key is None else making.attach,
            )
        except TurnRepeated as repeated:
            from .replay import replay

            for frame in replay((await self.repeated(call, repeated)).response):
                yield frame
            return
        try:
            events = making.stream()
            yield events.begin()
            async for update in stream:
                if frames := events.update(update):
                    yield frames
            yield events.close()
            await stream.get_final_response()
            assert stream.hosted is not None
            whole = making.finish(stream.hosted)
            yield making.late + events.ending(whole)
        finally:
            # A server that goes down cancels again and again (AnyIO's cancel scopes); the turn still ends in order.
            with CancelScope(shield=True):
                await stream.aclose()

    async def repeated(self, call: Call, repeated: TurnRepeated) -> ResponseRecord:
        """Give the response of a turn that was saved earlier; what follows saving may still be under way.

        Raises:
            InvalidRequest: The key was used for another request.
            TurnRepeated: The response is not there.
        """
        if call.key is None or not call.repeatable:
            raise repeated
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.service.replay_wait
        while (found := await self.context.attachment(call.key)) is None:
            if clock() > deadline:
                raise repeated
            await asyncio.sleep(self.service.replay_interval)
        record = decode_record(call.making.seed.id, found)
        if not isinstance(record, ResponseRecord) or record.request != call.making.digest:
            raise InvalidRequest("Idempotency-Key", "This Idempotency-Key was used for another request: use a new one.")
        return record


def read_headers(headers: list[tuple[bytes, bytes]]) -> tuple[dict[str, str], str | None]:
    """Collect the trace context as a request's attributes, and the idempotency key.

    Raises:
        InvalidRequest: There are several keys, or it is empty or too long.
    """
    attributes: dict[str, str] = {}
    key: str | None = None
    for name, value in headers:
        if name == b"idempotency-key":
            if key is not None or not 0 < len(value) <= MAX_IDEMPOTENCY_KEY:
                raise InvalidRequest(
                    "Idempotency-Key", f"Send one Idempotency-Key of 1 to {MAX_IDEMPOTENCY_KEY} characters."
                )
            key = value.decode("latin-1")
        elif name in KEPT:
            attributes[name.decode()] = value.decode("latin-1")
    return attributes, key


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


def json_response(content: bytes, status: int = 200) -> HttpResponse:
    return HttpResponse(content, status, media_type="application/json")
