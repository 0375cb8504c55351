"""HTTP/1.1 to the Runtime API, on the event loop and with nothing but the standard library.

What is spoken is what that API speaks (RFC 9112): one request after another on a connection that is kept, bodies with a
length or in chunks, no redirects, no encodings. An HTTP package would cost more of an init than all the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import NamedTuple, SupportsIndex

MAX_LINE = 64 * 1024
MAX_BODY = 32 * 1024 * 1024
"""Bytes of an answer; events have at most 6 MB."""

AT_ONCE = struct.pack("ii", 1, 0)
"""As `SO_LINGER` (socket(7)): a close sends a reset."""

BLANKS = {ord("\0"): " ", ord("\r"): " ", ord("\n"): " "}
HEXADECIMAL = b"0123456789abcdefABCDEF"


class Broken(OSError):
    """The connection ended, or what came over it is no HTTP."""


class Answered(Broken):
    """The other side has answered before it had everything: with `reply`."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"The Runtime API answered {reply.status} before it had everything.")
        self.reply = reply


class Reply(NamedTuple):
    """`headers` are by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Incoming(asyncio.StreamReader):
    """What comes over a connection; `heard` once anything has, be it read or not."""

    def __init__(self) -> None:
        super().__init__(limit=MAX_LINE)
        self.heard = False

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self.heard = True
        super().feed_data(data)

    def set_exception(self, exc: Exception) -> None:
        # What came before a connection was reset can still be read, unlike with a reader that has failed.
        self.feed_eof()


class Connection:
    """Requests to one address, over one connection at a time, which is made when there is none.

    Use it from one task at a time. Whatever goes wrong, or is cancelled, in the middle of a request closes the
    connection, and the next request makes a new one.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]") or address, int(port) if port.isdecimal() else 80
        self._streams: tuple[Incoming, asyncio.StreamWriter] | None = None

    async def request(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """Send a whole request and read its answer. There is no time-out: the machine may be frozen meanwhile.

        Raises:
            OSError: The address cannot be reached, or the connection ended (`Broken`).
        """
        reader, writer = await self._open()
        try:
            lines = {**(headers or {}), "Content-Length": str(len(body))} if body or method == "POST" else headers
            await push(reader, writer, self._head(method, path, lines or {}) + body)
            return await self._answer(reader)
        except BaseException:
            self.close()
            raise

    async def begin(self, path: str, headers: Mapping[str, str]) -> None:
        """Begin a POST whose body comes in chunks.

        Raises:
            OSError: As `request`.
        """
        _, writer = await self._open()
        try:
            writer.write(self._head("POST", path, {**headers, "Transfer-Encoding": "chunked"}))
            await writer.drain()
        except BaseException:
            self.close()
            raise

    async def send(self, data: bytes) -> None:
        """Send a chunk; an empty one is none.

        Raises:
            Answered: The other side has answered before the end.
            OSError: The connection ended.
        """
        if not data:
            return
        reader, writer = self._begun()
        try:
            if not await push(reader, writer, b"%x\r\n%b\r\n" % (len(data), data)):
                raise Answered(await self._answer(reader))
        except BaseException:
            self.close()
            raise

    async def finish(self, trailers: Mapping[str, str] | None = None) -> Reply:
        """End the chunks and read the answer.

        Raises:
            OSError: The connection ended.
        """
        reader, writer = self._begun()
        try:
            whole = await push(reader, writer, b"0\r\n" + lines_of(trailers or {}) + b"\r\n")
            reply = await self._answer(reader)
        except BaseException:
            self.close()
            raise
        if not whole:
            self.close()
        return reply

    def close(self) -> None:
        """End the connection at once: what the other side has not read yet is not to come any more."""
        if self._streams is not None:
            transport = self._streams[1].transport
            with contextlib.suppress(OSError):
                transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
            transport.abort()
            self._streams = None

    def _begun(self) -> tuple[Incoming, asyncio.StreamWriter]:
        if self._streams is None:
            raise Broken("The connection to the Runtime API is closed.")
        return self._streams

    async def _open(self) -> tuple[Incoming, asyncio.StreamWriter]:
        if self._streams is not None:
            reader, writer = self._streams
            # Nobody has asked for what has been heard since the last answer.
            if reader.heard or reader.at_eof() or writer.is_closing():
                self.close()
        if self._streams is None:
            loop = asyncio.get_running_loop()
            reader = Incoming()
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await loop.create_connection(lambda: protocol, self._host, self._port)
            self._streams = reader, asyncio.StreamWriter(transport, protocol, reader, loop)
        return self._streams

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: {self.address}\r\n".encode() + lines_of(headers) + b"\r\n"

    async def _answer(self, reader: Incoming) -> Reply:
        try:
            head = await read_head(reader)
            while 100 <= head.status < 200:
                head = await read_head(reader)
            body = await read_body(reader, head)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise Broken(f"The Runtime API gave no HTTP answer ({type(error).__name__}).") from error
        reader.heard = False
        if not head.kept:
            self.close()
        return Reply(head.status, head.headers, body)


async def push(reader: Incoming, writer: asyncio.StreamWriter, data: bytes) -> bool:
    """Write; False where the other side has answered already and does not take it.

    Raises:
        OSError: The connection ended without an answer.
    """
    if reader.heard:
        return False
    if reader.at_eof():
        raise Broken("The Runtime API ended the connection.")
    writer.write(data)
    try:
        await writer.drain()
    except OSError:
        if not reader.heard:
            raise
        return False
    return True


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Encode header lines.

    Raises:
        ValueError: A value would end its line.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("A header's value must be one line.")
    return lines.encode("latin-1")


class Head(NamedTuple):
    """What stands before a body; `kept` says whether the connection may be used again."""

    status: int
    headers: Mapping[str, str]
    kept: bool


async def read_head(reader: asyncio.StreamReader) -> Head:
    """Read status line and headers; of a header that comes twice the last counts.

    Raises:
        ValueError: It is no HTTP.
        asyncio.IncompleteReadError, asyncio.LimitOverrunError: It does not end, or not in time.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ", 2) if first.count(" ") else ("", "")
    if version not in ("HTTP/1.0", "HTTP/1.1") or not (status.isascii() and status.isdecimal() and len(status) == 3):
        raise ValueError("no status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise ValueError("no header line")
        # Section 5.5 of RFC 9110: what would end a line elsewhere becomes a blank.
        headers[name.lower()] = value.translate(BLANKS).strip(" \t")
    return Head(int(status), headers, version == "HTTP/1.1" and headers.get("connection", "").lower() != "close")


async def read_body(reader: asyncio.StreamReader, head: Head) -> bytes:
    """Read a body: with a length, in chunks, or to the connection's end (RFC 9112, section 6.3).

    Raises:
        ValueError: Its framing is none, or it is too large.
        asyncio.IncompleteReadError, asyncio.LimitOverrunError: It does not end.
    """
    if head.status in (204, 304):
        return b""
    if (coding := head.headers.get("transfer-encoding")) is not None:
        if coding.lower() != "chunked":
            raise ValueError("an unknown transfer coding")
        return await read_chunks(reader)
    if (length := head.headers.get("content-length")) is None:
        return await read_rest(reader)
    if not (length.isascii() and length.isdecimal()) or len(length) > 9 or int(length) > MAX_BODY:
        raise ValueError("no content length")
    return await reader.readexactly(int(length))


async def read_rest(reader: asyncio.StreamReader) -> bytes:
    whole = bytearray()
    while part := await reader.read(MAX_LINE):
        whole += part
        if len(whole) > MAX_BODY:
            raise ValueError("a body that is too large")
    return bytes(whole)


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    total = 0
    while True:
        size = (await reader.readuntil(b"\r\n")).partition(b";")[0].strip(b" \t\r\n")
        if not size or len(size) > 8 or size.strip(HEXADECIMAL):
            raise ValueError("no size of a chunk")
        total += int(size, 16)
        if total > MAX_BODY:
            raise ValueError("chunks too large")
        if int(size, 16) == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(parts)
        parts.append(await reader.readexactly(int(size, 16)))
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("no end of a chunk")
