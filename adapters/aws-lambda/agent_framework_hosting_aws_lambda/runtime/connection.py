"""HTTP/1.1 to the Runtime API, on the event loop and with nothing but the standard library.

What is spoken is what that API speaks (RFC 9112): one request after another on a connection that is kept, bodies with a
length or in chunks, no redirects, no encodings. An HTTP package would cost more of an init than all the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

MAX_LINE = 64 * 1024
MAX_BODY = 32 * 1024 * 1024
"""Bytes of an answer; events have at most 6 MB."""


class Broken(OSError):
    """The connection ended, or what came over it is no HTTP."""


class Reply(NamedTuple):
    """`headers` are by lower-case name."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """Requests to one address, over one connection at a time, which is made when there is none.

    Use it from one task at a time. Whatever goes wrong, or is cancelled, in the middle of a request closes the
    connection, and the next request makes a new one.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        host, _, port = address.rpartition(":")
        self._host, self._port = host.strip("[]") or address, int(port) if port.isdecimal() else 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

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
            writer.write(self._head(method, path, lines or {}) + body)
            await writer.drain()
            return await self._answer(reader)
        except BaseException:
            self.close()
            raise

    async def begin(self, path: str, headers: Mapping[str, str]) -> None:
        """Begin a POST whose body comes in chunks."""
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
            OSError: The connection ended, or the other side has answered before the end (`Broken`).
        """
        if not data:
            return
        if self._streams is None:
            raise Broken("The connection to the Runtime API is closed.")
        reader, writer = self._streams
        try:
            if reader.at_eof():
                raise Broken("The Runtime API ended the connection.")
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))
            await writer.drain()
        except BaseException:
            self.close()
            raise

    async def finish(self, trailers: Mapping[str, str] | None = None) -> Reply:
        """End the chunks and read the answer.

        Raises:
            OSError: The connection ended.
        """
        if self._streams is None:
            raise Broken("The connection to the Runtime API is closed.")
        reader, writer = self._streams
        try:
            writer.write(b"0\r\n" + lines_of(trailers or {}) + b"\r\n")
            await writer.drain()
            return await self._answer(reader)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the connection at once; also what is on its way may be lost."""
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(self._host, self._port, limit=MAX_LINE)
        return self._streams

    def _head(self, method: str, path: str, headers: Mapping[str, str]) -> bytes:
        return f"{method} {path} HTTP/1.1\r\nHost: {self.address}\r\n".encode() + lines_of(headers) + b"\r\n"

    async def _answer(self, reader: asyncio.StreamReader) -> Reply:
        try:
            status, headers = await read_head(reader)
            while status == 100:
                status, headers = await read_head(reader)
            body = await read_body(reader, status, headers)
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise Broken(f"The Runtime API gave no HTTP answer ({type(error).__name__}).") from error
        if headers.get("connection", "").lower() == "close":
            self.close()
        return Reply(status, headers, body)


def lines_of(headers: Mapping[str, str]) -> bytes:
    """Encode header lines.

    Raises:
        ValueError: A value would end its line.
    """
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
        raise ValueError("A header's value must be one line.")
    return lines.encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> tuple[int, Mapping[str, str]]:
    """Read status line and headers.

    Raises:
        ValueError: It is no HTTP.
        asyncio.IncompleteReadError, asyncio.LimitOverrunError: It does not end, or not in time.
    """
    first, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].decode("latin-1").split("\r\n")
    version, status, *_ = first.split(" ", 2)
    if not version.startswith("HTTP/1.") or not (status.isascii() and status.isdecimal() and len(status) == 3):
        raise ValueError("no status line")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name:
            raise ValueError("no header line")
        headers[name.lower()] = value.strip(" \t")
    return int(status), headers


async def read_body(reader: asyncio.StreamReader, status: int, headers: Mapping[str, str]) -> bytes:
    """Read a body with a length, or in chunks.

    Raises:
        ValueError: Its framing is none, or it is too large.
        asyncio.IncompleteReadError, asyncio.LimitOverrunError: It does not end.
    """
    if headers.get("transfer-encoding", "").lower() == "chunked":
        return await read_chunks(reader)
    if status in (204, 304):
        return b""
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()) or int(length) > MAX_BODY:
        raise ValueError("no content length")
    return await reader.readexactly(int(length))


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    parts: list[bytes] = []
    total = 0
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0].strip(), 16)
        total += size
        if size < 0 or total > MAX_BODY:
            raise ValueError("chunks too large")
        if size == 0:
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return b"".join(parts)
        parts.append(await reader.readexactly(size))
        if await reader.readexactly(2) != b"\r\n":
            raise ValueError("no end of a chunk")
