"""HTTP/1.1 from the server's side, on asyncio streams: no more than a test needs to see all that a client does.

Bodies are read as they come, by length or chunked with trailers (RFC 9112, section 7.1). A connection is kept alive,
and tells when its client hangs up, also while nobody reads from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
import string
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass

# Small buffers, so that who reads slowly is felt by who writes.
READ_AHEAD = 16 * 2**10
SOCKET_BUFFER = 32 * 2**10
PIECE = 64 * 2**10
LONGEST_HEAD = 2 * 2**20
# What is read of a body nobody wants, so that the connection can be kept, and how long the client may take to notice an
# answer that came early: both as net/http of Go has it, which the official emulator stands on.
DISCARDED = 256 * 2**10
LINGERING = 0.5

# What that one has in its buffer: it gives up on a body whose trailers are longer.
LONGEST_TRAILERS = 4 * 2**10 - 4

DIGITS = {10: frozenset(string.digits), 16: frozenset(string.hexdigits)}

Handler = Callable[["Connection"], Awaitable[None]]


class Truncated(Exception):
    """The client hung up within a request."""


class Malformed(Exception):
    """What came is no HTTP request."""


class TooLarge(Exception):
    """A body is longer than what is taken."""


class Incoming(asyncio.StreamReader):
    """A stream that says when the other side has hung up, without being read."""

    def __init__(self) -> None:
        super().__init__(limit=READ_AHEAD)
        self.ended = asyncio.Event()

    def feed_eof(self) -> None:
        super().feed_eof()
        self.ended.set()

    def set_exception(self, exc: Exception) -> None:
        super().set_exception(exc)
        self.ended.set()


class Body:
    """What follows the head of a request. `trailers` are known at its end, by their names in lower case."""

    def __init__(self, stream: Incoming, headers: Mapping[str, str]) -> None:
        self.stream = stream
        self.chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self.left = 0 if self.chunked else number(headers.get("content-length", "0"), 10)
        self.ended = not self.chunked and self.left == 0
        self.trailers: dict[str, str] = {}

    async def pieces(self, longest: int = PIECE) -> AsyncGenerator[bytes]:
        """Give what has come: each chunk that is no longer than `longest` by itself.

        Raises:
            Truncated: The client hung up before the end.
            Malformed: It does not keep to the framing.
        """
        while not self.ended:
            if self.chunked and not self.left:
                await self._next_chunk()
                continue
            piece = await exactly(self.stream, min(self.left, longest))
            self.left -= len(piece)
            if not self.left and not self.chunked:
                self.ended = True
            elif not self.left and await exactly(self.stream, 2) != b"\r\n":
                raise Malformed("A chunk is not as long as it says.")
            yield piece

    async def _next_chunk(self) -> None:
        """Read the length of a chunk, and the trailers where it is none."""
        line = await until(self.stream, b"\r\n")
        self.left = number(line.partition(b";")[0].strip().decode("latin-1"), 16)
        if not self.left:
            lines: list[bytes] = []
            while (line := await until(self.stream, b"\r\n")) != b"\r\n":
                lines.append(line)
            if sum(map(len, lines)) > LONGEST_TRAILERS:
                raise Malformed("suspiciously long trailer after chunked body")
            self.trailers = fields(lines)
            self.ended = True

    async def read(self, longest: int) -> bytes:
        """Give the whole body.

        Raises:
            TooLarge: It is longer than `longest`.
        """
        whole = bytearray()
        async with contextlib.aclosing(self.pieces()) as pieces:
            async for piece in pieces:
                whole += piece
                if len(whole) > longest:
                    raise TooLarge
        return bytes(whole)


@dataclass(frozen=True)
class Request:
    """The names of `headers` are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: Body


class Connection:
    """One client's connection."""

    def __init__(self, stream: Incoming, writer: asyncio.StreamWriter) -> None:
        self.stream = stream
        self.writer = writer

    async def request(self) -> Request | None:
        """Give the next request, or None where the client has hung up.

        Raises:
            Malformed: It is no request.
        """
        if self.writer.is_closing():
            return None
        try:
            head = await until(self.stream, b"\r\n\r\n")
        except Truncated:
            return None
        first, *lines = head.removesuffix(b"\r\n\r\n").split(b"\r\n")
        parts = first.decode("latin-1").split(" ")
        if len(parts) != 3 or parts[2] != "HTTP/1.1":
            raise Malformed(f"No request of HTTP/1.1: {first!r}")
        headers = fields(lines)
        return Request(parts[0], parts[1], headers, Body(self.stream, headers))

    async def answer(
        self, request: Request, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> None:
        """Answer a request; one that has been read to its end leaves the connection open for another."""
        whole = request.body.ended or await self._discarded(request.body)
        lines = [
            f"HTTP/1.1 {status} {http.HTTPStatus(status).phrase}",
            f"Content-Length: {len(body)}",
            *(f"{name}: {value}" for name, value in (headers or {}).items()),
            *(() if whole else ("Connection: close",)),
        ]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self.writer.drain()
        if not whole:
            self.writer.write_eof()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.stream.ended.wait(), LINGERING)
            self.writer.transport.abort()

    async def _discarded(self, body: Body) -> bool:
        """Tell whether a body has ended, and if not, has within the little that is read of it in vain."""
        try:
            async with asyncio.timeout(LINGERING):
                await body.read(DISCARDED)
        except (TooLarge, Truncated, Malformed, TimeoutError):
            return False
        return body.ended

    async def garble(self) -> None:
        """Send something that is no HTTP, and hang up."""
        self.writer.write(b"HTTP/1.1 two hundred\r\nContent-Length: none\r\n\r\n")
        self.writer.close()
        await self.writer.wait_closed()

    def close(self) -> None:
        """Hang up without a word."""
        self.writer.close()

    def reset(self) -> None:
        """Hang up so that the client's next write is a broken pipe (socket(7): SO_LINGER of no time sends RST)."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Listener:
    """A port of the loopback interface, whose every connection is `handle`d in a task of its own."""

    def __init__(self, handle: Handler) -> None:
        self.handle = handle
        self.tasks: dict[asyncio.Task[None], Connection] = {}
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SOCKET_BUFFER)
        self.address = "{}:{}".format(*self.socket.getsockname())
        self.server: asyncio.Server | None = None

    async def open(self) -> None:
        loop = asyncio.get_running_loop()

        def protocol() -> asyncio.StreamReaderProtocol:
            stream = Incoming()

            def connected(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                connection = Connection(stream, writer)
                task = loop.create_task(self._serve(connection))
                self.tasks[task] = connection
                task.add_done_callback(self.tasks.pop)

            return asyncio.StreamReaderProtocol(stream, connected)

        self.server = await loop.create_server(protocol, sock=self.socket)

    async def _serve(self, connection: Connection) -> None:
        try:
            # A client that hangs up is one of the things to be seen; the handler has noted it.
            with contextlib.suppress(Truncated, ConnectionError):
                await self.handle(connection)
        finally:
            connection.close()

    async def close(self) -> None:
        """Hang up on everybody."""
        if self.server is None:
            self.socket.close()
            return
        self.server.close()
        tasks = dict(self.tasks)
        for task, connection in tasks.items():
            connection.writer.transport.abort()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.server.wait_closed()


async def exactly(stream: asyncio.StreamReader, count: int) -> bytes:
    try:
        return await stream.readexactly(count)
    except (asyncio.IncompleteReadError, ConnectionError) as error:
        raise Truncated from error


async def until(stream: asyncio.StreamReader, end: bytes) -> bytes:
    """Read up to and with `end`, also where that is more than the stream buffers."""
    read = b""
    while True:
        try:
            return read + await stream.readuntil(end)
        except asyncio.LimitOverrunError as error:
            read += await exactly(stream, error.consumed)
            if len(read) > LONGEST_HEAD:
                raise Malformed("A head without end.") from None
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Truncated from error


def fields(lines: list[bytes]) -> dict[str, str]:
    """Parse field lines; what is said several times is one list (RFC 9110, section 5.3)."""
    parsed: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not name or name != name.strip():
            raise Malformed(f"No field line: {line!r}")
        key, value = name.lower(), value.strip()
        parsed[key] = f"{parsed[key]}, {value}" if key in parsed else value
    return parsed


def number(text: str, base: int) -> int:
    if not text or not set(text) <= DIGITS[base]:
        raise Malformed(f"No length: {text!r}")
    return int(text, base)
