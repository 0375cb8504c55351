"""The Runtime API and the Extensions API over HTTP, as an execution environment offers them.

Paths, headers and bodies: "Using the Lambda runtime API for custom runtimes", "Using the Lambda Extensions API to
create extensions". Refusals have the statuses and error types that the official emulator gives.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
import uuid
from collections.abc import Mapping
from typing import Any

from emulators.http_connections import PIECE, Connection, Malformed, Request, TooLarge, Truncated
from emulators.lambda_calls import INTEGRATION_RESPONSE, Answer, FunctionError, Invocation, Prelude
from emulators.lambda_environment import Environment, Extension, State
from emulators.lambda_runtime import members

RUNTIME = "/2018-06-01/runtime"
EXTENSION = "/2020-01-01/extension"
INVOCATION = re.compile(rf"{RUNTIME}/invocation/([^/]+)/(response|error)")
PATHS = (f"{RUNTIME}/invocation/next", f"{RUNTIME}/init/error", f"{EXTENSION}/register", f"{EXTENSION}/event/next")
ERROR_TYPE = "lambda-runtime-function-error-type"
MODE = "lambda-runtime-function-response-mode"
LONGEST_DOCUMENT = 8 * 2**20
# How often a second a slow caller reads.
SIPS = 20


class Refused(Exception):
    """A call that is not allowed: what its answer is."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.status = status
        self.kind = kind
        self.message = message


class Routes:
    """Answers the clients of one environment."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.desk = environment.desk
        self.misbehave = environment.desk.misbehave

    async def serve(self, connection: Connection) -> None:
        while True:
            try:
                request = await connection.request()
                if request is None:
                    return
                await self.route(connection, request)
            except Malformed as error:
                connection.writer.write(f"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n{error}".encode())
                return

    async def route(self, connection: Connection, request: Request) -> None:
        invocation = INVOCATION.fullmatch(request.path)
        try:
            match request.method, request.path:
                case "GET", path if path == f"{RUNTIME}/invocation/next":
                    await self.next(connection, request)
                case "POST", _ if invocation is not None and self.misbehave.drop_responses:
                    self.misbehave.drop_responses -= 1
                    connection.close()
                case "POST", _ if invocation is not None:
                    respond = self.respond if invocation[2] == "response" else self.report
                    await respond(connection, request, invocation[1])
                case "POST", path if path == f"{RUNTIME}/init/error":
                    await self.fail(connection, request, State.STARTED, State.INIT_ERROR)
                case "GET", path if path == f"{RUNTIME}/restore/next" and self.environment.snap_start:
                    await self.restore(connection, request)
                case "POST", path if path == f"{RUNTIME}/restore/error" and self.environment.snap_start:
                    await self.fail(connection, request, State.RESTORING, State.RESTORE_ERROR)
                case "POST", path if path == f"{EXTENSION}/register":
                    await self.register(connection, request)
                case "GET", path if path == f"{EXTENSION}/event/next":
                    await self.event(connection, request)
                case _, path if invocation is not None or path in PATHS:
                    await connection.answer(request, 405)
                case _:
                    await connection.answer(request, 404, b"404 page not found\n")
        except Refused as refused:
            said = {"errorMessage": refused.message, "errorType": refused.kind}
            await self.answer(connection, request, refused.status, said)

    async def answer(
        self,
        connection: Connection,
        request: Request,
        status: int,
        said: Mapping[str, Any],
        headers: Mapping[str, str] | None = None,
    ) -> None:
        content = {"Content-Type": "application/json", **(headers or {})}
        await connection.answer(request, status, json.dumps(said).encode(), content)

    def enter(self, state: State, *allowed: State) -> None:
        """Change the runtime's state.

        Raises:
            Refused: It cannot be entered from the state that the runtime is in.
        """
        before = self.environment.state
        if before not in allowed:
            why = "Error: State transition is not allowed"
            message = f"State transition from {before.value} to {state.value} failed for runtime. {why}"
            raise Refused(403, "InvalidStateTransition", message)
        self.environment.state = state

    async def next(self, connection: Connection, request: Request) -> None:
        """Wait for an invocation. Who asks again before it has answered gets the same one again."""
        environment = self.environment
        if self.misbehave.drop_next:
            self.misbehave.drop_next -= 1
            connection.close()
            return
        if self.misbehave.garble_next:
            self.misbehave.garble_next -= 1
            await connection.garble()
            return
        if environment.concurrent:
            self.enter(State.READY, State.STARTED, State.READY)
        elif environment.state is not State.RUNNING:
            self.enter(State.READY, State.STARTED, State.READY, State.SENT, State.RESTORING)
        call = environment.current
        if environment.concurrent or environment.state is not State.RUNNING or call is None:
            poll = environment.poll(connection)
            if not await first(connection, poll.given):
                environment.withdraw(poll)
                return
            call = poll.given.result()
        head = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": call.id,
            "Lambda-Runtime-Deadline-Ms": str(call.deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": call.arn,
            "Lambda-Runtime-Trace-Id": call.trace_id,
        }
        await connection.answer(request, 200, call.event, head)

    def begin(self, identity: str, state: State) -> Invocation:
        """Find the invocation that an answer is for.

        Raises:
            Refused: There is none of that name, or it has been answered.
        """
        call = self.environment.calls.get(identity)
        if call is None or (self.environment.concurrent and call.finished is not None):
            raise Refused(400, "InvalidRequestID", "Invalid request ID")
        if not self.environment.concurrent:
            self.enter(state, State.RUNNING)
        return call

    def sent(self) -> None:
        if not self.environment.concurrent:
            self.environment.state = State.SENT

    async def respond(self, connection: Connection, request: Request, identity: str) -> None:
        call = self.begin(identity, State.RESPONDING)
        mode = request.headers.get(MODE, "")
        refusal = self.misbehave.refuse_responses.pop(0) if self.misbehave.refuse_responses else None
        if mode not in ("", "streaming"):
            call.fail("Runtime.InvalidResponseModeHeader", "")
            raise Refused(400, "InvalidFunctionResponseMode", "Invalid function response mode")
        if refusal is None:
            call.mode = "streaming" if mode else "buffered"
        try:
            if mode:
                if refusal is None:
                    await self.stream(connection, request, call)
            else:
                body = await request.body.read(self.desk.response_limit)
                if refusal is None:
                    call.conclude(Answer("buffered", body, request.headers.get("content-type", "")))
        except TooLarge:
            refusal = 413
        except Truncated:
            call.break_off("The runtime hung up before its response had ended.")
            self.sent()
            raise
        if refusal is None:
            self.sent()
            if self.misbehave.freeze_at_responses and self.environment.signals is not None:
                self.misbehave.freeze_at_responses -= 1
                self.environment.signals.freeze()
            if not connection.writer.is_closing():
                await self.answer(connection, request, 202, {"status": "OK"})
        elif refusal == 413:
            limit = self.desk.stream_limit if mode else self.desk.response_limit
            message = f"Response payload size exceeded maximum allowed payload size ({limit} bytes)."
            call.fail("Function.ResponseSizeTooLarge", message)
            self.sent()
            message = f"Exceeded maximum allowed payload size ({limit} bytes)."
            raise Refused(413, "RequestEntityTooLarge", message)
        else:
            raise Refused(refusal, "InternalServerError", "Internal Server Error")

    async def stream(self, connection: Connection, request: Request, call: Invocation) -> None:
        """Read a streamed response while it comes.

        Raises:
            TooLarge: It is longer than a stream may be.
            Truncated: The runtime hung up.
        """
        content = request.headers.get("content-type", "")
        prelude = Prelude() if content == INTEGRATION_RESPONSE else None
        size, broken = 0, ""
        rate, end = self.misbehave.slow, self.misbehave.reset_stream_after
        longest = max(1, min(PIECE, PIECE if rate is None else rate // SIPS, PIECE if end is None else end))
        async with contextlib.aclosing(request.body.pieces(longest)) as body:
            async for piece in body:
                size += len(piece)
                if size > self.desk.stream_limit:
                    raise TooLarge
                try:
                    payload = piece if prelude is None else prelude.feed(piece)
                except ValueError as error:
                    broken, prelude, payload = str(error) or "The prelude is no JSON.", None, b""
                if call.began is None and (prelude is None or prelude.found is not None):
                    call.began = time.monotonic()
                    call.prelude = None if prelude is None else prelude.found
                if payload:
                    call.chunks.append((time.monotonic(), payload))
                self.desk.bell.ring()
                if end is not None and size >= end:
                    self.misbehave.reset_stream_after = None
                    connection.reset()
                    call.fail("Emulator.StreamReset", f"Broken off after {size} bytes, as was asked for.")
                    return
                if rate is not None:
                    await asyncio.sleep(len(piece) / rate)
        # Trailers that are not announced get lost on their way to the caller.
        declared = {name.strip().lower() for name in request.headers.get("trailer", "").split(",")}
        trailers = {name: value for name, value in request.body.trailers.items() if name in declared}
        error = FunctionError.from_trailers(trailers)
        found = prelude.found if prelude is not None else None
        if error is None and content == INTEGRATION_RESPONSE and found is None:
            error = FunctionError("Emulator.InvalidPrelude", broken or "The response ended within its prelude.")
        call.conclude(Answer("streaming", call.payload, content, found, trailers, error))

    async def report(self, connection: Connection, request: Request, identity: str) -> None:
        call = self.begin(identity, State.REPORTING)
        error = await self.error(request)
        call.conclude(Answer(content_type=request.headers.get("content-type", ""), error=error))
        self.sent()
        await self.answer(connection, request, 202, {"status": "OK"})

    async def error(self, request: Request) -> FunctionError:
        return FunctionError.parse(await request.body.read(LONGEST_DOCUMENT), request.headers.get(ERROR_TYPE))

    async def fail(self, connection: Connection, request: Request, before: State, state: State) -> None:
        self.enter(state, before)
        self.environment.failed(await self.error(request), state)
        await self.answer(connection, request, 202, {"status": "OK"})

    async def restore(self, connection: Connection, request: Request) -> None:
        """Wait to be restored from a snapshot."""
        self.enter(State.RESTORE_READY, State.STARTED)
        self.desk.settle()
        if await first(connection, asyncio.ensure_future(self.environment.restored.wait())):
            await connection.answer(request, 200)

    async def register(self, connection: Connection, request: Request) -> None:
        """Register an internal extension: until the runtime is ready, and for no SHUTDOWN."""
        environment = self.environment
        name = request.headers.get("lambda-extension-name", "")
        if not name:
            raise Refused(403, "Extension.InvalidExtensionName", "Empty extension name")
        try:
            asked: list[str] = members(json.loads(await request.body.read(LONGEST_DOCUMENT))).get("events") or []
        except ValueError as error:
            raise Refused(403, "InvalidRequestFormat", str(error)) from None
        for event in asked:
            if event != "INVOKE":
                inner = "ShutdownEventNotSupportedForInternalExtension"
                why = inner if event == "SHUTDOWN" else "ErrorInvalidEventType"
                raise Refused(403, "Extension.InvalidEventType", f"{event}: {why}")
        if environment.state is not State.STARTED:
            raise Refused(403, "Extension.RegistrationClosed", "Extension registration closed already")
        if environment.named(name) is not None:
            raise Refused(403, "Extension.InvalidExtensionState", "Extension with this name already registered")
        extension = Extension(name, tuple(asked))
        environment.extensions.append(extension)
        self.desk.bell.ring()
        head = {"Lambda-Extension-Identifier": extension.id}
        await self.answer(connection, request, 200, environment.metadata, head)

    async def event(self, connection: Connection, request: Request) -> None:
        """Wait for an extension's next event."""
        identity = request.headers.get("lambda-extension-identifier", "")
        if not identity:
            kind, message = "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header"
            raise Refused(403, kind, message)
        if not is_uuid(identity):
            raise Refused(403, "Extension.InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        extension = next((one for one in self.environment.extensions if one.id == identity), None)
        if extension is None:
            raise Refused(403, "Extension.UnknownExtensionIdentifier", f"Unknown extension {identity}")
        if extension.waits:
            why = f"State transition from Ready to Ready failed for extension {identity}."
            raise Refused(403, "Extension.InvalidExtensionState", f"{why} Error: State transition is not allowed")
        poll = extension.poll = asyncio.get_running_loop().create_future()
        self.desk.settle()
        if not await first(connection, poll):
            extension.poll = None
            return
        call = poll.result()
        said = {
            "eventType": "INVOKE",
            "deadlineMs": call.deadline_ms,
            "requestId": call.id,
            "invokedFunctionArn": call.arn,
            "tracing": {"type": "X-Amzn-Trace-Id", "value": call.trace_id},
        }
        await self.answer(connection, request, 200, said, {"Lambda-Extension-Event-Identifier": str(uuid.uuid4())})


async def first(connection: Connection, awaited: asyncio.Future[Any]) -> bool:
    """Wait for something that a client waits for; tell whether it came before the client hung up."""
    ended = asyncio.ensure_future(connection.stream.ended.wait())
    try:
        await asyncio.wait([awaited, ended], return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended.cancel()
    if ended.done() and not ended.cancelled():
        awaited.cancel()
        return False
    return True


def is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
