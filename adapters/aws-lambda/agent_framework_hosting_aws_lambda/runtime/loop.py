"""The runtime: starts the function, and serves one invocation after another until the environment ends."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from typing import NoReturn

from ..errors import LambdaError
from ..function import LambdaFunction
from .api import RuntimeApi, RuntimeApiFailed
from .extension import Extension
from .serving import Serving, Stuck
from .snapshot import after_restore, before_snapshot, is_snapshot

SHUTDOWN = 0.4
"""Seconds for the app's shutdown, of the 500 ms that Lambda leaves after SIGTERM."""

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


class NotARuntime(LambdaError):
    """This is no environment of Lambda."""


def address_of_api() -> str:
    """Give where the Runtime API is.

    Raises:
        NotARuntime: Nowhere.
    """
    if address := os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        return address
    raise NotARuntime(
        "AWS_LAMBDA_RUNTIME_API is not set: this is to be started by Lambda, or by its emulator. On a machine of "
        "your own serve the host with af-hosting serve."
    )


def run(load: Callable[[], LambdaFunction], address: str) -> int:
    """Import a function and serve it until the environment ends; returns the process's exit code."""
    gc.disable()
    try:
        function = load()
    except (Exception, SystemExit) as error:
        return asyncio.run(init_failed(RuntimeApi(address), error))
    return asyncio.run(Runtime(function, address).run())


def collect_from_here_on() -> None:
    """Begin to collect garbage: an init makes little, and looking for it would be a tenth of its time.

    What the init has made stays, and need not be looked through ever again.
    """
    gc.freeze()
    gc.enable()


async def init_failed(api: RuntimeApi, error: BaseException) -> int:
    logger.error("The function could not be started: %s", error, exc_info=error)
    try:
        await api.fail_init(error)
    except OSError as unreachable:
        logger.error("The Runtime API could not be told: %s", unreachable)
    return 1


class Runtime:
    """Runs one function in one environment, on one event loop."""

    def __init__(self, function: LambdaFunction, address: str) -> None:
        self._function = function
        self._api = RuntimeApi(address)
        self._extension = Extension(address)
        self._main: asyncio.Task[None] | None = None
        self._ending = False

    async def run(self) -> int:
        """Serve until SIGTERM.

        Returns:
            The process's exit code: 0 after SIGTERM, 1 where the init or the loop failed.
        """
        self._main = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._terminate)
        try:
            await self._start()
        except RestoreFailed:
            return 1
        except Exception as error:
            return await init_failed(self._api, error)
        collect_from_here_on()
        try:
            await self._serve()
        except asyncio.CancelledError:
            if not self._ending:
                raise
            return 0
        except (RuntimeApiFailed, Stuck) as error:
            logger.error("This environment ends: %s", error)
            return 1
        finally:
            await self._stop()

    async def _start(self) -> None:
        snapshot = is_snapshot()
        lifespan = self._function.prepare("always")
        if snapshot:
            before_snapshot()
        await self._extension.start()
        if not snapshot:
            await lifespan.start()
            return
        await self._api.restored()
        try:
            after_restore()
            await lifespan.start()
        except Exception as error:
            await self._api.fail_restore(error)
            raise RestoreFailed from error

    async def _serve(self) -> NoReturn:
        serving = Serving(self._api, self._function)
        while True:
            raw = await self._api.next()
            # In a context of its own: what one invocation sets there the next one does not find.
            await asyncio.create_task(serving.serve(raw), name="hosting-serving")

    def _terminate(self) -> None:
        self._ending = True
        if self._main is not None:
            self._main.cancel()

    async def _stop(self) -> None:
        await self._extension.stop()
        if (lifespan := self._function.lifespan) is None:
            return
        try:
            async with asyncio.timeout(SHUTDOWN):
                await lifespan.stop()
        except Exception as error:
            # The process ends all the same.
            logger.warning("Shutdown failed: %s", error, exc_info=error)


class RestoreFailed(LambdaError):
    """The function could not be started after its snapshot; that was told."""
