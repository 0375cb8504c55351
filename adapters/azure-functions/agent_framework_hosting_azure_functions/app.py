"""The host as a function app."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol, cast

from azure.functions import AuthLevel, Context, Function, FunctionApp, HttpRequest, HttpResponse
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from agent_framework_hosting import ConfigurationError

from .buffered import BufferedApp
from .call import FunctionsCall
from .settings import enabled, root_path_of
from .startup import Startup, WaitingFunction

# Without a leading slash: behind the route prefix `api` the host refuses the template `api//{*route}`.
CATCH_ALL = "{*route}"
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
INIT_INDEXING = "PYTHON_ENABLE_INIT_INDEXING"
EXTENSION_BASE = "azurefunctions.extensions.base"


class ServedHost(Protocol):
    """An `AgentFrameworkHost`, as far as this adapter needs it."""

    @property
    def app(self) -> ASGIApp: ...

    def check_platform(self, where: str, /) -> None: ...


class HostFunctionApp(FunctionApp):
    """Serves all routes of the host from one function; add triggers of your own to it.

    `auth_level` holds for that function and is the default of other HTTP functions on this app. `streaming=False`
    sends answers whole and needs no web extension. `route_prefix` is that of host.json, which is read where it is not
    given.

    Raises:
        ConfigurationError: The host must not be exposed as it is, or this process cannot serve it.
    """

    def __init__(
        self,
        host: ServedHost,
        *,
        auth_level: AuthLevel | str = AuthLevel.ANONYMOUS,
        streaming: bool = True,
        route_prefix: str | None = None,
        function_name: str = "agent_host",
    ) -> None:
        level = parse_level(auth_level)
        super().__init__(http_auth_level=level)
        if not hasattr(host, "check_platform"):
            raise ConfigurationError(f"HostFunctionApp takes an AgentFrameworkHost, not {type(host).__name__}.")
        host.check_platform("Azure Functions")
        app = host.app
        self.streaming = streaming
        self._startup = Startup(app)
        self._function_name = function_name
        root_path = root_path_of(route_prefix, os.environ)
        self._buffered = None if streaming else BufferedApp(app, self._startup, root_path)
        if self._buffered is None:
            serve = streaming_function(app, self._startup, root_path, level)
        else:
            serve = buffered_function(self._buffered, level)
        route = self.route(route=CATCH_ALL, methods=METHODS, auth_level=level)
        self.function_name(function_name)(route(serve))

    def get_functions(self) -> list[Function]:
        """Give the worker all functions, and start the host: this is the first thing a worker does with an app.

        Raises:
            ConfigurationError: A setting or another web extension keeps this mode from working.
        """
        self._check_worker()
        functions = super().get_functions()
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return functions
        self._begin()
        return [self._waiting(function, loop) for function in functions]

    def _check_worker(self) -> None:
        if not self.streaming:
            other = registered_extension()
            if other is not None:
                raise ConfigurationError(
                    f"{other} makes every HTTP call of this worker a proxied one, which streaming=False cannot serve: "
                    "remove its import from the function app, or leave streaming on."
                )
        elif sys.version_info < (3, 13) and not enabled(os.environ.get(INIT_INDEXING)):
            raise ConfigurationError(
                f"On Python 3.12 and older the worker streams only with the app setting {INIT_INDEXING}=1: set it, "
                "use Python 3.13, or HostFunctionApp(host, streaming=False)."
            )

    def _begin(self) -> None:
        if self._buffered is None:
            from .extension import WebApp

            WebApp.startup = self._startup
        else:
            self._buffered.stop_on_sigterm()
        self._startup.begin()

    def _waiting(self, function: Function, loop: asyncio.AbstractEventLoop) -> Function:
        if function.get_function_name() == self._function_name:
            return function
        return cast("Function", WaitingFunction(function, self._startup, loop))


def streaming_function(app: ASGIApp, startup: Startup, root_path: str, level: AuthLevel) -> Callable[..., Any]:
    from .extension import AppResponse

    async def serve(req: Request, context: Context) -> Response:
        await startup.ready()
        call = FunctionsCall(level, context.function_name, context.invocation_id)
        return AppResponse(app, call, startup, root_path)

    return serve


def buffered_function(app: BufferedApp, level: AuthLevel) -> Callable[..., Any]:
    async def serve(req: HttpRequest, context: Context) -> HttpResponse:
        return await app(req, FunctionsCall(level, context.function_name, context.invocation_id))

    return serve


def registered_extension() -> str | None:
    """Name the module of the process's web extension."""
    base = sys.modules.get(EXTENSION_BASE)
    return None if base is None else base.ModuleTrackerMeta.get_module()


def parse_level(level: AuthLevel | str) -> AuthLevel:
    if isinstance(level, AuthLevel):
        return level
    try:
        return AuthLevel[level.upper()]
    except KeyError:
        names = ", ".join(known.name for known in AuthLevel)
        raise ConfigurationError(f"auth_level is one of {names}, not {level!r}.") from None
