"""A turn whose updates are read one by one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from enum import Enum
from typing import TYPE_CHECKING, Any

from .enclosure import Stopped
from .errors import ConfigurationError
from .hooks import apply_update_hook

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate

    from .active_turn import ActiveTurn
    from .channels import ChannelStreamUpdateHook
    from .requests import HostedRunResult
    from .running.run import Run


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
        self._updates: AsyncIterator[AgentResponseUpdate] | None = None
        self._update_hook = update_hook
        self._phase = Phase.READING
        self._under_way = False
        # Set when that is over; there while another task waits for it to close the stream.
        self._over: asyncio.Event | None = None

    def __aiter__(self) -> AsyncIterator[AgentResponseUpdate]:
        return self

    def __anext__(self) -> Awaitable[AgentResponseUpdate]:
        return self._pull() if self._update_hook is None else self._pull_changed(self._update_hook)

    async def _pull_changed(self, hook: ChannelStreamUpdateHook) -> AgentResponseUpdate:
        while True:
            update = await self._pull()
            try:
                changed = await apply_update_hook(hook, update)
            except BaseException as error:
                await self._fail(error)
                raise
            if changed is not None:
                return changed

    async def feed(self, receive: Callable[[AgentResponseUpdate], bool]) -> bool:
        """Hand out updates as they come, until `receive` says that it has enough; False means that all were read."""
        if self._update_hook is None:
            return await self._feed(receive)
        async for update in self:
            if receive(update):
                return True
        return False

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
        if self._under_way:
            if self._over is None:
                self._over = asyncio.Event()
            self._active.stop()
            await self._over.wait()
        elif self._phase in (Phase.READING, Phase.READ):
            await self._fail(Abandoned())

    async def _pull(self) -> AgentResponseUpdate:
        """Give the next update; raises StopAsyncIteration after the last, and when the stream was closed."""
        found: list[AgentResponseUpdate] = []

        def receive(update: AgentResponseUpdate) -> bool:
            found.append(update)
            return True

        if not await self._feed(receive):
            raise StopAsyncIteration
        return found[0]

    async def _feed(self, receive: Callable[[AgentResponseUpdate], bool]) -> bool:
        """Hand out updates, and tell whether there may be more: not after the last, nor when the stream was closed."""
        if self._phase is not Phase.READING:
            return False
        self._enter()
        try:
            if self._updates is None:
                self._updates = await self._active.inside(self._run.updates())
            more = await self._active.feed(self._updates, receive)
            if more and self._active.turn is not None:
                self._active.turn.check()
        except Stopped:
            await self._fail(Abandoned())
            return False
        except BaseException as error:
            await self._fail(error)
            raise
        finally:
            self._leave()
        if not more:
            self._phase = Phase.READ
        return more

    async def _save(self) -> None:
        while await self._feed(leave):
            pass
        self._enter()
        try:
            if self._phase is Phase.CLOSED:
                raise Stopped
            await self._active.save(await self._active.inside(self._run.final()))
        except Stopped:
            await self._fail(Abandoned())
            raise ConfigurationError(
                "This stream was closed before its run was finished; there is no final response."
            ) from None
        except BaseException as error:
            if self._active.saved is None:
                await self._fail(error)
            raise
        finally:
            try:
                if self._active.saved is not None:  # Also where the caller was cancelled meanwhile.
                    self._phase = Phase.SAVED
                    await self._active.end(None)
            finally:
                self._leave()

    def _enter(self) -> None:
        """Mark that a task is inside the run.

        Raises:
            RuntimeError: Another task is.
        """
        if self._under_way:
            raise RuntimeError("Another task is reading this stream, and only that one may go on with it.")
        self._under_way = True

    def _leave(self) -> None:
        self._under_way = False
        if self._over is not None:
            self._over.set()
            self._over = None

    async def _fail(self, error: BaseException) -> None:
        self._phase = Phase.CLOSED
        try:
            if isinstance(self._updates, AsyncGenerator):
                await self._active.after(self._updates.aclose())  # pyright: ignore[reportUnknownMemberType]
        finally:
            await self._active.end(error)


def leave(update: AgentResponseUpdate) -> bool:
    """Have no use for an update, nor ever enough."""
    return False
