"""What became of a request: an HTTP response, or an error that belongs to Lambda."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .errors import NoResponse

if TYPE_CHECKING:
    from mangum.types import Message, Receive, Scope, Send

    from agent_framework_hosting.lifespan import ASGIApp

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class Outcome:
    """The app, with the failure of its last call.

    Mangum answers every exception with a 500, which Lambda counts as a success. Here an exception before the end of
    the response is a failure of the invocation: nothing has reached the caller yet. One after it (a background task,
    or Starlette's own 500, which raises after it is sent) is logged, and the response stands.
    """

    def __init__(self, app: ASGIApp, state: Mapping[str, Any]) -> None:
        self.app = app
        self.state = state
        self.failure: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.failure = None
        started = complete = False

        async def watch(message: Message) -> None:
            nonlocal started, complete
            await send(message)
            if message["type"] == "http.response.start":
                started = True
            elif not message.get("more_body", False):
                complete = True

        if self.state:
            scope["state"] = dict(self.state)
        try:
            await self.app(scope, receive, watch)
        except (KeyboardInterrupt, SystemExit) as error:
            self.failure = error
        except BaseException as error:
            if complete:
                logger.exception("An error followed the response to %s %s.", scope["method"], scope["path"])
            elif isinstance(error, asyncio.CancelledError):
                # awslambdaric survives nothing but Exception.
                self.failure = NoResponse("The app cancelled its own request: look for a cancelled task or scope.")
                self.failure.__cause__ = error
            else:
                self.failure = error
        else:
            if not complete:
                self.failure = NoResponse("The app returned without a complete response: it must send one, to its end.")
        if not complete:
            # Nobody sees this response; it keeps Mangum from making, and logging, one of its own.
            if not started:
                await send({"type": "http.response.start", "status": 500, "headers": []})
            await send({"type": "http.response.body", "body": b""})

    def settle(self) -> None:
        """Raise the failure of the last call, if there was one."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure
