from __future__ import annotations

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from agent_framework_hosting.body import (
    MAX_NESTING,
    BodyTooLarge,
    InvalidBody,
    UnsupportedBody,
    check_json_type,
    decode_json,
    read_body,
    read_json,
)


class Sender:
    """A client that sends prepared messages and counts how many were taken."""

    def __init__(self, *messages: Message) -> None:
        self.messages = list(messages)
        self.taken = 0

    async def __call__(self) -> Message:
        self.taken += 1
        return self.messages[self.taken - 1]


def part(body: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def request(sender: Sender, **headers: str) -> Request:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request({"type": "http", "method": "POST", "path": "/", "headers": pairs}, sender)


async def test_a_body_in_chunks_is_put_together() -> None:
    sender = Sender(part(b"ab"), part(b""), {"type": "http.request", "body": b"cd"})
    assert await read_body(request(sender), 4) == b"abcd"


async def test_a_body_may_be_absent() -> None:
    assert await read_body(request(Sender({"type": "http.request"})), 4) == b""


async def test_a_declared_length_over_the_limit_is_refused_before_reading() -> None:
    sender = Sender(part(b"12345", more=False))
    with pytest.raises(BodyTooLarge, match="4 bytes"):
        await read_body(request(sender, content_length="5"), 4)
    with pytest.raises(BodyTooLarge):
        await read_body(request(sender, content_length="9" * 10_000), 4)
    assert sender.taken == 0


async def test_a_chunked_body_over_the_limit_is_not_read_to_the_end() -> None:
    sender = Sender(*[part(b"123")] * 1000)
    with pytest.raises(BodyTooLarge):
        await read_body(request(sender, transfer_encoding="chunked"), 4)
    assert sender.taken == 2


async def test_a_false_declared_length_is_not_believed() -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(request(Sender(part(b"12345", more=False)), content_length="1"), 4)
    assert await read_body(request(Sender(part(b"1", more=False)), content_length="a lot"), 4) == b"1"


async def test_a_body_of_exactly_the_limit_is_taken() -> None:
    assert await read_body(request(Sender(part(b"1234", more=False)), content_length="4"), 4) == b"1234"


async def test_a_client_that_goes_away_in_the_middle_is_noticed() -> None:
    with pytest.raises(ClientDisconnect):
        await read_body(request(Sender(part(b"12"), {"type": "http.disconnect"})), 4)


@given(st.lists(st.binary(max_size=20), min_size=1), st.integers(0, 60))
def test_any_split_of_a_body_is_taken_or_refused_by_its_size(chunks: list[bytes], limit: int) -> None:
    sender = Sender(*[part(chunk) for chunk in chunks[:-1]], part(chunks[-1], more=False))
    whole = b"".join(chunks)
    reading = read_body(request(sender), limit)
    if len(whole) <= limit:
        assert asyncio.run(reading) == whole
    else:
        with pytest.raises(BodyTooLarge):
            asyncio.run(reading)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.api+json",
        "application/json; profile=x",
    ],
)
def test_json_types_are_taken(media_type: str) -> None:
    check_json_type(request(Sender(), content_type=media_type, content_encoding="identity"))


@pytest.mark.parametrize(
    "media_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "application/jsonp",
        "application/json; charset=utf-16",
        "application/json; charset=latin1",
        "image/svg+json",
    ],
)
def test_other_types_are_not(media_type: str) -> None:
    with pytest.raises(UnsupportedBody):
        check_json_type(request(Sender(), content_type=media_type))


def test_a_missing_type_and_a_compressed_body_are_not() -> None:
    with pytest.raises(UnsupportedBody, match="Content-Type"):
        check_json_type(request(Sender()))
    with pytest.raises(UnsupportedBody, match="Content-Encoding"):
        check_json_type(request(Sender(), content_type="application/json", content_encoding="gzip"))


async def test_the_type_is_checked_before_anything_is_read() -> None:
    sender = Sender(part(b"{}", more=False))
    with pytest.raises(UnsupportedBody):
        await read_json(request(sender, content_type="text/plain"), 100)
    assert sender.taken == 0
    assert await read_json(request(sender, content_type="application/json"), 100) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"nope",
        b"NaN",
        b"[Infinity]",
        b"1e999",
        b"'single'",
        b'"\xff"',
        b'{"\xff": 1}',
        b"\xef\xbb\xbf{}",
        rb'"\ud800"',
        rb'["\udc00"]',
        b'"\xed\xa0\x80"',
        b'"\x00"',
        b"9" * 100_000,
    ],
)
def test_what_is_not_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidBody):
        decode_json(data)


def test_of_equal_names_the_last_counts() -> None:
    assert decode_json(b'{"a": 1, "a": 2}') == {"a": 2}


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":', b"[[],"])
def test_four_megabytes_of_openings_are_refused_and_do_not_crash(opening: bytes) -> None:
    with pytest.raises(InvalidBody, match="nested"):
        decode_json(opening * (2**22 // len(opening)))


@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_nesting_is_bounded_exactly(opening: bytes, closing: bytes) -> None:
    def nested(levels: int) -> bytes:
        return opening * levels + b"1" + closing * levels

    decode_json(nested(MAX_NESTING))
    with pytest.raises(InvalidBody, match=f"{MAX_NESTING} levels"):
        decode_json(nested(MAX_NESTING + 1))


def test_many_brackets_that_do_not_nest_are_taken() -> None:
    assert decode_json(b'{"message": "' + b"[{" * 1000 + b'"}') == {"message": "[{" * 1000}
    assert decode_json(b"[" + b"[]," * 1000 + b"{}]") == [[]] * 1000 + [{}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab[{"), inner, max_size=3),
    max_leaves=30,
)  # fmt: skip


def depth(value: object) -> int:
    if isinstance(value, list | dict):
        return 1 + max(map(depth, value.values() if isinstance(value, dict) else value), default=0)
    return 0


@given(json_values, st.integers(1, 6))
def test_any_json_is_read_back_or_too_deep(value: object, bound: int) -> None:
    data = json.dumps(value).encode()
    if depth(value) <= bound or data.count(b"[") + data.count(b"{") <= bound:
        assert decode_json(data, max_nesting=bound) == value
    else:
        with pytest.raises(InvalidBody):
            decode_json(data, max_nesting=bound)
