"""The Runtime API (Using the Lambda runtime API, version 2018-06-01), as this runtime uses it."""

from __future__ import annotations

import asyncio
import json
import logging
import time
import traceback
from base64 import b64encode
from collections.abc import Mapping
from types import TracebackType
from typing import Any, NamedTuple
from urllib.parse import quote

from ..errors import LambdaError
from .connection import Answered, Broken, Connection, Reply

VERSION = "/2018-06-01/runtime"
STREAMING = {
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Content-Type": "application/vnd.awslambda.http-integration-response",
    "Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
}
TRIES = 6
FIRST_PAUSE = 0.05
LONGEST = 900.0
"""Seconds that an invocation has at most, where the API does not say how many (Lambda quotas)."""

MAX_TRACE = 64
"""Lines of a stack trace that are told."""

MAX_MESSAGE = 16 * 1024
"""Characters of an error's message that are told."""

MAX_TRAILER = 2 * 1024
"""Bytes of an error that are told at the end of a stream: the Runtime API's server, Go's net/http, takes 4 KB of
trailers, encoded, and breaks off at more ("suspiciously long trailer after chunked body")."""

MAX_KIND = 128

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class RuntimeApiFailed(LambdaError):
    """The Runtime API is gone, or does not want this runtime any more: the process has to end."""


class Undelivered(LambdaError):
    """The connection ended, and the answer may not have arrived: no more can be done about it."""


class Refused(Undelivered):
    """The Runtime API did not take an answer. `status` is HTTP's: 413 for one that is too large."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Raw(NamedTuple):
    """An invocation as it comes; `deadline` in seconds since 1970."""

    id: str
    deadline: float
    trace_id: str
    arn: str
    headers: Mapping[str, str]
    event: bytes


class RuntimeApi:
    """What one environment's runtime asks and tells, one thing at a time. `address` is `AWS_LAMBDA_RUNTIME_API`."""

    def __init__(self, address: str) -> None:
        self._connection = Connection(address)

    async def next(self) -> Raw:
        """Wait for the next invocation, without a time-out: the environment is frozen meanwhile.

        Raises:
            RuntimeApiFailed: There will be none.
        """
        failure: Exception = Broken("It was not asked.")
        for number in range(TRIES):
            try:
                reply = await self._connection.request("GET", f"{VERSION}/invocation/next")
            except OSError as error:
                failure = error
                logger.warning("The Runtime API did not answer: %s", error)
            else:
                if reply.status == 200 and "lambda-runtime-aws-request-id" in reply.headers:
                    return raw_of(reply)
                failure = Broken(f"It answered {reply.status}.")
                if reply.status >= 500:  # "Container error. Non-recoverable state. Runtime should exit promptly."
                    break
                # Others pass: the API may not have noticed yet that a response was given up.
            await asyncio.sleep(FIRST_PAUSE * 2**number)
        raise RuntimeApiFailed(f"The Runtime API gives no invocations any more: {failure}") from failure

    async def respond(self, id: str, body: bytes) -> None:
        """Give a whole response.

        Raises:
            Refused: It was not taken.
            Undelivered: The connection ended; it may have been.
        """
        await self._tell(f"{path_of(id)}/response", {"Content-Type": "application/json"}, body)

    async def fail(self, id: str, error: BaseException) -> None:
        """Have an invocation count as failed.

        Raises:
            Undelivered: As `respond`.
        """
        await self._tell(f"{path_of(id)}/error", *error_report(error))

    async def _tell(self, path: str, headers: Mapping[str, str], body: bytes) -> None:
        """Answer an invocation. Where the connection ends the answer is repeated: no second one is taken."""
        try:
            accept(await self._connection.request("POST", path, headers, body))
        except OSError as error:
            logger.warning("The connection to the Runtime API ended, and the answer is repeated: %s", error)
            try:
                reply = await self._connection.request("POST", path, headers, body)
            except OSError as again:
                raise Undelivered(f"The Runtime API takes no answer: {again}") from again
            if reply.status not in (400, 403):  # What it says where it has taken the first one.
                accept(reply)

    async def begin(self, id: str, prelude: Mapping[str, Any]) -> None:
        """Begin a streamed response: a JSON prelude, eight NUL bytes, then the body, by `send`.

        Raises:
            Undelivered: Nobody takes it.
        """
        start = json.dumps(prelude).encode() + bytes(8)
        try:
            await self._connection.begin(f"{path_of(id)}/response", STREAMING)
        except OSError as error:
            raise Undelivered(f"A streamed response could not be begun: {error}") from error
        await self.send(start)

    async def send(self, data: bytes) -> None:
        """Send a part of a streamed body.

        Raises:
            Refused: The response is not taken any more.
            Undelivered: Nobody takes it any more.
        """
        try:
            await self._connection.send(data)
        except Answered as early:
            accept(early.reply)
            raise Undelivered(str(early)) from early
        except OSError as error:
            raise Undelivered(f"A streamed response was broken off: {error}") from error

    async def end(self, error: BaseException | None = None) -> None:
        """End a streamed response; an error after its beginning goes into trailers.

        Raises:
            Refused: It was not taken.
            Undelivered: The connection ended.
        """
        trailers: dict[str, str] = {}
        if error is not None:
            told = described(error)
            trailers = {
                "Lambda-Runtime-Function-Error-Type": told["errorType"],
                "Lambda-Runtime-Function-Error-Body": b64encode(in_short(told)).decode(),
            }
        try:
            accept(await self._connection.finish(trailers))
        except OSError as broken:
            raise Undelivered(f"A streamed response was broken off: {broken}") from broken

    def close(self) -> None:
        """End the connection; a response that was begun is given up."""
        self._connection.close()

    async def fail_init(self, error: BaseException) -> None:
        """Have the init count as failed.

        Raises:
            OSError: The API cannot be reached.
        """
        await self._connection.request("POST", f"{VERSION}/init/error", *error_report(error))

    async def restored(self) -> None:
        """Have the snapshot taken, and wait until an environment is made from it (SnapStart).

        Raises:
            RuntimeApiFailed: None will be.
        """
        try:
            reply = await self._connection.request("GET", f"{VERSION}/restore/next")
        except OSError as error:
            raise RuntimeApiFailed(f"The Runtime API did not answer at the end of the init: {error}") from error
        finally:
            # It belongs to the environment that the snapshot was taken of.
            self._connection.close()
        if reply.status != 200:
            raise RuntimeApiFailed(f"The Runtime API answered {reply.status} at the end of the init.")

    async def fail_restore(self, error: BaseException) -> None:
        """Have the restoring count as failed.

        Raises:
            OSError: The API cannot be reached.
        """
        await self._connection.request("POST", f"{VERSION}/restore/error", *error_report(error))


def path_of(id: str) -> str:
    return f"{VERSION}/invocation/{quote(id, safe='')}"


def raw_of(reply: Reply) -> Raw:
    headers = reply.headers
    told = headers.get("lambda-runtime-deadline-ms", "")
    return Raw(
        headers["lambda-runtime-aws-request-id"],
        int(told) / 1000 if told.isascii() and told.isdecimal() else time.time() + LONGEST,
        headers.get("lambda-runtime-trace-id", ""),
        headers.get("lambda-runtime-invoked-function-arn", ""),
        headers,
        reply.body,
    )


def accept(reply: Reply) -> None:
    """Make sure that something was taken.

    Raises:
        Refused: It was not.
    """
    if reply.status >= 300:
        raise Refused(reply.status, f"The Runtime API answered {reply.status} to a response.")


def error_report(error: BaseException) -> tuple[Mapping[str, str], bytes]:
    """Give the headers and the body that tell of an error."""
    told = described(error)
    headers = {"Content-Type": "application/json", "Lambda-Runtime-Function-Error-Type": told["errorType"]}
    return headers, json.dumps(told).encode()


def described(error: BaseException) -> dict[str, Any]:
    """Tell an error as Lambda shows it; the trace names code, and no values."""
    lines = traceback.format_tb(trace) if isinstance(trace := error.__traceback__, TracebackType) else []
    kind = type(error).__name__
    return {
        # A name made at run time may be anything, and stands in a header.
        "errorType": kind[:MAX_KIND] if kind.isascii() and kind.isidentifier() else "Error",
        "errorMessage": message_of(error),
        "stackTrace": lines[-MAX_TRACE:],
    }


def in_short(told: Mapping[str, Any]) -> bytes:
    """Encode an error in the bytes that a trailer may have: the trace goes from its start on, then half the message."""
    trace: list[str] = told["stackTrace"]
    message: str = told["errorMessage"]
    while len(content := json.dumps({**told, "errorMessage": message, "stackTrace": trace}).encode()) > MAX_TRAILER:
        if trace:
            trace = trace[1:]
        else:
            message = message[: len(message) // 2]
    return content


def message_of(error: BaseException) -> str:
    try:
        return str(error)[:MAX_MESSAGE]
    except Exception:
        # The operator's own `__str__`: what it raises must not keep the error itself from being told.
        return "(its message cannot be told)"
