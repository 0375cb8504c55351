"""What a runtime sends is understood however it is cut into chunks, and the network into packets."""

from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emulators.http_connections import Body, Incoming, Malformed, Truncated
from emulators.lambda_calls import PRELUDE_END, FunctionError, Prelude

chunks = st.lists(st.binary(min_size=1, max_size=40), max_size=8)


def chunked(parts: list[bytes], trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailer + b"\r\n"


async def read(body: Body, packets: list[bytes], longest: int) -> list[bytes]:
    async def arrive() -> None:
        for packet in packets:
            body.stream.feed_data(packet)
            await asyncio.sleep(0)
        body.stream.feed_eof()

    arriving = asyncio.create_task(arrive())
    try:
        return [piece async for piece in body.pieces(longest)]
    finally:
        await arriving


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@settings(max_examples=40)
@given(parts=chunks, packet=st.integers(1, 50), longest=st.integers(1, 64))
def test_chunks_and_trailers_arrive(parts: list[bytes], packet: int, longest: int) -> None:
    async def run() -> None:
        body = Body(Incoming(), {"transfer-encoding": "chunked"})
        pieces = await read(body, cut(chunked(parts, b"Some-Word: a: b \r\n"), packet), longest)
        assert pieces == [piece for part in parts for piece in cut(part, longest)]
        assert body.trailers == {"some-word": "a: b"} and body.ended

    asyncio.run(run())


@settings(max_examples=40)
@given(data=st.binary(max_size=200), packet=st.integers(1, 50), more=st.binary(max_size=9))
def test_a_body_of_known_length_ends_there(data: bytes, packet: int, more: bytes) -> None:
    async def run() -> None:
        body = Body(Incoming(), {"content-length": str(len(data))})
        assert b"".join(await read(body, cut(data + more, packet), 64)) == data
        assert body.ended and await body.stream.read() == more

    asyncio.run(run())


@settings(max_examples=40)
@given(parts=chunks, lost=st.integers(1, 20))
def test_a_body_that_breaks_off_is_no_body(parts: list[bytes], lost: int) -> None:
    async def run() -> None:
        body = Body(Incoming(), {"transfer-encoding": "chunked"})
        with pytest.raises(Truncated):
            await read(body, [chunked(parts)[:-lost]], 64)

    asyncio.run(run())


@pytest.mark.parametrize(
    "sent",
    [
        b"z\r\n",
        b"-1\r\n",
        b"+1\r\nx\r\n",
        b"\r\n",
        b"2\r\nabc\r\n",
        b"0\r\nno field\r\n\r\n",
        b"0\r\nx: " + b"y" * 4096 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_chunk_is_malformed(sent: bytes) -> None:
    with pytest.raises(Malformed):
        await read(Body(Incoming(), {"transfer-encoding": "chunked"}), [sent], 64)


@settings(max_examples=40)
@given(
    payload=st.binary(max_size=60), size=st.integers(1, 70), header=st.text(st.characters(exclude_categories=["Cs"]))
)
def test_the_prelude_is_found_wherever_a_stream_is_cut(payload: bytes, size: int, header: str) -> None:
    said = {"statusCode": 200, "headers": {"x": header}}
    prelude = Prelude()
    sent = json.dumps(said).encode() + PRELUDE_END + payload
    assert b"".join(prelude.feed(piece) for piece in cut(sent, size)) == payload
    assert prelude.found == said


@pytest.mark.parametrize("start", [b"", b"no json", b"[200]", b"\xff"])
def test_what_is_no_object_is_no_prelude(start: bytes) -> None:
    with pytest.raises(ValueError, match=r"prelude|Expecting|decode"):
        Prelude().feed(start + PRELUDE_END)


def test_an_error_in_trailers_may_be_no_document() -> None:
    kind, body = "lambda-runtime-function-error-type", "lambda-runtime-function-error-body"
    assert FunctionError.from_trailers({}) is None
    assert FunctionError.from_trailers({kind: "Own"}) == FunctionError("Own", "", header="Own")
    assert FunctionError.from_trailers({kind: "Own", body: "???"}) == FunctionError("Own", "???", header="Own")
    # That is `{}`.
    assert FunctionError.from_trailers({kind: "Own", body: "e30="}) == FunctionError("Own", "", header="Own")
