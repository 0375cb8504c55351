"""Runs an ASGI app's lifespan once, for servers that have none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from .errors import HostingError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message

__all__ = ["Lifespan", "LifespanFailed"]


class LifespanFailed(HostingError):
    """The app reported a failed start-up or shutdown; the cause, where it is known, is chained."""


class Lifespan:
    """Start-up and shutdown of one app (ASGI specification, Lifespan Protocol), each at most once.

    Use it on one event loop: the app's task lives there between `start` and `stop`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._task: asyncio.Task[None] | None = None
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._started: asyncio.Future[None] | None = None
        self._stopped: asyncio.Future[None] | None = None
        self.state: dict[str, Any] = {}

    async def start(self) -> None:
        """Run start-up; concurrent calls wait for the same one.

        Raises:
            Exception: What the app raised during start-up.
            LifespanFailed: The app only reported that it failed.
        """
        if self._started is None:
            loop = asyncio.get_running_loop()
            self._started, self._stopped = loop.create_future(), loop.create_future()
            await self._inbox.put({"type": "lifespan.startup"})
            self._task = asyncio.create_task(self._run(self._started, self._stopped), name="lifespan")
        await asyncio.shield(self._started)

    async def stop(self) -> None:
        """Run shutdown, if start-up succeeded; later calls wait for the same one."""
        if self._started is None or self._stopped is None or self._task is None:
            return
        if not self._started.done() or self._started.exception() is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            return
        if not self._stopped.done():
            await self._inbox.put({"type": "lifespan.shutdown"})
        await asyncio.shield(self._stopped)

    async def _run(self, started: asyncio.Future[None], stopped: asyncio.Future[None]) -> None:
        async def send(message: Message) -> None:
            kind: str = message["type"]
            future = started if kind.startswith("lifespan.startup") else stopped
            if future.done():
                return
            if kind.endswith(".complete"):
                future.set_result(None)
            else:
                # The app raises its own exception right after this message; that one tells more.
                failures.append(message.get("message", ""))

        failures: list[str] = []
        raised: BaseException | None = None
        try:
            scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}, "state": self.state}
            await self._app(scope, self._inbox.get, send)
        except asyncio.CancelledError as error:
            raised = error
            raise
        except Exception as error:
            raised = error
        finally:
            for future in (started, stopped):
                if not future.done():
                    self._settle(future, raised, failures)

    @staticmethod
    def _settle(future: asyncio.Future[None], raised: BaseException | None, failures: list[str]) -> None:
        if isinstance(raised, Exception):
            future.set_exception(raised)
        elif failures:
            future.set_exception(LifespanFailed(f"The app failed to start or stop: {failures[-1]}"))
        elif raised is not None:
            future.cancel()
        else:
            future.set_result(None)
        if not future.cancelled():
            future.exception()  # Retrieved here: nobody may ever wait for the other one.
