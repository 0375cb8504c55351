"""A response that is handed on as the app sends it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .api import Refused, RuntimeApi

if TYPE_CHECKING:
    from starlette.types import Message

    from ..events import HttpEvent

BOUND = 200 * 1024 * 1024
"""Bytes that a streamed response has at most (Lambda quotas)."""


class StreamedExchange:
    """The two ends that an app talks to (ASGI specification, HTTP Connection Scope), over a streamed response.

    The app's first message begins it. Once nobody takes it any more, `send` raises OSError, and `receive` tells of a
    disconnect: Lambda does not say when a client goes, but an invocation may be over before its response.
    """

    def __init__(self, api: RuntimeApi, id: str, http: HttpEvent, body: bytes, *, has_body: bool) -> None:
        self.begun = False
        self.complete = False
        self.gone = False
        self._api = api
        self._id = id
        self._http = http
        self._body: bytes | None = body
        self._has_body = has_body
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
            Refused, OSError: As `RuntimeApi.end`.
        """
        self._leave()
        await self._api.end(error)

    async def _hand_on(self, start: Message, message: Message) -> None:
        body: bytes = message.get("body", b"") if self._has_body else b""
        try:
            if not self.begun:
                self.begun = True
                await self._api.begin(self._id, self._prelude(start))
            self._sent += len(body)
            if self._sent > BOUND:
                raise Refused(413, "A streamed response has at most 200 MB.")
            await self._api.send(body)
            if not message.get("more_body", False):
                self.complete = True
                await self._api.end()
                self.over.set()
        except (OSError, Refused):
            self._leave()
            self._api.abandon()
            raise
        except asyncio.CancelledError:
            # A part of it may be on its way: the connection is closed.
            self._leave()
            raise

    def _prelude(self, start: Message) -> dict[str, Any]:
        return self._http.prelude(start["status"], start.get("headers", ()))

    def _leave(self) -> None:
        self.gone = True
        self.over.set()
