"""One request and the whole response an app gives to it, for platforms that take a response in one piece."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.types import Message

__all__ = ["Exchange"]


class Exchange:
    """The two ends that an app talks to (ASGI specification, HTTP Connection Scope).

    `complete` tells whether the app has sent its response to the end. Until then a `receive` after the body waits.
    """

    __slots__ = ("_body", "_ended", "_parts", "complete", "headers", "status")

    def __init__(self, body: bytes) -> None:
        self.status = 0
        self.headers: Iterable[tuple[bytes, bytes]] = ()
        self.complete = False
        self._body: bytes | None = body
        self._parts: list[bytes] = []
        self._ended: asyncio.Event | None = None

    @property
    def body(self) -> bytes:
        parts = self._parts
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def receive(self) -> Message:
        if (body := self._body) is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self.complete:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        kind: str = message["type"]
        if kind == "http.response.start" and self.status == 0:
            self.status = message["status"]
            self.headers = message.get("headers", ())
        elif kind == "http.response.body" and self.status != 0 and not self.complete:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                self.complete = True
                if self._ended is not None:
                    self._ended.set()
        else:
            raise RuntimeError(f"The app sent {kind} where ASGI has no place for it.")
