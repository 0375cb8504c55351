"""The host, as one channel sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .limits import HostLimits
from .requests import ChannelRequest, HostedRunResult
from .state.store import ScopedStore, StateStore

if TYPE_CHECKING:
    from agent_framework import SupportsAgentRun, Workflow

    from .channels import ChannelResponseHook, ChannelRunHook, ChannelStreamUpdateHook, HostedStream
    from .targets import TargetSource
    from .turns import Turns


class HostContext:
    """One channel's `ChannelContext`; `documents` is its part of the store."""

    def __init__(self, name: str, source: TargetSource, turns: Turns, store: StateStore, limits: HostLimits) -> None:
        self._name = name
        self._source = source
        self._turns = turns
        self.limits = limits
        self.documents: StateStore = ScopedStore(store, f"d/{name}")

    @property
    def target(self) -> SupportsAgentRun | Workflow:
        """The target.

        Raises:
            ConfigurationError: It comes from a factory, and the app has not been started.
        """
        return self._source.target

    async def run(
        self,
        request: ChannelRequest,
        *,
        run_hook: ChannelRunHook | None = None,
        protocol_request: Any | None = None,
        response_hook: ChannelResponseHook | None = None,
        channel_name: str | None = None,
    ) -> HostedRunResult[Any]:
        return await self._turns.run(
            request,
            run_hook=run_hook,
            protocol_request=protocol_request,
            response_hook=response_hook,
            channel_name=channel_name or self._name,
        )

    async def run_stream(
        self,
        request: ChannelRequest,
        *,
        run_hook: ChannelRunHook | None = None,
        protocol_request: Any | None = None,
        stream_update_hook: ChannelStreamUpdateHook | None = None,
        response_hook: ChannelResponseHook | None = None,
        channel_name: str | None = None,
    ) -> HostedStream:
        return await self._turns.stream(
            request,
            run_hook=run_hook,
            protocol_request=protocol_request,
            stream_update_hook=stream_update_hook,
            response_hook=response_hook,
            channel_name=channel_name or self._name,
        )

    async def reset_session(self, isolation_key: str) -> None:
        await self._turns.reset(isolation_key)
