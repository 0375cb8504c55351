"""Makes the responses that were queued: what the channel does with its updates."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import msgspec

from agent_framework_hosting import (
    ChannelIdentity,
    ChannelSession,
    InboundUpdate,
    IsolationKeys,
    StateUnavailable,
    TurnBusy,
    TurnConflict,
    UnknownConversation,
    reset_current_isolation_keys,
    set_current_isolation_keys,
)
from agent_framework_hosting.body import Json
from agent_framework_hosting.outputs import own_tools

from .asking import Call, request_of
from .making import Making
from .parsing import parse_create
from .problems import failure_of
from .records import (
    BrokenRecord,
    OfResponse,
    QueuedRecord,
    check_continuable,
    decode_record,
    encode_record,
    of_response,
)
from .schema import ResponseError, ResponseStatus, with_status
from .targets import check_tools

if TYPE_CHECKING:
    from agent_framework_hosting import ChannelContext

    from .service import Service

AGAIN = (StateUnavailable, TurnBusy)
"""What a further attempt may not meet any more."""


class Jobs:
    """Runs the turn of a queued response, by the same code as a request, and leaves the finished record."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.context = service.context

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
            await self._make(record, found)
        except TurnConflict:
            # Whoever has cancelled or deleted it meanwhile has left nothing to do.
            if await self.context.attachment(update.id) == found:
                raise
        except Exception as error:
            if isinstance(error, AGAIN) and update.attempt < self.context.limits.update_attempts:
                raise
            await self._fail(record, error)
        finally:
            reset_current_isolation_keys(token)

    async def _make(self, record: QueuedRecord, found: bytes) -> None:
        service = self.service
        call = self._call(record)
        await self.context.run(
            request_of(service, call, over=found),
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
            with_status(record.response, "in_progress"),
            mint=service.mint,
            clock=service.clock,
            digest=record.request,
            own=lambda: own_tools(self.context.target),
        )
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
            await break_off(self.context, record.job.id, "failed", failure.in_response())


def keys_of(record: QueuedRecord) -> IsolationKeys | None:
    return None if record.user is None and record.chat is None else IsolationKeys(record.user, record.chat)


def broken(record: QueuedRecord, status: ResponseStatus, error: ResponseError | None) -> BrokenRecord:
    response = msgspec.structs.replace(record.response, status=status, error=error)
    return BrokenRecord(response, record.items, record.request, record.job)


async def break_off(
    context: ChannelContext, key: str, status: ResponseStatus, error: ResponseError | None = None
) -> OfResponse:
    """End a response that is queued, without a turn; one that has come to an end stays as it is.

    Raises:
        UnknownConversation: It was deleted.
    """

    def change(found: bytes | None) -> bytes | None:
        record = of_response(found)
        return encode_record(broken(record, status, error)) if isinstance(record, QueuedRecord) else None

    return of_response(await context.amend(key, change))
