"""Responses in the background: queued as updates, polled and cancelled."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from agent_framework_hosting import (
    ChannelSession,
    ConfigurationError,
    HostingError,
    InboundUpdate,
    InvalidRequest,
    TurnConflict,
    UnknownConversation,
    get_current_isolation_keys,
)

from .asking import Call
from .jobs import break_off
from .problems import RefusedHere, given_twice, repeated_key, unknown_conversation, unknown_response
from .records import (
    BrokenRecord,
    ConversationRecord,
    Job,
    OfResponse,
    QueuedRecord,
    check_continuable,
    decode_record,
    encode_record,
    of_response,
)
from .schema import Response, ResponseError, ResponseStatus, with_status

if TYPE_CHECKING:
    from .service import Service

LOST = "The response could not be made: it was given up, or its conversation is gone."


class Background:
    """Queues responses, tells how far they are, and ends them.

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
            ConfigurationError: The operator's factory gave an id once more.
            StateUnavailable: It was not taken over.
        """
        if not self.context.accepting:
            raise RefusedHere(
                "background",
                "Where this host runs, nothing is worked on in the background: it has no inbox. Leave background out.",
            )
        key = cast("str", call.key)
        known = call.repeatable or not self.service.random_ids
        if known and (found := await self.context.attachment(key)) is not None:
            return await self._queued_before(call, found)
        await self._check_origin(call.session)
        record = queued(call, str(int(self.service.clock() * 1e9)))
        try:
            again = call.making.seed.id if call.repeatable else None
            await self.context.begin(key, encode_record(record), idempotency_key=again)
        except TurnConflict:
            return await self._queued_before(call, await self.context.attachment(key))
        try:
            await self.context.accept(self.update_of(record.job))
        except Exception as error:
            if not call.repeatable:  # A repeat would find it, and have it accepted.
                await self._take_back(key, error)
            raise
        return record

    async def _take_back(self, key: str, error: Exception) -> None:
        """Delete a response that nobody was told of; where that fails it may still be made, and must not be twice."""
        try:
            await self.context.delete(key)
        except HostingError:
            if isinstance(error, HostingError):
                error.started = True

    async def _check_origin(self, session: ChannelSession) -> None:
        if session.parent is not None:
            check_continuable(await self.context.attachment(session.parent))
        elif session.existing and await self.context.attachment(cast("str", session.isolation_key)) is None:
            raise unknown_conversation()

    async def _queued_before(self, call: Call, found: bytes | None) -> OfResponse:
        if not call.repeatable:
            raise given_twice()
        record = None if found is None else decode_record(call.making.seed.id, found)
        if record is None:
            raise InvalidRequest("Idempotency-Key", "The response of this Idempotency-Key was deleted: use a new key.")
        if isinstance(record, ConversationRecord) or record.request != call.making.digest:
            raise repeated_key()
        if isinstance(record, QueuedRecord):
            # Whoever queued it may have got no further.
            await self.context.accept(self.update_of(record.job))
        return await self.state_of(record)

    def update_of(self, job: Job) -> InboundUpdate:
        return InboundUpdate(self.service.name, job.id, job.key, b"{}", job.order)

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
            record = await self._break(key, "cancelled")
        # Also of one that was cancelled before: whoever did may have got no further.
        if isinstance(record, BrokenRecord) and record.response.status == "cancelled":
            await self.interrupt(record.job)
        return record.response

    async def interrupt(self, job: Job) -> None:
        """End the work on a response that is not wanted any more."""
        await self.context.interrupt(self.update_of(job))

    async def is_open(self, job: Job) -> bool:
        """Tell whether a queued response will be worked on, or is being so."""
        return await self.context.standing(self.update_of(job)) is not None

    async def find(self, key: str) -> OfResponse:
        """Give a record as of now.

        Raises:
            UnknownId: There is none.
        """
        return await self.state_of(of_response(await self.context.attachment(key)))

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
        if not isinstance(now, QueuedRecord) or self.service.clock() - now.response.created_at < self.service.accepting:
            return now
        return await self._break(key, "failed", ResponseError("server_error", LOST))

    async def _break(self, key: str, status: ResponseStatus, error: ResponseError | None = None) -> OfResponse:
        try:
            return await break_off(self.context, key, status, error)
        except UnknownConversation:
            raise unknown_response() from None


def queued(call: Call, order: str) -> QueuedRecord:
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
        Job(key, conversation or key, order),
        msgspec.Raw(msgspec.json.encode(call.body)),
        conversation,
        call.session.existing,
        call.session.parent,
        None if caller is None else caller.native_id,
        known,
        None if keys is None else keys.user_key,
        None if keys is None else keys.chat_key,
    )
