"""One HTTP request through the app: an ASGI exchange whose failures are Lambda's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import NoResponse

if TYPE_CHECKING:
    from mangum.types import Message, Response, Scope

    from agent_framework_hosting.lifespan import ASGIApp

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class Exchange:
    """A request, and the response the app gives to it (ASGI specification, HTTP connection scope).

    The response is collected whole. An exception before its end is a failure of the invocation: nothing has reached
    the caller yet, and Lambda counts it. One after it (a background task, or Starlette's own 500, which raises after
    it is sent) is logged, and the response stands.
    """

    __slots__ = ("_body", "_complete", "_ended", "_failure", "_headers", "_parts", "_scope", "_status")

    def __init__(self, scope: Scope, body: bytes, state: Mapping[str, Any]) -> None:
        if state:
            scope["state"] = dict(state)
        self._scope = scope
        self._body: bytes | None = body
        self._status = 0
        self._headers: list[list[bytes]] = []
        self._parts: list[bytes] = []
        self._complete = False
        self._ended: asyncio.Event | None = None
        self._failure: BaseException | None = None

    def run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        """Run the app to its end on a loop that stands still; `response` tells what became of it."""
        task = loop.create_task(self._run(app, loop))
        # As `run_until_complete`, less the round of the loop in which that learns of the end.
        while not task.done():
            loop.run_forever()

    async def _run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await app(self._scope, self._receive, self._send)
        except BaseException as error:
            self._failure = error
        finally:
            loop.stop()

    def response(self) -> Response:
        """Give the complete response.

        Raises:
            NoResponse: The app ended without one.
            Exception: What the app raised before it was complete.
        """
        failure = self._failure
        if isinstance(failure, (KeyboardInterrupt, SystemExit)):
            raise failure
        if not self._complete:
            if failure is None:
                raise NoResponse("The app returned without a complete response: it must send one, to its end.")
            if isinstance(failure, asyncio.CancelledError):
                # awslambdaric survives nothing but Exception.
                raise NoResponse("The app cancelled its own request: look for a cancelled task or scope.") from failure
            raise failure
        if failure is not None:
            method, path = self._scope["method"], self._scope["path"]
            logger.error("An error followed the response to %s %s.", method, path, exc_info=failure)
        parts = self._parts
        return {
            "status": self._status,
            "headers": self._headers,
            "body": parts[0] if len(parts) == 1 else b"".join(parts),
        }

    async def _receive(self) -> Message:
        if (body := self._body) is not None:
            self._body = None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._complete:
            self._ended = self._ended or asyncio.Event()
            await self._ended.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        kind: str = message["type"]
        if kind == "http.response.start" and self._status == 0:
            self._status = message["status"]
            self._headers = message.get("headers", [])
        elif kind == "http.response.body" and self._status != 0 and not self._complete:
            self._parts.append(message.get("body", b""))
            if not message.get("more_body", False):
                self._complete = True
                if self._ended is not None:
                    self._ended.set()
        else:
            raise RuntimeError(f"The app sent {kind} where ASGI has no place for it.")
