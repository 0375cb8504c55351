"""Nothing runs before the host has started: HTTP calls, queue messages and timers all wait for it."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from azure.functions import Function

from agent_framework_hosting import HostingError
from agent_framework_hosting.lifespan import Lifespan

if TYPE_CHECKING:
    from starlette.types import ASGIApp

logger = logging.getLogger("agent_framework.hosting.azure_functions")

STOP_SECONDS = 5.0


class HostNotStarted(HostingError):
    """The host's start-up failed, so this call was not served; the next call tries again."""


class Startup:
    """Starts the app once for all callers. A start-up that failed is tried again by the next call."""

    def __init__(self, app: ASGIApp, *, stop_seconds: float = STOP_SECONDS) -> None:
        self._app = app
        self._stop_seconds = stop_seconds
        self._lifespan = Lifespan(app)
        self._first: asyncio.Task[None] | None = None

    @property
    def state(self) -> dict[str, Any]:
        """What the app's lifespan left for its requests."""
        return self._lifespan.state

    def begin(self) -> None:
        """Start at once, on the running loop, without anybody waiting."""
        self._first = asyncio.get_running_loop().create_task(self._begin(), name="host start-up")

    async def _begin(self) -> None:
        try:
            await self.ready()
        except HostNotStarted as error:
            logger.critical("%s", error, exc_info=error.__cause__)

    async def ready(self) -> None:
        """Return when the app has started.

        Raises:
            HostNotStarted: Start-up failed; the message names the cause.
        """
        lifespan = self._lifespan
        try:
            await lifespan.start()
        except Exception as error:
            if self._lifespan is lifespan:
                self._lifespan = Lifespan(self._app)
            raise HostNotStarted(
                f"The host could not start, and the next call will try again: {type(error).__name__}: {error}"
            ) from error

    async def stop(self) -> None:
        """Run the app's shutdown, for `stop_seconds` at most; failures are logged, for nobody can act on them."""
        try:
            async with asyncio.timeout(self._stop_seconds):
                await self._lifespan.stop()
        except TimeoutError:
            logger.error("The host's shutdown took longer than %g s and was given up.", self._stop_seconds)
        except Exception:
            # The worker ends all the same.
            logger.exception("The host's shutdown failed.")


class WaitingFunction:
    """A function of the app's author that runs after the host's start-up; all else about it is its own."""

    def __init__(self, function: Function, startup: Startup, loop: asyncio.AbstractEventLoop) -> None:
        self._function = function
        self._waiting = waiting(function.get_user_function(), startup, loop)

    def get_user_function(self) -> Callable[..., Any]:
        return self._waiting

    def __getattr__(self, name: str) -> Any:
        return getattr(self._function, name)


def waiting(user: Callable[..., Any], startup: Startup, loop: asyncio.AbstractEventLoop) -> Callable[..., Any]:
    """Wrap an async function, or one that the worker runs on a thread."""

    async def on_loop(*args: Any, **kwargs: Any) -> Any:
        await startup.ready()
        return await user(*args, **kwargs)

    def on_thread(*args: Any, **kwargs: Any) -> Any:
        asyncio.run_coroutine_threadsafe(startup.ready(), loop).result()
        return user(*args, **kwargs)

    wrapper = on_loop if inspect.iscoroutinefunction(user) else on_thread
    # The worker takes context.function_directory from the file of the function's code.
    wrapper.__code__ = wrapper.__code__.replace(co_filename=inspect.getfile(inspect.unwrap(user)))
    return functools.wraps(user)(wrapper)
