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
from ..snapshots import after_restore, before_snapshot, is_snapshot
from ..stopping import Stuck
from .api import RuntimeApi, RuntimeApiFailed, message_of
from .ending import LAST_WORDS, end_within
from .extension import Extension
from .processes import watch_parent
from .serving import Serving

LETTING_GO = 0.1
"""Seconds in which an invocation ends that SIGTERM has come into."""

SHUTDOWN = 0.25
"""Seconds for the app's shutdown; with the others', and `LAST_WORDS`, less than the 500 ms that Lambda leaves."""

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
    """Import a function, outside of any event loop as the stock runtime does, and serve it until the environment ends.

    Returns:
        The process's exit code.
    """
    # An init makes little garbage, and looking for it would be a tenth of its time.
    gc.disable()
    runtime = Runtime(load, address)
    runtime.load()
    code = 1
    with asyncio.Runner() as runner:
        try:
            code = runner.run(runtime.run())
        finally:
            end_within(LAST_WORDS, code)
    return code


async def init_failed(api: RuntimeApi, error: Exception | SystemExit) -> int:
    """Tell that the init failed, or the restoring from its snapshot; gives the process's exit code."""
    tell = api.fail_init
    if isinstance(error, RestoreFailed) and isinstance(error.__cause__, Exception):
        error, tell = error.__cause__, api.fail_restore
    logger.error("The function could not be started: %s", message_of(error), exc_info=error)
    try:
        await tell(error)
    except OSError as unreachable:
        logger.error("The Runtime API could not be told: %s", unreachable)
    return 1


class Runtime:
    """Runs one function in one environment, on one event loop; `load` imports it."""

    def __init__(self, load: Callable[[], LambdaFunction], address: str) -> None:
        self._load = load
        self._function: LambdaFunction | None = None
        self._failure: Exception | SystemExit | None = None
        self._api = RuntimeApi(address)
        self._extension = Extension(address)
        self._main: asyncio.Task[None] | None = None
        self._ending = False

    def load(self) -> None:
        """Import the function, outside of any event loop; `run` tells what that raised, and imports it otherwise."""
        try:
            self._function = self._load()
        except (Exception, SystemExit) as error:
            self._failure = error

    async def run(self) -> int:
        """Serve until SIGTERM, or until the parent process ends that started this one of several.

        Returns:
            The process's exit code: 0 after SIGTERM, 1 where the init or the loop failed.
        """
        self._main = asyncio.current_task()
        shutdown = SHUTDOWN
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.terminate)
        watch_parent(loop, self.terminate)
        try:
            try:
                function = await self._start()
            except (Exception, SystemExit) as error:
                return await init_failed(self._api, error)
            # What the init has made stays, and need not be looked through ever again.
            if not gc.isenabled():
                gc.freeze()
                gc.enable()
            await self._serve(function)
        except asyncio.CancelledError:
            if not self._ending:
                raise
            return 0
        except Stuck as stuck:
            logger.error("This environment ends: %s", stuck)
            shutdown = LAST_WORDS
            if self._function is not None:
                await self._function.let_go()
            return 1
        except RuntimeApiFailed as error:
            logger.error("This environment ends: %s", error)
            return 1
        finally:
            await self._stop(shutdown)
            self._api.close()

    async def _start(self) -> LambdaFunction:
        snapshot = is_snapshot()
        if self._failure is not None:
            raise self._failure
        function = self._function = self._function or self._load()
        lifespan = function.prepare("always")
        if snapshot:
            before_snapshot()
        await self._extension.start()
        if not snapshot:
            await lifespan.start()
            return function
        await self._api.restored()
        try:
            after_restore()
            await lifespan.start()
        except Exception as error:
            raise RestoreFailed("The function could not be started after its restore.") from error
        return function

    async def _serve(self, function: LambdaFunction) -> NoReturn:
        serving = Serving(self._api, function)
        while True:
            raw = await self._api.next()
            # In a context of its own: what one invocation sets there the next one does not find.
            task = asyncio.create_task(serving.serve(raw), name="hosting-serving")
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                task.cancel()
                await asyncio.wait({task}, timeout=LETTING_GO)
                raise
            task.result()

    def terminate(self) -> None:
        """End: a second call changes nothing."""
        if self._main is not None and not self._ending:
            self._ending = True
            self._main.cancel()

    async def _stop(self, seconds: float) -> None:
        await self._extension.stop()
        if self._function is None or (lifespan := self._function.lifespan) is None:
            return
        try:
            async with asyncio.timeout(seconds):
                await lifespan.stop()
        except Exception as error:
            # The process ends all the same.
            logger.warning("Shutdown failed: %s", error, exc_info=error)


class RestoreFailed(LambdaError):
    """The function could not be started from its snapshot; the cause is chained."""
