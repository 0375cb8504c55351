"""Responses in the background: accepted as updates, made later, wherever the host's inbox works."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, cast

import msgspec

from agent_framework_hosting import (
    ChannelIdentity,
    ChannelSession,
    ConfigurationError,
    HostingError,
    InboundUpdate,
    InvalidRequest,
    IsolationKeys,
    StateUnavailable,
    TurnBusy,
    TurnConflict,
    UnknownConversation,
    get_current_isolation_keys,
    reset_current_isolation_keys,
    set_current_isolation_keys,
)
from agent_framework_hosting.body import Json
from agent_framework_hosting.outputs import own_tools

from .asking import Call, request_of
from .making import Making
from .parsing import parse_create
from .problems import RefusedHere, failure_of, given_twice, repeated_key, unknown_conversation, unknown_response
from .records import (
    BrokenRecord,
    ConversationRecord,
    Job,
    OfResponse,
    QueuedRecord,
    check_continuable,
    decode_record,
    encode_record,
)
from .schema import Response, ResponseError, ResponseStatus
from .targets import check_tools

if TYPE_CHECKING:
    from .service import Service

YOUNG = 60.0
"""Seconds within which a queued response may be found whose update is not there yet."""

AGAIN = (StateUnavailable, TurnBusy)
"""What a further attempt may not meet any more."""

LOST = "The response could not be made: it was given up, or its conversation is gone."


class Background:
    """Queues responses, makes them, and tells how far they are.

    A response belongs to its own conversation, or to the one that it makes grow: there it is an update, in order with
    the others. Its record is written before the update is accepted, and is replaced once: by the turn that makes it, or
    by whoever cancels it. The turn that was running then has lost its lease, and saves nothing.
    """

    def __init__(self, service: Service) -> None:
        self.service = service
        self.context = service.context

    async def queue(self, call: Call) -> OfResponse:
        """Take a response over; what a repeat finds is what was taken over first.

        Raises:
            RefusedHere: Nothing is worked on in the background here.
            UnknownId: There is nothing that it could go on from.
            InvalidRequest: The idempotency key was used for another request.
            StateUnavailable: It was not taken over.
        """
        if not self.context.accepting:
            raise RefusedHere(
                "background",
                "Where this host runs, nothing is worked on in the background: it has no inbox. Leave background out.",
            )
        await self._check_origin(call.session)
        record = queued(call)
        key = cast("str", call.key)
        try:
            again = call.making.seed.id if call.repeatable else None
            await self.context.begin(key, encode_record(record), idempotency_key=again)
        except TurnConflict:
            return await self._queued_before(call, key)
        try:
            await self.context.accept(self.update_of(record.job))
        except BaseException:
            # A repeat finds the record, and has it accepted. Without one nobody knows of it.
            if not call.repeatable:
                with contextlib.suppress(HostingError):
                    await self.context.delete(key)
            raise
        return record

    async def _check_origin(self, session: ChannelSession) -> None:
        if session.parent is not None:
            check_continuable(await self.context.attachment(session.parent))
        elif session.existing and await self.context.attachment(cast("str", session.isolation_key)) is None:
            raise unknown_conversation()

    async def _queued_before(self, call: Call, key: str) -> OfResponse:
        found = await self.context.attachment(key)
        record = None if found is None else decode_record(call.making.seed.id, found)
        if not call.repeatable:
            raise given_twice()
        if record is None:
            raise InvalidRequest("Idempotency-Key", "The response of this Idempotency-Key was deleted: use a new key.")
        if isinstance(record, ConversationRecord) or record.request != call.making.digest:
            raise repeated_key()
        if isinstance(record, QueuedRecord):
            # Whoever queued it may have got no further.
            await self.context.accept(self.update_of(record.job))
        return record

    def update_of(self, job: Job) -> InboundUpdate:
        return InboundUpdate(self.service.name, job.id, job.key, b"{}", job.order)

    async def work(self, update: InboundUpdate) -> None:
        """Make the response that an update stands for; nothing, where it was made or cancelled meanwhile.

        Raises:
            Exception: Another attempt may succeed.
        """
        found = await self.context.attachment(update.id)
        record = None if found is None else decode_record("a queued response", found)
        if found is None or not isinstance(record, QueuedRecord):
            return
        token = set_current_isolation_keys(keys_of(record))
        try:
            await self._make(record, found, update)
        except (TurnConflict, *AGAIN) as error:
            if isinstance(error, TurnConflict) or update.attempt < self.context.limits.update_attempts:
                raise
            await self._fail(record, error)
        except Exception as error:
            await self._fail(record, error)
        finally:
            reset_current_isolation_keys(token)

    async def _make(self, record: QueuedRecord, found: bytes, update: InboundUpdate) -> None:
        service = self.service
        call = self._call(record)
        request = request_of(service, call)
        if request.session is not None and request.session.copy is not None:
            request.session.copy_over = found
        await self.context.run(
            request,
            run_hook=service.run_hook,
            protocol_request=call.body,
            response_hook=service.response_hook,
            channel_name=service.name,
            attach=call.making.attach,
        )

    def _call(self, record: QueuedRecord) -> Call:
        """Read the request once more: by the rules of now, for those are the operator's."""
        service = self.service
        body = cast("Json", msgspec.json.decode(record.body))
        create = parse_create(body, service.rules, mint=service.mint)
        if create.options:
            check_tools(create.options, self.context.target)
        create = msgspec.structs.replace(create, items=cast("list[dict[str, Json]]", record.items), stream=False)
        making = Making(
            create,
            id=record.response.id,
            model=record.response.model,
            mint=service.mint,
            clock=service.clock,
            digest=record.request,
            own=lambda: own_tools(self.context.target),
        )
        making.seed = msgspec.structs.replace(record.response, status="in_progress")
        parent = record.parent
        session = ChannelSession(
            record.conversation,
            parent=parent,
            existing=record.existing,
            admit=None if parent is None else check_continuable,
        )
        caller = None if record.caller is None else ChannelIdentity(service.name, record.caller, record.known)
        return Call(body, create, caller, session, making, {}, record.job.id, repeatable=False)

    async def _fail(self, record: QueuedRecord, error: Exception) -> None:
        began = "previous" if record.parent is not None else "conversation"
        failure = failure_of(error, channel=self.service.name, began=began)
        with contextlib.suppress(UnknownConversation):  # It was deleted meanwhile.
            await self._break(record.job.id, "failed", failure.in_response())

    async def _break(self, key: str, status: ResponseStatus, error: ResponseError | None = None) -> OfResponse:
        """End a response that is queued; one that has come to an end stays as it is."""

        def change(found: bytes | None) -> bytes | None:
            record = of_response(found)
            return encode_record(broken(record, status, error)) if isinstance(record, QueuedRecord) else None

        return of_response(await self.context.amend(key, change))

    async def cancel(self, key: str) -> Response:
        """Cancel a response, and give what has become of it.

        Raises:
            RefusedHere: It was not made in the background.
            UnknownId: There is none.
        """
        record = of_response(await self.context.attachment(key))
        if not record.response.background:
            raise RefusedHere(
                "response_id", "Only a response that runs in the background can be cancelled.", code="not_background"
            )
        if isinstance(record, QueuedRecord):
            try:
                record = await self._break(key, "cancelled")
            except UnknownConversation:
                raise unknown_response() from None
        # Also of one that was cancelled before: whoever did may have got no further.
        if isinstance(record, BrokenRecord) and record.response.status == "cancelled":
            await self.interrupt(record.job)
        return record.response

    async def interrupt(self, job: Job) -> None:
        """End the work on a response that is not wanted any more."""
        await self.context.interrupt(self.update_of(job))

    async def later(self, record: OfResponse) -> OfResponse:
        """Give a record once more, as of now."""
        if not isinstance(record, QueuedRecord):
            return record
        return await self.state_of(of_response(await self.context.attachment(record.job.id)))

    async def state_of(self, record: OfResponse) -> OfResponse:
        """Give a record as of now: a response is in progress while it is worked on, and failed if nobody will."""
        if not isinstance(record, QueuedRecord):
            return record
        key = record.job.id
        standing = await self.context.standing(self.update_of(record.job))
        if standing is not None:
            status: ResponseStatus = "in_progress" if standing == "working" else "queued"
            return msgspec.structs.replace(record, response=with_status(record.response, status))
        now = of_response(await self.context.attachment(key))
        if not isinstance(now, QueuedRecord) or self.service.clock() - now.response.created_at < YOUNG:
            return now
        error = ResponseError(
            "server_error", "The response could not be made: it was given up, or its conversation is gone."
        )
        return await self._break(key, "failed", error)


def queued(call: Call) -> QueuedRecord:
    """Give the record of a response that is to be made.

    Raises:
        ConfigurationError: What the operator knows of the caller cannot be kept.
    """
    keys, caller, key = get_current_isolation_keys(), call.caller, cast("str", call.key)
    conversation = call.session.isolation_key
    known = {} if caller is None else dict(caller.attributes)
    try:
        msgspec.json.encode(known)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"The attributes of callers must be JSON for responses in the background: {type(error).__name__}."
        ) from error
    return QueuedRecord(
        with_status(call.making.seed, "queued"),
        [*map(dict[str, object], call.create.items)],
        call.making.digest,
        Job(key, conversation or key, str(time.time_ns())),
        msgspec.Raw(msgspec.json.encode(call.body)),
        conversation,
        call.session.existing,
        call.session.parent,
        None if caller is None else caller.native_id,
        known,
        None if keys is None else keys.user_key,
        None if keys is None else keys.chat_key,
    )


def keys_of(record: QueuedRecord) -> IsolationKeys | None:
    return None if record.user is None and record.chat is None else IsolationKeys(record.user, record.chat)


def broken(record: QueuedRecord, status: ResponseStatus, error: ResponseError | None) -> BrokenRecord:
    response = msgspec.structs.replace(record.response, status=status, error=error)
    return BrokenRecord(response, record.items, record.request, record.job)


def with_status(response: Response, status: ResponseStatus) -> Response:
    return msgspec.structs.replace(response, status=status)


def of_response(found: bytes | None) -> OfResponse:
    """Read the record of a response.

    Raises:
        UnknownId: There is none.
        StateDamaged: It cannot be read.
    """
    record = None if found is None else decode_record("a response", found)
    if record is None or isinstance(record, ConversationRecord):
        raise unknown_response()
    return record
