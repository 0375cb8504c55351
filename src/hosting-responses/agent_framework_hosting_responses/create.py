"""`POST /responses`: one turn of the target."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from anyio import CancelScope
from starlette.requests import Request
from starlette.responses import Response as HttpResponse

from agent_framework_hosting import TurnRepeated
from agent_framework_hosting.body import read_json
from agent_framework_hosting.sse import EventStream, Outgoing

from .answers import json_response
from .asking import Began, Call, read_call, read_headers, request_of
from .background import Background
from .problems import failure_of, given_twice, repeated_key
from .records import ResponseRecord, decode_record, of_response
from .schema import encode

if TYPE_CHECKING:
    from .service import Service


class CreateEndpoint:
    """Answers with a response or with the stream of its events."""

    def __init__(self, service: Service, background: Background) -> None:
        self.service = service
        self.background = background
        self.context = service.context

    async def __call__(self, request: Request) -> HttpResponse:
        began: Began = None
        try:
            caller = await self.service.authenticate(request)
            body = await read_json(request, self.context.limits.body_bytes)
            call = read_call(self.service, body, caller, read_headers(request.scope["headers"]))
            began = call.began
            if call.create.background:
                return await self.queue(call)
            await self.check_new(call)
            return self.stream(call) if call.create.stream else await self.answer(call)
        except Exception as error:
            return failure_of(error, channel=self.service.name, began=began).response()

    async def queue(self, call: Call) -> HttpResponse:
        from .following import follow

        record = await self.background.queue(call)
        if call.create.stream:
            return follow(self.background, record)
        return json_response(encode(record.response))

    async def check_new(self, call: Call) -> None:
        """Make sure that nothing else is stored under the id, where that may be: it would be continued, and replaced.

        Raises:
            ConfigurationError: The operator's factory gave it before.
            InvalidRequest: The idempotency key was used for another request.
        """
        if call.key is None or (self.service.random_ids and not call.repeatable):
            return
        # A conversation that grows does not know what its key was used for in the background.
        if call.repeatable and call.session.isolation_key is None:
            return
        if (found := await self.context.attachment(call.key)) is None:
            return
        if not call.repeatable:
            raise given_twice()
        if of_response(found).request != call.making.digest:
            raise repeated_key()

    async def answer(self, call: Call) -> HttpResponse:
        service = self.service
        try:
            hosted = await self.context.run(
                request_of(service, call),
                run_hook=service.run_hook,
                protocol_request=call.body,
                response_hook=service.response_hook,
                channel_name=service.name,
                attach=None if call.key is None else call.making.attach,
            )
        except TurnRepeated as repeated:
            return json_response(encode((await self.repeated(call, repeated)).response))
        return json_response(call.making.answer(hosted))

    def stream(self, call: Call) -> HttpResponse:
        def report(error: Exception) -> bytes:
            failure = failure_of(error, channel=self.service.name, began=call.began)
            events = call.making.events or call.making.stream()
            return events.close("incomplete") + events.ending(call.making.fail(failure.in_response()))

        outgoing = Outgoing()
        return EventStream(
            self.frames(call, outgoing),
            refuse=lambda error: failure_of(error, channel=self.service.name, began=call.began).response(),
            report=report,
            outgoing=outgoing,
            interval=self.service.keep_alive,
        )

    async def frames(self, call: Call, outgoing: Outgoing) -> AsyncGenerator[bytes, None]:
        service, making = self.service, call.making
        try:
            stream = await self.context.run_stream(
                request_of(service, call),
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
            add = outgoing.adding(events.update)
            while await stream.feed(add):
                yield b""
            yield events.close()
            await stream.get_final_response()
            assert stream.hosted is not None
            answer = making.answer(stream.hosted)
            yield making.late + events.ending(making.finish(stream.hosted), answer)
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
            raise repeated_key()
        return record
