"""What a channel is to the host, and the host to a channel."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .requests import ChannelCommand, ChannelRequest, HostedRunResult

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate
    from starlette.middleware import Middleware
    from starlette.routing import BaseRoute

    from .context import ChannelContext
    from .updates import InboundUpdate

ChannelRunHook = Callable[..., Awaitable[ChannelRequest] | ChannelRequest]
ChannelResponseHook = Callable[..., Awaitable[HostedRunResult[Any]] | HostedRunResult[Any]]
ChannelStreamUpdateHook = Callable[
    ["AgentResponseUpdate"], "Awaitable[AgentResponseUpdate | None] | AgentResponseUpdate | None"
]


Attach = Callable[[HostedRunResult[Any]], bytes]
OnSaved = Callable[[HostedRunResult[Any]], Awaitable[None]]
OnUpdate = Callable[["InboundUpdate"], Awaitable[None]]


class Provisioning:
    """A deploy step in progress: channels register webhooks and commands, and report what they did.

    With `dry_run` nothing may be changed; `done` then says what would have been.
    """

    def __init__(self, *, dry_run: bool = False) -> None:
        self.dry_run = dry_run
        self.lines: list[str] = []

    def done(self, line: str) -> None:
        self.lines.append(line)


class ChannelContribution:
    """What a channel adds to the app.

    `routes` live below the channel's path, `root_routes` beside it; `middleware` wraps both. `authenticated`
    says that every route checks its caller, or that its operator asked for anonymous access.

    `on_update` processes what the channel has accepted (`ChannelContext.accept`): in order, one update of a
    conversation at a time. Its turns in the update's own conversation are saved once, however often it is called for
    that update; what it sends may be sent again. What it raises has it called again later, and after
    `HostLimits.update_attempts` the update is set aside. With `updates_optional` the channel is also served where
    nothing can be worked on after an answer: `ChannelContext.accepting` tells.
    """

    def __init__(
        self,
        routes: Sequence[BaseRoute] = (),
        commands: Sequence[ChannelCommand] = (),
        on_startup: Sequence[Callable[[], Awaitable[None]]] = (),
        on_shutdown: Sequence[Callable[[], Awaitable[None]]] = (),
        middleware: Sequence[Middleware] = (),
        *,
        root_routes: Sequence[BaseRoute] = (),
        on_provision: Sequence[Callable[[Provisioning], Awaitable[None]]] = (),
        on_update: OnUpdate | None = None,
        updates_optional: bool = False,
        authenticated: bool = False,
    ) -> None:
        self.routes = routes
        self.commands = commands
        self.on_startup = on_startup
        self.on_shutdown = on_shutdown
        self.middleware = middleware
        self.root_routes = root_routes
        self.on_provision = on_provision
        self.on_update = on_update
        self.updates_optional = updates_optional
        self.authenticated = authenticated


@runtime_checkable
class Channel(Protocol):
    """Exposes the target over one protocol. `path` is `""` or starts with `/` and does not end with one."""

    name: str
    path: str

    def contribute(self, context: ChannelContext) -> ChannelContribution: ...


class HostedStream(Protocol):
    """A turn in progress: iterate for updates, then await it for the final response.

    Close it in every case (`contextlib.aclosing`): closing cancels a run that is not finished. `hosted` is the
    whole result, as `ChannelContext.run` gives it, once `get_final_response()` has returned.
    """

    session: Any | None
    hosted: HostedRunResult[Any] | None

    def __aiter__(self) -> AsyncIterator[AgentResponseUpdate]: ...

    async def feed(self, receive: Callable[[AgentResponseUpdate], bool]) -> bool:
        """Call `receive` with each update as it comes, until that says that it has enough for now.

        False means that there are no more. What iterating costs for each update this costs for each call. `receive`
        is called in the midst of the run: it is quick, and raises nothing.
        """
        ...

    def __await__(self) -> Any:
        """Same as `get_final_response()`."""
        ...

    async def get_final_response(self) -> Any:
        """Finish the turn; returns, after the response hook, only when the turn is saved."""
        ...

    async def aclose(self) -> None:
        """Cancel the run unless it is finished. Idempotent."""
        ...
