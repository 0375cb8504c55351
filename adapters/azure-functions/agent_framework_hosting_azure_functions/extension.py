"""The web extension: importing this module makes the Functions host proxy HTTP calls to a server in the worker.

Contract: azurefunctions-extensions-base, `web.py`. The worker library makes one `WebApp`, gives `route` a handler that
joins each request to its invocation by the header `x-ms-invocation-id`, and runs `WebServer.serve` on its loop.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, ClassVar, cast

from azurefunctions.extensions import base  # pyright: ignore[reportMissingTypeStubs] - it has types, but no py.typed
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from agent_framework_hosting import ConfigurationError

from .call import SCOPE_KEY, FunctionsCall

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from .startup import Startup

logger = logging.getLogger("agent_framework.hosting.azure_functions")

INVOCATION_HEADER = "x-ms-invocation-id"
# The host sends the invocation right after it begins to forward the request.
INVOCATION_SECONDS = 30.0
GRACE_SECONDS = 3
# The host's HTTP client drops idle connections after 60 s. It must be the first: else a request meets a closing one.
KEEP_ALIVE_SECONDS = 120

Handler = Callable[[Request], Awaitable[Response]]

registered = cast("str | None", base.ModuleTrackerMeta.get_module())
if registered not in (None, __name__):
    raise ConfigurationError(
        f"A Functions worker takes one web extension, and {registered} is already registered: remove its import from "
        "the function app, or use HostFunctionApp(host, streaming=False)."
    )


class ProxiedRequest(Request):
    """A request that the host forwarded; `deadline` is when its invocation must have arrived."""

    deadline: asyncio.Timeout


class RouteParameters(base.RequestSynchronizer):
    """The worker calls this when a request has met its invocation."""

    def sync_route_params(self, request: ProxiedRequest, path_params: Mapping[str, str]) -> None:
        request.deadline.reschedule(None)
        request.scope["path_params"] = dict(path_params)


class TrackedRequest(metaclass=base.RequestTrackerMeta):
    """Functions of the app's author take a `starlette.requests.Request`."""

    request_type = Request
    synchronizer = RouteParameters()


class TrackedResponse(metaclass=base.ResponseTrackerMeta):
    """They return a `starlette.responses.Response`."""

    label = base.ResponseLabels.STANDARD
    response_type = Response


class AppResponse(Response):
    """Answers by running the app on the forwarded request itself: nothing is converted or buffered."""

    def __init__(self, app: ASGIApp, call: FunctionsCall, startup: Startup, root_path: str) -> None:
        self.app = app
        self.call = call
        self.startup = startup
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop("path_params", None)
        scope[SCOPE_KEY] = self.call
        scope["root_path"] = self.root_path
        scope["state"] = self.startup.state.copy()
        try:
            await self.app(scope, receive, send)
        except Exception:
            # Starlette answers 500 and raises all the same. Uvicorn would then close the connection unannounced, and
            # the host lose its next call on it; without the exception it answers or closes where that is still due.
            logger.exception("The app raised an exception.")


class WebApp(base.WebApp):
    """The ASGI app of the worker's server."""

    startup: ClassVar[Startup | None] = None

    def __init__(self) -> None:
        self.handler: Handler | None = None

    def route(self, func: Handler) -> Handler:
        self.handler = func
        return func

    def get_app(self) -> ASGIApp:
        if self.handler is None:
            raise ConfigurationError("The Functions worker registered no handler: its version is not supported.")
        return Gateway(self.handler, self.startup)


class Gateway:
    """Lets through only requests that belong to an invocation; ends the host when the server ends."""

    def __init__(
        self, handler: Handler, startup: Startup | None, *, invocation_seconds: float = INVOCATION_SECONDS
    ) -> None:
        self.handler = handler
        self.startup = startup
        self.invocation_seconds = invocation_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.lifespan(receive, send)
            return
        response = await self.respond(scope, receive)
        await response(scope, receive, send)

    async def respond(self, scope: Scope, receive: Receive) -> Response:
        request = ProxiedRequest(scope, receive)
        if len(request.headers.getlist(INVOCATION_HEADER)) != 1:
            return PlainTextResponse("Only the Functions host calls this port.", 403)
        try:
            async with asyncio.timeout(self.invocation_seconds) as request.deadline:
                response = await self.handler(request)
        except TimeoutError:
            if not request.deadline.expired():
                raise
            return PlainTextResponse("No invocation came for this request.", 403)
        if not isinstance(response, Response):  # pyright: ignore[reportUnnecessaryIsInstance] - a user's function made it
            raise TypeError(f"An HTTP function must return a starlette Response, not {type(response).__name__}.")
        return response

    async def lifespan(self, receive: Receive, send: Send) -> None:
        # Start-up runs on its own: the port must open at once, for the host tries a closed one for about 2 s only.
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if self.startup is not None:
            await self.startup.stop()
        await send({"type": "lifespan.shutdown.complete"})


class WebServer(base.WebServer):
    """Serves on the loopback address that the worker names."""

    def __init__(self, hostname: str, port: int, web_app: WebApp) -> None:
        if not is_loopback(hostname):
            raise ConfigurationError(f"The worker's HTTP server must stay on loopback, not be bound to {hostname}.")
        self.hostname: str = hostname
        self.port: int = port
        self.web_app: ASGIApp = web_app.get_app()

    async def serve(self) -> None:
        import uvicorn

        config = uvicorn.Config(
            self.web_app,
            host=self.hostname,
            port=self.port,
            lifespan="on",
            interface="asgi3",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=True,
            forwarded_allow_ips=self.hostname,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        await uvicorn.Server(config).serve()


def is_loopback(hostname: str) -> bool:
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return hostname == "localhost"
