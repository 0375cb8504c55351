"""A response that is handed on as the app sends it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from .api import RuntimeApi, Undelivered

if TYPE_CHECKING:
    from starlette.types import Message

    from ..events import Answer, HttpEvent

BOUND = 200 * 1024 * 1024
"""Bytes that a streamed response has at most (Lambda quotas)."""

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class StreamedExchange:
    """The two ends that an app talks to (ASGI specification, HTTP Connection Scope), over a streamed response.

    The first part of the app's body begins it: what fails before is a failed invocation. Once nobody takes it any more
    it is `gone`: `send` raises OSError, and `receive` tells of a disconnect. `bound` in bytes.
    """

    def __init__(
        self, api: RuntimeApi, id: str, http: HttpEvent, body: bytes, *, has_body: bool, bound: int = BOUND
    ) -> None:
        self.begun = False
        self.complete = False
        self.gone = False
        self.failure: Exception | None = None
        self._api = api
        self._id = id
        self._http = http
        self._body: bytes | None = body
        self._has_body = has_body
        self._bound = bound
        self._start: Message | None = None
        self._sent = 0
        self.over = asyncio.Event()

    async def receive(self) -> Message:
        if (body := self._body) is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        kind: str = message["type"]
        if kind == "http.response.start" and self._start is None:
            self._start = message
        elif kind == "http.response.body" and self._start is not None and not self.complete:
            if self.gone:
                raise OSError("Nobody takes this response any more.")
            await self._hand_on(self._start, message)
        else:
            raise RuntimeError(f"The app sent {kind} where ASGI has no place for it.")

    async def fail(self, error: BaseException) -> None:
        """End a response that was begun with an error.

        Raises:
            Undelivered: It does not arrive.
        """
        self._leave()
        await self._api.end(error)

    async def replace(self, answer: Answer) -> None:
        """Answer in the app's stead, which has not begun; nothing of what it may still send counts.

        Raises:
            Undelivered: It does not arrive.
        """
        self._leave()
        await self._api.begin(self._id, self._http.prelude(answer.status, answer.headers))
        await self._api.send(answer.body if self._has_body else b"")
        await self._api.end()

    async def _hand_on(self, start: Message, message: Message) -> None:
        body: bytes = message.get("body", b"") if self._has_body and start["status"] not in (204, 304) else b""
        prelude = None if self.begun else self._http.prelude(start["status"], start.get("headers", ()))
        try:
            if prelude is not None:
                self.begun = True
                await self._api.begin(self._id, prelude)
            self._sent += len(body)
            if self._sent > self._bound:
                raise Undelivered(f"A streamed response has at most {self._bound} bytes.")
            await self._api.send(body)
            if not message.get("more_body", False):
                self.complete = True
                await self._api.end()
                self.over.set()
        except Undelivered as error:
            if not self.gone:
                self.failure = error
                self._leave()
                self._api.close()
                logger.error("The response of this invocation did not arrive whole: %s", error)
            raise OSError(str(error)) from error
        except asyncio.CancelledError:
            # A part of it may be on its way: the connection is closed.
            self.failure = Undelivered("The app was cancelled while it sent its response.")
            self._leave()
            self._api.close()
            raise

    def _leave(self) -> None:
        self.gone = True
        self.over.set()
