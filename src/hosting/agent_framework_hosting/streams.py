"""A turn whose updates are read one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Generator
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ConfigurationError
from .hooks import apply_update_hook

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate

    from .channels import ChannelStreamUpdateHook
    from .requests import HostedRunResult
    from .running.run import Run
    from .turns import ActiveTurn

_END: Any = object()
T = TypeVar("T")


class Phase(Enum):
    """How far a stream has come; it only goes down this list."""

    READING = "there may be updates left"
    READ = "every update was read, and the turn is to be saved"
    SAVED = "the turn is saved"
    CLOSED = "the run was stopped, or failed: the conversation is as it was before"


class Abandoned(Exception):
    """The stream was closed before its end."""


class TurnStream:
    """The host's `HostedStream`."""

    def __init__(
        self,
        active: ActiveTurn,
        run: Run,
        update_hook: ChannelStreamUpdateHook | None,
    ) -> None:
        self.session = run.session
        self.hosted: HostedRunResult[Any] | None = None
        self._active = active
        self._run = run
        self._updates = run.updates()
        self._update_hook = update_hook
        self._phase = Phase.READING
        # Set while a task awaits a piece of the run, or its end: closing by another task goes through it.
        self._under_way: asyncio.Event | None = None
        self._scope: asyncio.Timeout | None = None

    def __aiter__(self) -> AsyncIterator[AgentResponseUpdate]:
        return self

    async def __anext__(self) -> AgentResponseUpdate:
        while True:
            update = await self._pull()
            if update is _END:
                raise StopAsyncIteration
            if self._update_hook is None:
                return update
            try:
                changed = await apply_update_hook(self._update_hook, update)
            except BaseException as error:
                await self._fail(error)
                raise
            if changed is not None:
                return changed

    def __await__(self) -> Any:
        return self.get_final_response().__await__()

    async def get_final_response(self) -> Any:
        """Read the rest, save the turn and apply the response hook.

        Raises:
            ConfigurationError: The stream was closed before it was finished.
        """
        if self.hosted is None:
            try:
                if self._active.saved is None:
                    await self._save()
            except BaseException:
                await self._active.conclude_unheard()
                raise
            self.hosted = await self._active.conclude()
        return self.hosted.result

    async def aclose(self) -> None:
        """Cancel the run unless it is finished; the conversation is then as it was before.

        Another task may be reading: its reading ends. One that is saving the turn is waited for.
        """
        if self._under_way is not None:
            if self._scope is not None:
                self._scope.reschedule(asyncio.get_running_loop().time())
            await self._under_way.wait()
        elif self._phase in (Phase.READING, Phase.READ):
            await self._fail(Abandoned())

    async def _pull(self) -> Any:
        if self._phase is not Phase.READING:
            return _END
        with self._mark():
            try:
                update = await self._step(anext(self._updates, _END))
                if update is _END:
                    self._phase = Phase.READ
                elif self._active.turn is not None:
                    self._active.turn.check()
            except Abandoned as error:
                await self._fail(error)
                return _END
            except BaseException as error:
                await self._fail(error)
                raise
        return update

    async def _save(self) -> None:
        while await self._pull() is not _END:
            pass
        with self._mark():
            try:
                if self._phase is Phase.CLOSED:
                    raise Abandoned
                await self._active.save(await self._step(self._run.final()))
            except Abandoned as error:
                await self._fail(error)
                raise ConfigurationError(
                    "This stream was closed before its run was finished; there is no final response."
                ) from None
            except BaseException as error:
                if self._active.saved is None:
                    await self._fail(error)
                raise
            finally:
                if self._active.saved is not None:  # Also where the caller was cancelled meanwhile.
                    self._phase = Phase.SAVED
                    await self._active.end(None)

    @contextmanager
    def _mark(self) -> Generator[None]:
        """Mark the time in which a task is inside the run.

        Raises:
            RuntimeError: Another task is.
        """
        if self._under_way is not None:
            raise RuntimeError("Another task is reading this stream, and only that one may go on with it.")
        over = self._under_way = asyncio.Event()
        try:
            yield
        finally:
            self._under_way = None
            over.set()

    async def _step(self, work: Awaitable[T]) -> T:
        """Await a piece of the run, so that another task can stop it by closing the stream.

        Raises:
            Abandoned: That happened.
        """
        scope = asyncio.timeout(None)
        try:
            async with scope:
                self._scope = scope
                return await self._active.inside(work)
        except TimeoutError:
            if scope.expired():
                raise Abandoned from None
            raise
        finally:
            self._scope = None

    async def _fail(self, error: BaseException) -> None:
        self._phase = Phase.CLOSED
        try:
            await self._updates.aclose()
        finally:
            await self._active.end(error)
