"""A proxy before an HTTP service, which answers some requests otherwise, as planned."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import NamedTuple, Self

HANG = 30.0
KEPT_BACK = {"connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"}


class Reply(NamedTuple):
    status: int
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Asked:
    """A request. `forward` has the service answer it, `ended` is set when the proxy ends."""

    method: str
    path: str
    forward: Callable[[], Reply]
    ended: threading.Event


Fault = Callable[[Asked], Reply | None]
"""Stands in for the service; None cuts the connection."""


@dataclass
class Planned:
    fault: Fault
    method: str | None
    times: int | None


class FaultProxy:
    """Passes requests on to a port of this machine, but for those that a fault was planned for. `log` holds all.

    >>> proxy.plan(after(500), method="PUT")   # the next PUT is applied, and answered 500
    """

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.log: list[str] = []
        self._plans: list[Planned] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._server = Server(("127.0.0.1", 0), type("Bound", (Handler,), {"proxy": self}))
        self.port: int = self._server.server_port

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()

    def plan(self, fault: Fault, *, method: str | None = None, times: int | None = 1) -> None:
        """Let `fault` stand in for the next requests of a method, `times` in all (None: for ever)."""
        with self._lock:
            self._plans.append(Planned(fault, method, times))

    def clear(self) -> None:
        with self._lock:
            self._plans.clear()
            self.log.clear()

    def answer(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Reply | None:
        def forward() -> Reply:
            connection = http.client.HTTPConnection("127.0.0.1", self.target, timeout=10)
            try:
                connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
                for name, value in headers:
                    connection.putheader(name, value)
                connection.endheaders(body)
                response = connection.getresponse()
                kept = [(name, value) for name, value in response.getheaders() if name.lower() not in KEPT_BACK]
                return Reply(response.status, response.read(), tuple(kept))
            finally:
                connection.close()

        fault = self._due(method)
        return forward() if fault is None else fault(Asked(method, path, forward, self._ended))

    def _due(self, method: str) -> Fault | None:
        with self._lock:
            self.log.append(method)
            for plan in self._plans:
                if plan.times != 0 and plan.method in (None, method):
                    if plan.times is not None:
                        plan.times -= 1
                    return plan.fault
        return None


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: connections are cut here on purpose."""


class Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        reply = self.proxy.answer(self.command, self.path, list(self.headers.items()), body)
        if reply is None:
            self.close_connection = True
            return
        self.send_response_only(reply.status)
        for name, value in reply.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(reply.body)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815


def error_document(code: str) -> bytes:
    return f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>SECRET</Message></Error>'.encode() if code else b""


def before(status: int, code: str = "", **headers: str) -> Fault:
    """Nothing is applied, and this is the answer."""
    return lambda asked: Reply(status, error_document(code), tuple(headers.items()))


def after(status: int, code: str = "") -> Fault:
    """It is applied, and this is the answer all the same."""

    def fault(asked: Asked) -> Reply:
        asked.forward()
        return Reply(status, error_document(code))

    return fault


def cut_before(asked: Asked) -> None:
    """The connection breaks before anything is applied."""


def cut_after(asked: Asked) -> None:
    """The connection breaks when it is applied."""
    asked.forward()


def hang_before(asked: Asked) -> None:
    """Nothing is applied, and no answer comes."""
    asked.ended.wait(HANG)


def hang_after(asked: Asked) -> None:
    """It is applied, and no answer comes."""
    asked.forward()
    asked.ended.wait(HANG)


def garbage(asked: Asked) -> Reply:
    """Something else answers: a portal, say."""
    return Reply(200, b"<html>Welcome</html>")
