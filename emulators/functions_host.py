"""A stand-in for the part of the Functions host that takes HTTP requests to a worker.

Runs on a thread with a loop of its own, so that callers may block. See `functions_worker` for what it leaves out.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import threading
import uuid
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import h11

Answer = asyncio.Future[dict[str, Any]]
HttpEvent = Any  # h11 types its events by metaclass tricks that type checkers cannot follow
CHUNK = 65536
GONE = "the worker's process has ended"
LINE_BYTES = 256 * 2**20
# The host's RetryProxyHandler: a worker's server may not listen yet.
CONNECT_RETRIES = 10
CONNECT_DELAY, CONNECT_DELAY_MAX = 0.05, 0.25
SAME_SITE = {1: "lax", 2: "strict", 3: "none"}
KEY_HEADER = b"x-functions-key"
NOT_FORWARDED = (b"x-ms-invocation-id", b"connection", b"keep-alive", b"transfer-encoding", b"content-length")


class StaleConnection(Exception):
    """A pooled connection was closed before it answered."""


@dataclass
class HttpRoute:
    """One HTTP function as the host serves it."""

    function_id: str
    parameter: str
    methods: frozenset[str]
    level: str
    template: str

    def match(self, path: str) -> dict[str, str | None] | None:
        return None if (found := self.pattern.fullmatch(path)) is None else found.groupdict()

    @property
    def pattern(self) -> re.Pattern[str]:
        parts: list[str] = []
        for segment in self.template.strip("/").split("/"):
            if segment.startswith("{*"):
                # ASP.NET: a catch-all also takes nothing, and then the slash before it is optional.
                parts.append(f"(?:/(?P<{segment.strip('{*}')}>.*))?")
            elif segment.startswith("{"):
                parts.append(f"/(?P<{segment.strip('{}')}>[^/]+)")
            else:
                parts.append(re.escape(f"/{segment}"))
        return re.compile("".join(parts) + "/?", re.IGNORECASE)

    @property
    def precedence(self) -> list[int]:
        """Literal segments before parameters before a catch-all."""
        return [2 if s.startswith("{*") else 1 if s.startswith("{") else 0 for s in self.template.strip("/").split("/")]


@dataclass
class HostRequest:
    method: str
    target: str
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def header(self, name: bytes) -> str | None:
        return next((value.decode("latin-1") for key, value in self.headers if key == name), None)

    @property
    def path(self) -> str:
        return unquote(urlsplit(self.target).path)


@dataclass
class WorkerChannel:
    """JSON lines to and from the worker's process; answers are matched by id."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    waiting: dict[int, Answer] = field(default_factory=dict[int, Answer])
    last: int = 0
    ended: bool = False

    async def ask(self, kind: str, **arguments: Any) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            ConnectionError: The worker's process has ended.
        """
        if self.ended:
            raise ConnectionError(GONE)
        self.last += 1
        future = self.waiting[self.last] = asyncio.get_running_loop().create_future()
        self.writer.write(json.dumps({"id": self.last, "kind": kind, "arguments": arguments}).encode() + b"\n")
        return await future

    async def listen(self) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await self.reader.readline():
                answer = json.loads(line)
                future = self.waiting.pop(answer["id"])
                if not future.done():
                    future.set_result(answer["result"])
        self.ended = True
        for future in self.waiting.values():
            if not future.done():
                future.set_exception(ConnectionError(GONE))
        self.waiting.clear()


class FunctionsHost:
    """Listens on a loopback port and has a worker answer."""

    def __init__(self, channel: socket.socket, *, function_key: str) -> None:
        self.function_key = function_key
        self.failures: list[str] = []
        self.routes: list[HttpRoute] = []
        self.proxy: tuple[str, int] | None = None
        self.port = 0
        self.server: asyncio.Server | None = None
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="functions host", daemon=True)
        self.thread.start()
        self.idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        self.tasks: set[asyncio.Task[Any]] = set()
        self.channel = self.call(self.connect(channel))

    def call(self, work: Coroutine[Any, Any, Any], seconds: float = 30) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(seconds)

    async def connect(self, channel: socket.socket) -> WorkerChannel:
        reader, writer = await asyncio.open_connection(sock=channel, limit=LINE_BYTES)
        connected = WorkerChannel(reader, writer)
        self.spawn(connected.listen())
        return connected

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    async def listen(self, functions: Sequence[Mapping[str, Any]], *, prefix: str, proxy: str | None) -> None:
        for function in functions:
            for binding in function["bindings"]:
                if binding["type"] == "httpTrigger":
                    route = f"{prefix}/{binding['route']}" if prefix else binding["route"]
                    if "//" in route:
                        raise ValueError(f"the host refuses the route template {route!r}")
                    methods = frozenset(str(method).upper() for method in binding.get("methods") or ())
                    level = str(binding.get("authLevel", "FUNCTION")).upper()
                    self.routes.append(HttpRoute(function["id"], binding["name"], methods, level, route))
        self.routes.sort(key=lambda route: route.precedence)
        if proxy is not None:
            parts = urlsplit(proxy)
            assert parts.hostname is not None and parts.port is not None
            self.proxy = (parts.hostname, parts.port)
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]

    def close(self) -> None:
        self.call(self.finish())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()

    async def finish(self) -> None:
        if self.server is not None:
            self.server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in (self.channel.writer, *(writer for _, writer in self.idle)):
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = Client(reader, writer)
        try:
            while (request := await client.request()) is not None:
                await self.handle(request, client)
                if not await client.next_cycle():
                    break
        except (ConnectionError, h11.ProtocolError):
            pass
        finally:
            await client.close()

    async def handle(self, request: HostRequest, client: Client) -> None:
        for route in self.routes:
            parameters = route.match(request.path)
            # A trigger that names no methods takes all.
            if parameters is not None and (not route.methods or request.method in route.methods):
                break
        else:
            await client.answer(404, [], b"")
            return
        if route.level != "ANONYMOUS" and request.header(KEY_HEADER) != self.function_key:
            await client.answer(401, [], b"")
            return
        known = {name: value for name, value in parameters.items() if value is not None}
        if self.proxy is None:
            await self.buffered(request, client, route, known)
        else:
            await self.proxied(request, client, route, known)

    async def buffered(
        self, request: HostRequest, client: Client, route: HttpRoute, parameters: dict[str, str]
    ) -> None:
        result = await self.invoke(route, str(uuid.uuid4()), {"http": rpc_http(request, parameters)})
        if result["error"] is not None:
            await client.answer(500, [], b"")
            return
        value: dict[str, Any] = result["value"] or {}
        http: dict[str, Any] = value.get("http") or {"status_code": "204", "headers": {}, "cookies": [], "body": None}
        content: dict[str, str] = http["body"] or {"bytes": ""}
        (body,) = content.values()
        headers = [(name.encode(), value.encode("latin-1")) for name, value in http["headers"].items()]
        headers += [(b"set-cookie", set_cookie(cookie).encode()) for cookie in http["cookies"]]
        await client.answer(int(http["status_code"]), headers, base64.b64decode(body))

    async def proxied(self, request: HostRequest, client: Client, route: HttpRoute, parameters: dict[str, str]) -> None:
        """Forward first, then send the invocation, as the host does; the client's going ends the forwarding."""
        invocation_id = str(uuid.uuid4())
        forwarding = self.spawn(self.forward(request, invocation_id, client))
        invocation = self.spawn(
            self.invoke(route, invocation_id, {"http": {"method": request.method, "params": parameters}})
        )
        gone = client.gone()
        await asyncio.wait({forwarding, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not forwarding.done():
            forwarding.cancel()
            await asyncio.wait({forwarding})
            raise ConnectionError("the client has gone")
        try:
            forwarding.result()
        except OSError:
            invocation.cancel()
            if not client.started:
                await client.answer(502, [], b"")
            else:
                raise
        else:
            await invocation

    async def invoke(self, route: HttpRoute, invocation_id: str, data: dict[str, Any]) -> dict[str, Any]:
        try:
            result = await self.channel.ask(
                "invoke",
                invocation_id=invocation_id,
                function_id=route.function_id,
                inputs={route.parameter: data},
                metadata={},
            )
        except ConnectionError as error:
            result = {"error": str(error), "trace": "", "value": None}
        if result["error"] is not None:
            self.failures.append(f"{result['error']}\n{result['trace']}")
        return result

    async def forward(self, request: HostRequest, invocation_id: str, client: Client) -> None:
        """Pass a request on; as .NET does, again on a new connection where a pooled one turns out to be closed."""
        if self.idle:
            with contextlib.suppress(StaleConnection):
                await self.exchange(request, invocation_id, client, *self.idle.pop(), pooled=True)
                return
        await self.exchange(request, invocation_id, client, *await self.backend(), pooled=False)

    async def exchange(
        self,
        request: HostRequest,
        invocation_id: str,
        client: Client,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        pooled: bool,
    ) -> None:
        connection = h11.Connection(h11.CLIENT)
        reusable = False
        try:
            headers = [(name, value) for name, value in request.headers if name not in NOT_FORWARDED]
            headers.append((b"x-ms-invocation-id", invocation_id.encode()))
            if request.body or request.header(b"content-length") is not None:
                headers.append((b"content-length", str(len(request.body)).encode()))
            head = h11.Request(method=request.method, target=request.target, headers=headers)
            writer.write(connection.send(head) or b"")
            writer.write(connection.send(h11.Data(data=request.body)) or b"")
            writer.write(connection.send(h11.EndOfMessage()) or b"")
            await writer.drain()
            async for event in events(connection, reader):
                if isinstance(event, h11.Response):
                    headers = [(name, value) for name, value in event.headers if name != b"connection"]
                    await client.send(h11.Response(status_code=event.status_code, headers=headers))
                elif isinstance(event, h11.Data):
                    await client.send(h11.Data(data=event.data))
                else:
                    await client.send(h11.EndOfMessage())
        except ConnectionError as error:
            if pooled and not client.started:
                raise StaleConnection from error
            raise
        else:
            reusable = connection.our_state is h11.DONE and connection.their_state is h11.DONE
        finally:
            if reusable:
                self.idle.append((reader, writer))
            else:
                # Abruptly, as the host does: what is still unread must not keep the worker sending.
                writer.transport.abort()

    async def backend(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self.proxy is not None
        delay = CONNECT_DELAY
        for _ in range(CONNECT_RETRIES - 1):
            try:
                return await asyncio.open_connection(*self.proxy)
            except ConnectionRefusedError:
                await asyncio.sleep(delay)
                delay = min(delay * 2, CONNECT_DELAY_MAX)
        return await asyncio.open_connection(*self.proxy)


class Client:
    """One connection of a caller, request after request."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.connection = h11.Connection(h11.SERVER)
        self.reading: asyncio.Task[bytes] | None = None
        self.started = False

    async def request(self) -> HostRequest | None:
        head: HttpEvent = None
        body: list[bytes] = []
        while True:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                self.connection.receive_data(await self.read())
            elif isinstance(event, h11.Request):
                head = event
                if self.connection.they_are_waiting_for_100_continue:
                    await self.send(h11.InformationalResponse(status_code=100, headers=[]))
            elif isinstance(event, h11.Data):
                body.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return HostRequest(head.method.decode(), head.target.decode(), list(head.headers), b"".join(body))
            else:
                return None

    async def read(self) -> bytes:
        reading = self.gone()
        self.reading = None
        return await reading

    def gone(self) -> asyncio.Task[bytes]:
        """The next read: while an answer is on its way, it ends when the caller goes."""
        if self.reading is None:
            self.reading = asyncio.create_task(self.reader.read(CHUNK))
        return self.reading

    async def send(self, event: HttpEvent) -> None:
        self.started = True
        self.writer.write(self.connection.send(event) or b"")  # pyright: ignore[reportUnknownArgumentType]
        await self.writer.drain()

    async def answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        headers = [(name, value) for name, value in headers if name != b"content-length"]
        headers.append((b"content-length", str(len(body)).encode()))
        await self.send(h11.Response(status_code=status, headers=headers))
        if body:
            await self.send(h11.Data(data=body))
        await self.send(h11.EndOfMessage())

    async def next_cycle(self) -> bool:
        self.started = False
        if self.connection.our_state is not h11.DONE or self.connection.their_state is not h11.DONE:
            return False
        self.connection.start_next_cycle()
        return True

    async def close(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()


async def events(connection: h11.Connection, reader: asyncio.StreamReader) -> AsyncIterator[HttpEvent]:
    """Yield the events of one response.

    Raises:
        ConnectionError: The connection broke off before its end.
    """
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            try:
                connection.receive_data(await reader.read(CHUNK))
            except h11.RemoteProtocolError as error:
                raise ConnectionError(str(error)) from error
            continue
        if isinstance(event, h11.ConnectionClosed):
            raise ConnectionError("the worker's server closed the connection")
        yield event
        if isinstance(event, h11.EndOfMessage):
            return


def rpc_http(request: HostRequest, parameters: dict[str, str]) -> dict[str, Any]:
    """Describe a request as `RpcHttp` does: one text per header, repeated ones joined by commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in request.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    url = urlsplit(request.target)
    query = {}
    for pair in filter(None, url.query.split("&")):
        name, _, value = pair.partition("=")
        query[unquote(name)] = unquote(value)
    return {
        "method": request.method,
        "url": f"http://{request.header(b'host')}{request.target}",
        "headers": headers,
        "params": parameters,
        "query": query,
        "body": {"bytes": base64.b64encode(request.body).decode()} if request.body else None,
    }


def set_cookie(cookie: dict[str, Any]) -> str:
    """Write a cookie as ASP.NET does."""
    parts = [f"{cookie['name']}={quote(cookie['value'], safe='')}"]
    if cookie.get("expires") is not None:
        parts.append("expires=" + format_datetime(datetime.fromtimestamp(cookie["expires"], UTC), usegmt=True))
    if cookie.get("max_age") is not None:
        parts.append(f"max-age={cookie['max_age']:g}")
    parts += [f"{name}={cookie[name]}" for name in ("domain", "path") if cookie.get(name)]
    parts += [word for name, word in (("secure", "secure"), ("http_only", "httponly")) if cookie.get(name)]
    if same_site := SAME_SITE.get(cookie.get("same_site", 0)):
        parts.append(f"samesite={same_site}")
    return "; ".join(parts)
