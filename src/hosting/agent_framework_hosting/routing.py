"""Puts channels' routes into one app."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeGuard, cast

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute, compile_path

from .channels import Channel, ChannelContribution
from .errors import ConfigurationError, HostingError

if TYPE_CHECKING:
    from starlette.types import Scope

logger = logging.getLogger("agent_framework.hosting")

Callback = Callable[[], Awaitable[None]]
NAME = re.compile(r"[a-z][a-z0-9._-]{0,99}")


async def readiness(request: Request) -> PlainTextResponse:
    return PlainTextResponse("ok")


def check_channels(channels: Sequence[Channel]) -> list[Channel]:
    """Give the channels, unless they would get in each other's way.

    Raises:
        ConfigurationError: Two have one name or path, a name or path is malformed, or one is no channel.
    """
    if not isinstance(cast("object", channels), Sequence):
        raise ConfigurationError("channels is a sequence: write channels=[…], also for one.")
    for channel in channels:
        if isinstance(channel, type) or not isinstance(cast("object", channel), Channel):
            raise ConfigurationError(f"{channel!r} is no channel: one has a name, a path and contribute(context).")
        if not isinstance(cast("object", channel.name), str) or not NAME.fullmatch(channel.name):
            raise ConfigurationError(
                f"The channel name {channel.name!r} must be 1 to 100 of a-z, 0-9, '.', '_' and '-', beginning with a "
                "letter: it is part of where the channel's documents are stored."
            )
        if channel.path != "" and not re.fullmatch(r"(/[^/]+)+", str(channel.path)):
            raise ConfigurationError(
                f"Channel {channel.name!r} has the path {channel.path!r}; it must be empty, or start with / and not "
                "end with it."
            )
    for kind in ("name", "path"):
        values = [getattr(channel, kind) for channel in channels]
        if doubled := {value for value in values if values.count(value) > 1}:
            raise ConfigurationError(f"Two channels have the same {kind} {doubled.pop()!r}; give each its own.")
    return list(channels)


def build_app(
    channels: Sequence[tuple[Channel, ChannelContribution]],
    *,
    middleware: Sequence[Middleware],
    debug: bool,
    start: Callback,
    stop: Callback,
    open_inbox: Callback,
    close_inbox: Callback,
) -> Starlette:
    """Make the app: readiness first, then every channel's routes; its lifespan runs `start` and all callbacks.

    The inbox is open only while the channels are started: they process what comes out of it.
    """
    routes: list[BaseRoute] = [Route("/readiness", readiness, methods=["GET"])]
    for channel, contribution in channels:
        routes += [place(route, channel.path, contribution.middleware) for route in contribution.routes]
        routes += [place(route, "", contribution.middleware) for route in contribution.root_routes]

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncGenerator[None]:
        callbacks = [callback for _, contribution in channels for callback in contribution.on_shutdown]
        shutdown = [close_inbox, *callbacks, stop]
        try:
            await run_all([start, *(callback for _, contribution in channels for callback in contribution.on_startup)])
            await open_inbox()
        except BaseException:
            await run_all(shutdown, reraise=False)
            raise
        yield
        await run_all(shutdown)

    app = Starlette(debug=debug, routes=routes, middleware=list(middleware), lifespan=lifespan)
    # A redirect would be made of the caller's own Host header, before anybody has asked who is calling.
    app.router.redirect_slashes = False
    return app


async def run_all(callbacks: Sequence[Callback], *, what: str = "start-up or shutdown", reraise: bool = True) -> None:
    """Run every callback, log every failure, and raise the first."""
    first: Exception | None = None
    for callback in callbacks:
        try:
            await callback()
        except Exception as error:
            name = getattr(callback, "__qualname__", callback)
            # What the host itself refuses says what to do; where in its code does not matter.
            told = isinstance(error, HostingError)
            logger.error("A step of %s failed: %s (%s)", what, name, error, exc_info=None if told else error)
            first = first or error
    if first is not None and reraise:
        raise first


class RootMount(Mount):
    """A mount that answers at its own path too, without a redirect to the one with a slash."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        if match is Match.NONE and scope["type"] in ("http", "websocket"):
            path: str = scope["path"] + "/"
            match, child = super().matches({**scope, "path": path})
            child = {**child, "path": path}
        return match, child


def is_root_mount(route: BaseRoute) -> TypeGuard[Mount]:
    return isinstance(route, Mount) and not route.path


def place(route: BaseRoute, prefix: str, middleware: Sequence[Middleware]) -> BaseRoute:
    """Give a copy of a route below `prefix`; a root route answers at the prefix itself, without a redirect.

    Raises:
        ConfigurationError: The route is of a kind that cannot be moved.
    """
    if not isinstance(route, (Route, WebSocketRoute, Mount)):
        raise ConfigurationError(f"A channel's routes are Route, WebSocketRoute or Mount, not {type(route).__name__}.")
    placed = RootMount(prefix, route.app, name=route.name) if is_root_mount(route) else copy.copy(route)
    if isinstance(placed, Mount):
        placed.path = prefix + route.path.rstrip("/")
        placed.path_regex, placed.path_format, placed.param_convertors = compile_path(placed.path + "/{path:path}")
    else:
        placed.path = prefix + route.path if route.path != "/" else prefix or "/"
        placed.path_regex, placed.path_format, placed.param_convertors = compile_path(placed.path)
    for item in reversed(middleware):
        cls, args, kwargs = item
        placed.app = cls(placed.app, *args, **kwargs)
    return placed
