"""Serves the app without a web extension: one `HttpRequest` in, one whole `HttpResponse` out.

What the Functions host joined before the worker saw it cannot be taken apart again: one value per request header.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import unquote, urlsplit

from azure.functions import HttpRequest, HttpResponse

from agent_framework_hosting.exchange import Exchange

from .call import SCOPE_KEY, FunctionsCall

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Scope

    from .startup import Startup

logger = logging.getLogger("agent_framework.hosting.azure_functions")

GRACE_SECONDS = 3.0
DEFAULT_PORTS = {"http": 80, "https": 443}


class BufferedApp:
    """Runs the app on one request at a time and collects its answer."""

    def __init__(self, app: ASGIApp, startup: Startup, root_path: str) -> None:
        self.app = app
        self.startup = startup
        self.root_path = root_path
        self.running: set[asyncio.Event] = set()

    async def __call__(self, request: HttpRequest, call: FunctionsCall) -> HttpResponse:
        """Answer one request.

        Raises:
            HostNotStarted: The host's start-up failed.
            Exception: What the app raised without having answered.
        """
        await self.startup.ready()
        scope = http_scope(request, root_path=self.root_path, state=self.startup.state.copy())
        scope[SCOPE_KEY] = call
        exchange, ended = Exchange(request.get_body()), asyncio.Event()
        self.running.add(ended)
        try:
            await self.app(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.complete:
                raise
            # Starlette answers 500 and raises all the same: the caller gets the answer, the log the exception.
            logger.exception("The app raised after it had answered.")
        finally:
            self.running.discard(ended)
            ended.set()
        return whole_response(exchange)

    async def drain(self, seconds: float = GRACE_SECONDS) -> None:
        """Wait for the calls that are running."""
        pending = [asyncio.ensure_future(ended.wait()) for ended in self.running]
        if pending:
            _, late = await asyncio.wait(pending, timeout=seconds)
            for waiter in late:
                waiter.cancel()

    def stop_on_sigterm(self) -> None:
        """Run the host's shutdown when the platform ends the worker, then let the signal do what it does."""
        loop = asyncio.get_running_loop()
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
            return
        tasks: set[asyncio.Task[None]] = set()

        async def stop() -> None:
            await self.drain()
            await self.startup.stop()
            loop.remove_signal_handler(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)

        def begin() -> None:
            if not tasks:
                tasks.add(loop.create_task(stop(), name="host shutdown"))

        try:
            loop.add_signal_handler(signal.SIGTERM, begin)
        except NotImplementedError:
            # Not unfinished here: asyncio raises it where the loop has no signals (Windows).
            logger.debug("This platform has no signal handlers on the loop: shutdown will not run.")


def whole_response(exchange: Exchange) -> HttpResponse:
    if not exchange.complete:
        raise RuntimeError("The app returned without a whole response.")
    response = HttpResponse(exchange.body, status_code=exchange.status)
    for name, value in combined(exchange.headers):
        response.headers.add(name, value)
    return response


def combined(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Join repeated headers into one line each (RFC 9110, 5.3): the worker keeps only one. Cookies stay apart."""
    lines: dict[str, str] = {}
    cookies: list[tuple[str, str]] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name == "set-cookie":
            cookies.append((name, value))
        else:
            lines[name] = f"{lines[name]}, {value}" if name in lines else value
    return [*lines.items(), *cookies]


def http_scope(request: HttpRequest, *, root_path: str, state: MutableMapping[str, Any]) -> Scope:
    """Translate a request of the Functions host; its URL is percent-encoded and absolute."""
    url = urlsplit(request.url)
    headers = cast("Mapping[str, str]", request.headers)
    forwarded_for = headers.get("x-forwarded-for")
    scheme = headers.get("x-forwarded-proto", "").strip()
    if scheme not in DEFAULT_PORTS:
        scheme = url.scheme or "http"
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": scheme,
        "path": unquote(url.path),
        "raw_path": url.path.encode(),
        "query_string": url.query.encode(),
        "root_path": root_path,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "server": (url.hostname, url.port or DEFAULT_PORTS.get(url.scheme)) if url.hostname else None,
        "client": client_address(forwarded_for) if forwarded_for else None,
        "state": state,
    }


def client_address(forwarded_for: str) -> tuple[str, int] | None:
    """Read the last entry, which the platform's front end appended: `1.2.3.4:567`, `[::1]:567` or a bare address."""
    last = forwarded_for.rpartition(",")[2].strip()
    if last.startswith("["):
        host, _, port = last[1:].partition("]")
        port = port.removeprefix(":")
    elif last.count(":") == 1:
        host, _, port = last.partition(":")
    else:
        host, port = last, ""
    return (host, int(port) if port.isascii() and port.isdigit() else 0) if host else None
