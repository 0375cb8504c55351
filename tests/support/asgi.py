"""A client of an ASGI app that can be slow, stop in the middle, and go away."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import msgspec
from starlette.types import ASGIApp, Message

PATIENCE = 5.0
Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    status: int
    raw_headers: list[tuple[bytes, bytes]]
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode("latin-1"): value.decode("latin-1") for name, value in self.raw_headers}

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Connection:
    """One request in progress. The body goes in by `send`; what comes out is awaited by condition, never by time."""

    def __init__(
        self, app: ASGIApp, method: str = "POST", path: str = "/", headers: Headers = (), query: str = ""
    ) -> None:
        pairs = list(headers.items()) if isinstance(headers, Mapping) else headers
        self.scope: dict[str, Any] = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in pairs],
            "client": ("127.0.0.1", 1),
            "server": ("testserver", 80),
            "state": {},
        }
        self.app = app
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.outgoing: list[Message] = []
        self.received = 0
        self.changed = asyncio.Condition()
        self.broken = False
        self.sending = False
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self.task = asyncio.create_task(self.run())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self.task is not None
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def run(self) -> None:
        try:
            await self.app(self.scope, self.receive, self.deliver)
        finally:
            async with self.changed:
                self.changed.notify_all()

    async def receive(self) -> Message:
        message = await self.incoming.get()
        async with self.changed:
            self.received += 1
            self.changed.notify_all()
        return message

    async def deliver(self, message: Message) -> None:
        """Take a message, slowly enough to catch an app that sends two at once."""
        if self.broken:
            raise OSError("the client is gone")
        assert not self.sending, "two messages are sent at once"
        self.sending = True
        try:
            await asyncio.sleep(0)
        finally:
            self.sending = False
        async with self.changed:
            self.outgoing.append(message)
            self.changed.notify_all()

    def send(self, chunk: bytes, *, more: bool = False) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": chunk, "more_body": more})

    def disconnect(self) -> None:
        self.incoming.put_nowait({"type": "http.disconnect"})

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that can change only with a message, or with the end of the request."""
        async with asyncio.timeout(PATIENCE), self.changed:
            await self.changed.wait_for(condition)

    async def until_body(self, part: bytes) -> None:
        await self.until(lambda: part in self.body)

    async def end(self) -> Reply:
        """Wait for the end of the request; raises what the app raised."""
        assert self.task is not None
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(self.task)
        return self.reply

    @property
    def body(self) -> bytes:
        return b"".join(message["body"] for message in self.outgoing if message["type"] == "http.response.body")

    @property
    def reply(self) -> Reply:
        start = self.outgoing[0]
        return Reply(start["status"], list(start["headers"]), self.body)


async def call(
    app: ASGIApp, method: str = "POST", path: str = "/", *, body: bytes = b"", headers: Headers = ()
) -> Reply:
    """Make one whole request."""
    async with Connection(app, method, path, headers) as connection:
        connection.send(body)
        return await connection.end()


async def post_json(app: ASGIApp, path: str, value: object, headers: Mapping[str, str] | None = None) -> Reply:
    sent = {"content-type": "application/json", **(headers or {})}
    return await call(app, path=path, body=msgspec.json.encode(value), headers=sent)
