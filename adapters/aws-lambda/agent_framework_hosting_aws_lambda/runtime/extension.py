"""An extension inside the runtime, which registers for no event: only where there is one Lambda sends SIGTERM.

Using the Lambda Extensions API, version 2020-01-01. What it asks for next never comes; Lambda waits for the question
before it counts the init as done.
"""

from __future__ import annotations

import asyncio
import logging

from .connection import Broken, Connection

NAME = "agent-framework-hosting"
EXTENSION = "/2020-01-01/extension"

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class Extension:
    """Registered between `start` and `stop`."""

    def __init__(self, address: str) -> None:
        self._connection = Connection(address)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Register; where that is refused, shutdown is only not told of."""
        try:
            headers = {"Lambda-Extension-Name": NAME, "Content-Type": "application/json"}
            reply = await self._connection.request("POST", f"{EXTENSION}/register", headers, b'{"events":[]}')
            if reply.status != 200:
                raise Broken(f"It answered {reply.status}.")
        except OSError as error:
            self._connection.close()
            logger.debug("No extension could be registered: %s", error)
            return
        identifier = reply.headers.get("lambda-extension-identifier", "")
        self._task = asyncio.create_task(self._wait(identifier), name="hosting-extension")

    async def _wait(self, identifier: str) -> None:
        try:
            await self._connection.request(
                "GET", f"{EXTENSION}/event/next", {"Lambda-Extension-Identifier": identifier}
            )
        except OSError as error:
            logger.debug("The Extensions API ended the connection: %s", error)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None
        self._connection.close()
