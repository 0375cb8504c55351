"""One HTTP request through the app: an exchange whose failures are Lambda's."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from agent_framework_hosting.exchange import Exchange

from .errors import NoResponse

if TYPE_CHECKING:
    from mangum.types import Response, Scope
    from starlette.types import ASGIApp

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class Invocation(Exchange):
    """An exchange whose failures Lambda counts.

    An exception before the end of the response fails the invocation: nothing has reached the caller yet. One after it
    (a background task, or Starlette's own 500, which raises after it is sent) is logged, and the response stands.
    """

    __slots__ = ("_failure", "_scope")

    def __init__(self, scope: Scope, body: bytes, state: Mapping[str, Any]) -> None:
        super().__init__(body)
        if state:
            scope["state"] = dict(state)
        self._scope = scope
        self._failure: BaseException | None = None

    def run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        """Run the app to its end on a loop that stands still; `response` tells what became of it."""
        task = loop.create_task(self._run(app, loop))
        # As `run_until_complete`, less the round of the loop in which that learns of the end.
        while not task.done():
            loop.run_forever()

    async def _run(self, app: ASGIApp, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await app(self._scope, self.receive, self.send)
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
        if not self.complete:
            if failure is None:
                raise NoResponse("The app returned without a complete response: it must send one, to its end.")
            if isinstance(failure, asyncio.CancelledError):
                # awslambdaric survives nothing but Exception.
                raise NoResponse("The app cancelled its own request: look for a cancelled task or scope.") from failure
            raise failure
        if failure is not None:
            method, path = self._scope["method"], self._scope["path"]
            logger.error("An error followed the response to %s %s.", method, path, exc_info=failure)
        headers = cast("list[list[bytes]]", self.headers)
        return {"status": self.status, "headers": headers, "body": self.body}
