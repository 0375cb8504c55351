"""Turns of one target in its conversations."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING, Any

from .active_turn import ActiveTurn, current_turn, outcome_word
from .errors import ConfigurationError
from .hooks import apply_run_hook
from .keys import check_key
from .requests import ChannelRequest, HostedRunResult
from .state.conversations import amend, amend_turn, reset, reset_turn
from .streams import TurnStream
from .telemetry import start_turn
from .working import current_update

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from .channels import Attach, ChannelResponseHook, ChannelRunHook, ChannelStreamUpdateHook, OnSaved
    from .running.run import Runner
    from .state.conversations import Conversations


class Turns:
    """Runs turns of one target in its conversations; `turn_timeout` in seconds bounds what a turn waits for others."""

    def __init__(self, conversations: Conversations, *, turn_timeout: float) -> None:
        self.conversations = conversations
        self.turn_timeout = turn_timeout
        self.tracer: Tracer | None = None
        self._runner: Runner | None = None

    @property
    def runner(self) -> Runner:
        if self._runner is None:
            raise ConfigurationError(
                "The app has not been started: run its ASGI lifespan before the first request (an adapter does, and "
                "so does every ASGI server that supports lifespan)."
            )
        return self._runner

    @runner.setter
    def runner(self, runner: Runner | None) -> None:
        self._runner = runner

    async def run(
        self,
        request: ChannelRequest,
        *,
        run_hook: ChannelRunHook | None,
        protocol_request: object,
        response_hook: ChannelResponseHook | None,
        channel_name: str,
        on_saved: OnSaved | None = None,
        attach: Attach | None = None,
    ) -> HostedRunResult[Any]:
        active = await self._active(request, run_hook, protocol_request, channel_name, response_hook, on_saved, attach)
        try:
            run = await active.begin()
            await active.save(await active.inside(run.once()))
            await active.end(None)
        except BaseException as error:
            await active.end(error)
            await active.conclude_unheard()
            raise
        return await active.conclude()

    async def stream(
        self,
        request: ChannelRequest,
        *,
        run_hook: ChannelRunHook | None,
        protocol_request: object,
        stream_update_hook: ChannelStreamUpdateHook | None,
        response_hook: ChannelResponseHook | None,
        channel_name: str,
        on_saved: OnSaved | None = None,
        attach: Attach | None = None,
    ) -> TurnStream:
        active = await self._active(request, run_hook, protocol_request, channel_name, response_hook, on_saved, attach)
        try:
            run = await active.begin()
        except BaseException as error:
            await active.end(error)
            raise
        return TurnStream(active, run, stream_update_hook)

    async def _active(
        self,
        request: ChannelRequest,
        run_hook: ChannelRunHook | None,
        protocol_request: object,
        channel_name: str,
        response_hook: ChannelResponseHook | None,
        on_saved: OnSaved | None,
        attach: Attach | None,
    ) -> ActiveTurn:
        target = self.runner.target
        if run_hook is not None:
            request = await apply_run_hook(run_hook, request, target=target, protocol_request=protocol_request)
        return ActiveTurn(self, request, channel_name, response_hook, on_saved, attach)

    async def reset(self, key: str, *, channel_name: str = "host") -> None:
        """Start a conversation anew; inside a turn of the same conversation, when that turn is saved."""
        active = current_turn()
        if active is not None and active.request_reset(key):
            return
        record = start_turn(self.tracer, channel_name, check_key(key), {})
        began = perf_counter()
        try:
            with record.span_of("hosting.state.reset"):
                working = current_update()
                if working is not None and working.has(key):
                    await reset_turn(await working.held.turn(to_reset=True))
                else:
                    await reset(self.conversations, key)
            record.outcome = "reset"
        except BaseException as error:
            record.outcome = outcome_word(error)
            raise
        finally:
            record.store_time = perf_counter() - began
            record.finish()

    async def amend(self, key: str, change: Callable[[bytes | None], bytes | None]) -> bytes | None:
        """Change a conversation's attachment, whoever has it; what works on an update of it does so by a turn.

        Raises:
            UnknownConversation, TurnConflict, StateUnavailable: As `state.conversations.amend`.
        """
        working = current_update()
        if working is None or not working.has(key):
            return await amend(self.conversations, key, change)
        found = await self.conversations.attachment(key)
        if (wanted := change(found)) is None:
            return found
        await amend_turn(await working.held.turn(), wanted)
        return wanted

    async def attach(self, key: str, attachment: bytes) -> None:
        """Put an attachment in the place of the one that a conversation has, by a turn of its own without a run.

        Raises:
            UnknownConversation: There is no such conversation.
            TurnBusy: It was not free in time.
        """
        working = current_update()
        if working is not None and working.has(key):
            await amend_turn(await working.held.turn(), attachment)
        else:
            await amend_turn(await self.conversations.begin(key, existing=True), attachment)
