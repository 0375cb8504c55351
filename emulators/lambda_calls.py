"""An invocation as its caller sees it, and the answer that a runtime gave to it."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, cast

from emulators.lambda_runtime import members

PRELUDE_END = bytes(8)
INTEGRATION_RESPONSE = "application/vnd.awslambda.http-integration-response"
PATIENCE = 30.0
REGION = "eu-central-1"
FUNCTION = "function"


class Bell:
    """Wakes who waits for something to change. `logs` is added to the complaints of those who waited in vain."""

    def __init__(self, logs: Callable[[], str]) -> None:
        self.logs = logs
        self.waiters: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def until(self, condition: Callable[[], bool], complaint: str, timeout: float) -> None:
        """Wait until `condition` holds.

        Raises:
            TimeoutError: It does not after `timeout` seconds.
        """
        try:
            async with asyncio.timeout(timeout):
                while not condition():
                    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    self.waiters.add(waiter)
                    try:
                        await waiter
                    finally:
                        self.waiters.discard(waiter)
        except TimeoutError:
            raise TimeoutError(f"{complaint}\n--- logs ---\n{self.logs()}") from None


@dataclass(frozen=True)
class FunctionError:
    """`errorType`, `errorMessage` and `stackTrace` of what a runtime reported; `header` has the error type, too."""

    type: str
    message: str
    trace: tuple[str, ...] = ()
    header: str | None = None

    @classmethod
    def parse(cls, body: bytes, header: str | None) -> FunctionError:
        """Take an error's document as it was sent; one that cannot be read is all message."""
        try:
            said = members(json.loads(body))
        except ValueError:
            return cls(header or "", body.decode(errors="replace"), header=header)
        trace = cast("list[object]", said.get("stackTrace") or [])
        return cls(
            str(said.get("errorType") or header or ""),
            str(said.get("errorMessage") or ""),
            tuple(str(line) for line in trace),
            header,
        )

    @classmethod
    def from_trailers(cls, trailers: Mapping[str, str]) -> FunctionError | None:
        """Give the error that ended a stream ("Using the Lambda runtime API": trailers), or None where none did."""
        kind = trailers.get("lambda-runtime-function-error-type")
        body = trailers.get("lambda-runtime-function-error-body", "")
        if kind is None:
            return None
        try:
            return cls.parse(base64.b64decode(body, validate=True), kind)
        except binascii.Error:
            return cls(kind, body, header=kind)


@dataclass(frozen=True)
class Answer:
    """What a runtime answered.

    `body` is what it sent, of a stream without the `prelude`. `status`, `headers` and `cookies` are those of the HTTP
    response in it, be it a prelude or a proxy integration's result; without one, `status` is None. `trailers` are those
    that were declared, their names in lower case. `content_type` is that of the POST.
    """

    mode: Literal["buffered", "streaming"] = "buffered"
    body: bytes = b""
    content_type: str = ""
    prelude: dict[str, Any] | None = None
    trailers: Mapping[str, str] = field(default_factory=dict[str, str])
    error: FunctionError | None = None

    @cached_property
    def json(self) -> Any:
        """The body's JSON document."""
        return json.loads(self.body)

    @cached_property
    def http(self) -> dict[str, Any]:
        """The HTTP response: `statusCode`, `headers`, `cookies`; empty where the answer is none."""
        if self.mode == "streaming":
            return self.prelude or {}
        try:
            result = members(self.json)
        except ValueError:
            return {}
        return result if "statusCode" in result else {}

    @property
    def status(self) -> int | None:
        return self.http.get("statusCode")

    @property
    def headers(self) -> dict[str, str]:
        return self.http.get("headers") or {}

    @property
    def cookies(self) -> list[str]:
        return self.http.get("cookies") or []

    @property
    def payload(self) -> bytes:
        """The HTTP response's body, as its client gets it."""
        if self.mode == "streaming" or not self.http:
            return self.body
        body = self.http.get("body") or ""
        return base64.b64decode(body) if self.http.get("isBase64Encoded") else body.encode()


class Invocation:
    """One call of the function. All times are `time.monotonic()`, and None until they have come.

    `started`: a runtime got it. `began`: the prelude was there, so that a client would have its headers. `finished`:
    the POST of the response, or of an error, had ended. `returned`: its runtime asked for the next one. `chunks` are
    those of a streamed payload, with their arrival, while they come; the platform keeps no such bounds. `mode` is None
    until the response begins.
    """

    def __init__(self, event: object, timeout: float, trace_id: str, arn: str, bell: Bell) -> None:
        self.id = str(uuid.uuid4())
        self.event = event if isinstance(event, bytes) else json.dumps(event).encode()
        self.timeout = timeout
        self.trace_id = trace_id
        self.arn = arn
        self.bell = bell
        self.chunks: list[tuple[float, bytes]] = []
        self.started: float | None = None
        self.began: float | None = None
        self.prelude: dict[str, Any] | None = None
        self.finished: float | None = None
        self.returned: float | None = None
        self.mode: Literal["buffered", "streaming"] | None = None
        self.timed_out = False
        self.deadline_ms = 0
        self.result: Answer | None = None

    @property
    def payload(self) -> bytes:
        """What has come of a streamed payload."""
        return b"".join(chunk for _, chunk in self.chunks)

    async def answer(self, timeout: float = PATIENCE) -> Answer:
        """Wait for the answer: an error is one, too.

        Raises:
            TimeoutError: There is none after `timeout` seconds.
        """
        await self.bell.until(lambda: self.result is not None, f"No answer to {self.id}.", timeout)
        assert self.result is not None
        return self.result

    async def head(self, timeout: float = PATIENCE) -> dict[str, Any]:
        """Wait for the prelude of a streamed response, or for the whole of one that is not streamed.

        Raises:
            TimeoutError: There is none after `timeout` seconds.
        """
        is_there = lambda: self.prelude is not None or self.result is not None  # noqa: E731
        await self.bell.until(is_there, f"No response to {self.id} begins.", timeout)
        if self.prelude is not None:
            return self.prelude
        assert self.result is not None
        return {"statusCode": self.result.status, "headers": self.result.headers}

    async def first_chunk(self, timeout: float = PATIENCE) -> tuple[float, bytes]:
        """Wait for the first part of a streamed payload; give its arrival and it.

        Raises:
            TimeoutError: There is none after `timeout` seconds.
        """
        await self.bell.until(lambda: bool(self.chunks), f"Nothing streamed for {self.id}.", timeout)
        return self.chunks[0]

    async def pieces(self, timeout: float = PATIENCE) -> AsyncGenerator[bytes]:
        """Give the parts of a streamed payload as they come.

        Raises:
            TimeoutError: Nothing came for `timeout` seconds.
        """
        given: list[bytes] = []

        def is_more() -> bool:
            return len(self.chunks) > len(given) or self.result is not None

        while True:
            await self.bell.until(is_more, f"Nothing more of {self.id}.", timeout)
            if len(given) == len(self.chunks):
                return
            given.append(self.chunks[len(given)][1])
            yield given[-1]

    async def received(self, part: bytes, timeout: float = PATIENCE) -> None:
        """Wait until `part` is in the streamed payload.

        Raises:
            TimeoutError: It is not after `timeout` seconds.
        """
        await self.bell.until(lambda: part in self.payload, f"No {part!r} streamed for {self.id}.", timeout)

    async def handed_out(self, timeout: float = PATIENCE) -> float:
        """Wait until a runtime has it; give when that was.

        Raises:
            TimeoutError: None has after `timeout` seconds.
        """
        await self.bell.until(lambda: self.started is not None, f"No runtime took {self.id}.", timeout)
        assert self.started is not None
        return self.started

    async def over(self, timeout: float = PATIENCE) -> float:
        """Wait until its runtime asked for the next one, and so is done with what came after the response, too.

        Raises:
            TimeoutError: It has not after `timeout` seconds.
        """
        await self.bell.until(lambda: self.returned is not None, f"The runtime is not back from {self.id}.", timeout)
        assert self.returned is not None
        return self.returned

    def start(self) -> None:
        self.started = time.monotonic()
        self.deadline_ms = int((time.time() + self.timeout) * 1000)

    def conclude(self, answer: Answer) -> None:
        """Take an answer; the first one counts."""
        self.finished = self.finished or time.monotonic()
        self.result = self.result or answer
        self.bell.ring()

    def fail(self, kind: str, message: str) -> None:
        """Answer as the platform does for a runtime that does not."""
        self.conclude(Answer(self.mode or "buffered", self.payload, error=FunctionError(kind, message)))

    def break_off(self, message: str) -> None:
        """Answer for a runtime that is gone: within its response, or before it."""
        self.fail("Runtime.ExitError" if self.mode is None else "Runtime.TruncatedResponse", message)


class Prelude:
    """Cuts the prelude off a streamed response, which is JSON and ends with eight NUL bytes."""

    def __init__(self) -> None:
        self.start: bytes | None = b""
        self.found: dict[str, Any] | None = None

    def feed(self, piece: bytes) -> bytes:
        """Take a part of the response; give what of it is payload.

        Raises:
            ValueError: The prelude is no JSON object.
        """
        if self.start is None:
            return piece
        self.start += piece
        text, end, payload = self.start.partition(PRELUDE_END)
        if end:
            self.start = None
            said = json.loads(text)
            if not isinstance(said, dict):
                raise ValueError(f"The prelude is no object: {text!r}")
            self.found = members(cast("object", said))
        return payload
