"""HTTP as our client of the Runtime API reads it: the same however it is cut, and nothing else than HTTP."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_framework_hosting_aws_lambda.runtime.connection import (
    Answered,
    Broken,
    Connection,
    lines_of,
    read_body,
    read_head,
)

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=33, max_codepoint=255, exclude_characters="\x7f"), max_size=20)
HEADERS = st.dictionaries(
    TOKEN.filter(lambda name: name not in ("content-length", "transfer-encoding", "connection")), VALUE, max_size=5
)


async def read(pieces: list[bytes], *, ends: bool = False) -> tuple[int, dict[str, str], bytes]:
    """Read an answer that comes in these pieces."""
    reader = asyncio.StreamReader(limit=64 * 1024)

    async def feed() -> None:
        for piece in pieces:
            await asyncio.sleep(0)
            reader.feed_data(piece)
        if ends:
            reader.feed_eof()

    feeding = asyncio.create_task(feed())
    try:
        head = await read_head(reader)
        return head.status, dict(head.headers), await read_body(reader, head)
    finally:
        feeding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await feeding


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def encoded(status: int, headers: dict[str, str], body: bytes, sizes: list[int] | None) -> bytes:
    """Write an answer, with its length or in chunks of these sizes."""
    head = f"HTTP/1.1 {status} OK\r\n".encode() + lines_of(headers)
    if sizes is None:
        return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    parts = [piece for piece in cut(body, sizes) if piece]
    chunks = b"".join(b"%X;odd=1\r\n%b\r\n" % (len(piece), piece) for piece in parts)
    return head + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"


@given(
    status=st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    headers=HEADERS,
    body=st.binary(max_size=200),
    sizes=st.none() | st.lists(st.integers(0, 1000), max_size=5),
    places=st.lists(st.integers(0, 1000), max_size=8),
)
def test_any_cut_reads_alike(
    status: int, headers: dict[str, str], body: bytes, sizes: list[int] | None, places: list[int]
) -> None:
    found = asyncio.run(read(cut(encoded(status, headers, body, sizes), places)))
    assert found[0] == status and found[2] == body
    framing = {"content-length", "transfer-encoding"}
    assert {name: value for name, value in found[1].items() if name not in framing} == {
        name: value.strip(" \t") for name, value in headers.items()
    }


@given(data=st.binary(max_size=60) | st.binary(max_size=60).map(lambda rest: b"HTTP/1.1 200 OK\r\n" + rest))
def test_any_bytes_are_an_answer_or_none(data: bytes) -> None:
    try:
        status, _, _ = asyncio.run(read([data], ends=True))
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
        return
    assert 0 <= status <= 999


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1\r\n\r\n",
        "HTTP/1.1 ２００ OK\r\n\r\n".encode(),
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n0123456789",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nFFFFFFF0\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_refused(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        await read([answer], ends=True)


async def test_what_would_end_a_line_elsewhere_becomes_a_blank() -> None:
    answer = b"HTTP/1.1 200 OK\r\nTrace: a\nb\rc\0d\r\nContent-Length: 0\r\n\r\n"
    assert (await read([answer]))[1]["trace"] == "a b c d"


@given(name=TOKEN, value=st.text(max_size=20))
def test_a_header_that_is_sent_is_one_line(name: str, value: str) -> None:
    try:
        lines = lines_of({name: value})
    except ValueError:
        assert "\n" in value or "\r" in value or not all(ord(character) < 256 for character in value)
        return
    assert lines.count(b"\r") == lines.count(b"\n") == 1 and lines.endswith(b"\r\n")


Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@contextlib.asynccontextmanager
async def connected(*answers: Answer) -> AsyncIterator[Connection]:
    """A connection to a server that treats each connection it is made as the next of these."""
    left = list(answers)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await left.pop(0)(reader, writer)
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        connection = Connection(f"{host}:{port}")
        try:
            yield connection
        finally:
            connection.close()
            await asyncio.sleep(0)


def saying(*answers: bytes) -> Answer:
    """Give an answer for each request that has a head and no body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        if answers:
            await reader.read()

    return serve


EMPTY = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n"


async def test_a_connection_is_kept_unless_it_is_said_or_meant_otherwise() -> None:
    closing = b"HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\nConnection: Close\r\n\r\n"
    old = b"HTTP/1.0 202 Accepted\r\nContent-Length: 0\r\n\r\n"
    async with connected(saying(EMPTY, closing), saying(EMPTY, old), saying(EMPTY)) as connection:
        for _ in range(5):
            assert (await connection.request("GET", "/")).status == 202


async def test_a_body_without_a_length_goes_to_the_end() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\nall ")
        await writer.drain()
        writer.write(b"of it")
        writer.write_eof()
        await reader.read()

    async with connected(serve, saying(EMPTY)) as connection:
        assert (await connection.request("GET", "/")).body == b"all of it"
        assert (await connection.request("GET", "/")).status == 202


async def test_preliminary_answers_are_none() -> None:
    early = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
    async with connected(saying(early + EMPTY)) as connection:
        assert (await connection.request("GET", "/")).status == 202


async def test_a_kept_connection_that_has_ended_is_made_anew() -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EMPTY)
        writer.write_eof()
        await reader.read()

    async with connected(once, saying(EMPTY)) as connection:
        for _ in range(2):
            assert (await connection.request("GET", "/")).status == 202
            for _ in range(100):  # The end has come by then.
                await asyncio.sleep(0)


async def test_what_comes_unasked_is_no_answer_to_the_next_request() -> None:
    answered = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(EMPTY)
        await answered.wait()
        writer.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n")
        await reader.read()

    async with connected(talk, saying(EMPTY)) as connection:
        assert (await connection.request("GET", "/")).status == 202
        answered.set()
        for _ in range(100):  # It has come by then.
            await asyncio.sleep(0)
        assert (await connection.request("GET", "/")).status == 202


async def test_garbage_and_ends_are_told_apart_from_answers() -> None:
    async with connected(saying(b"HTTP/1.1 two hundred\r\n\r\n"), saying(), saying(EMPTY)) as connection:
        with pytest.raises(Broken, match="no HTTP answer"):
            await connection.request("GET", "/")
        with pytest.raises(OSError, match=r"\w"):
            await connection.request("GET", "/")
        assert (await connection.request("GET", "/")).status == 202


async def test_nobody_there_is_an_error() -> None:
    async with connected() as connection:
        pass
    with pytest.raises(OSError, match=r"\w"):
        await connection.request("GET", "/")


async def going_on(connection: Connection) -> None:
    while True:
        await connection.send(b"more")
        await asyncio.sleep(0)


async def test_an_answer_before_the_end_of_a_stream_is_told() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}"
    refused = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"first\r\n")
        writer.write(refusal)
        await writer.drain()
        refused.set()
        await reader.read()

    async with connected(serve, saying(EMPTY)) as connection:
        await connection.begin("/", {})
        await connection.send(b"first")
        await refused.wait()
        with pytest.raises(Answered) as caught:
            await going_on(connection)
        assert (caught.value.reply.status, caught.value.reply.body) == (413, b"{}")
        with pytest.raises(Broken, match="closed"):
            await connection.send(b"more")
        assert (await connection.request("GET", "/")).status == 202


async def test_an_answer_to_a_body_that_was_not_read_is_told() -> None:
    refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(refusal)
        writer.write_eof()
        await asyncio.sleep(0)

    async with connected(serve) as connection:
        assert (await connection.request("POST", "/", body=bytes(20_000_000))).status == 413


async def test_a_request_that_is_given_up_leaves_no_answer_to_the_next() -> None:
    asked = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()

    async with connected(silent, saying(EMPTY)) as connection:
        asking = asyncio.create_task(connection.request("GET", "/"))
        await asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert (await connection.request("GET", "/")).status == 202
