"""What a signed body must say: all else is refused before anything is kept."""

from pathlib import Path
from typing import Any

import pytest

from tests.samples.webhooks import LIMITS, Webhook, key_of, serving
from tests.support.asgi import Reply, call

GOOD = b'{"id": "m-1", "conversation": "tea", "sequence": 1, "message": "hello"}'
NOT_JSON: dict[str, bytes] = {
    "nothing": b"",
    "a text that is no JSON": b"hello",
    "cut off": GOOD[:-1],
    "two texts": GOOD + GOOD,
    "a comment": GOOD + b" // x",
    "single quotes": GOOD.replace(b'"', b"'"),
    "NaN": GOOD.replace(b"1,", b"NaN,"),
    "not UTF-8": GOOD.replace(b"hello", b"\xff"),
    "UTF-16": GOOD.decode().encode("utf-16"),
    "half a surrogate pair": GOOD.replace(b"hello", rb"\ud800"),
    "compressed": b"\x1f\x8b" + GOOD,
    "nested deeply": b"[" * 5_000 + b"]" * 5_000,
    "nested deeply in a field": GOOD.replace(b'"hello"', b"[" * 100 + b"]" * 100),
}
INVALID: dict[str, dict[str, Any]] = {
    "no id": {"id": ...},
    "an empty id": {"id": ""},
    "an id of a number": {"id": 1},
    "an id of many characters": {"id": "x" * 201},
    "an id with a line's end": {"id": "m-1\n"},
    "an id that adds a header": {"id": "m-1\r\nx-forged: 1"},
    "an id with a space": {"id": "m 1"},
    "an id that is not ASCII": {"id": "é"},
    "no conversation": {"conversation": ...},
    "an empty conversation": {"conversation": ""},
    "a conversation of a list": {"conversation": ["tea"]},
    "a conversation of many characters": {"conversation": "x" * 501},
    "no message": {"message": ...},
    "an empty message": {"message": ""},
    "a message of nothing": {"message": None},
    "a message of an object": {"message": {"role": "system"}},
    "no sequence": {"sequence": ...},
    "a negative sequence": {"sequence": -1},
    "a sequence of text": {"sequence": "1"},
    "a sequence of a fraction": {"sequence": 1.5},
    "a sequence of yes": {"sequence": True},
    "a sequence too large": {"sequence": 2**63},
    "a sequence far too large": {"sequence": 10**30},
    "an unknown field": {"reply_host": "hooks.example.com"},
    "a reply of our own": {"message": ..., "answer": "1: hello"},
}
FOREIGN = [
    "https://evil.example",
    "https://evil.example/",
    "https://evil.example/https://hooks.example.com/",
    "https://hooks.example.com",
    "https://hooks.example.com.evil.example/",
    "https://evil-hooks.example.com/",
    "https://x.hooks.example.com/",
    "https://hooksXexample.com/",
    "https://hooks.example.com@evil.example/",
    "https://hooks.example.com:x@evil.example/",
    "https://user@hooks.example.com/",
    "https://@hooks.example.com/",
    "https://hooks.example.com\\@evil.example/",
    "https://hooks.example.com\\.evil.example/",
    "https://evil.example\\@hooks.example.com/",
    "https://hooks.example.com#@evil.example/",
    "https://hooks.example.com?@evil.example/",
    "https://hooks.example.com%2f@evil.example/",
    "https://hooks.example.com%00.evil.example/",
    "https://hooks.example.com\t.evil.example/",
    "https://hooks.example.com:443/",
    "https://hooks.example.com:8443/",
    "https://hooks.example.com:/",
    "https://hooks.example.com./",
    "https://HOOKS.example.com/",
    "HTTPS://hooks.example.com/",
    "https://hooks。example。com/",
    "https://hооks.example.com/",  # Cyrillic о
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "file:///etc/passwd",
    "javascript:alert(1)",
    "//hooks.example.com/",
    "/replies",
    "hooks.example.com/replies",
    " https://hooks.example.com/",
    "https:///hooks.example.com/",
    "https:/hooks.example.com/",
    "https:\\\\hooks.example.com/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[hooks.example.com]/",
    "https://127.0.0.1/",
    "https://2130706433/",
    "https://169.254.169.254/latest/meta-data/",
    "https://localhost/",
    "https://hooks.example.com/a b",
    "https://hooks.example.com/\r\nx-forged: 1",
    "https://hooks.example.com/\n",
    "https://hooks.example.com/é",
    "https://hooks.example.com/\0",
    "",
]


async def nothing_kept(webhook: Webhook, sent: Reply, status: int, code: str) -> None:
    assert (sent.status, sent.json["error"]["code"]) == (status, code)
    assert webhook.kept("in") == []
    assert webhook.inbox.woken == []


async def test_the_good_one_is_good(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        assert (await webhook.post(GOOD)).status == 202
        assert len(webhook.kept("in")) == 1
        assert webhook.inbox.woken == [key_of("tea")]


@pytest.mark.parametrize("name", NOT_JSON)
async def test_what_is_no_json_is_refused(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as webhook:
        await nothing_kept(webhook, await webhook.post(NOT_JSON[name]), 400, "invalid_body")


@pytest.mark.parametrize("name", INVALID)
async def test_what_says_something_else_is_refused(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as webhook:
        sent = await webhook.send(**{"id": "m-1", **INVALID[name]})
        await nothing_kept(webhook, sent, 422, "invalid_request")


@pytest.mark.parametrize("body", [b"null", b"[]", b'"m-1"', b"1", b"[" + GOOD + b"]", b"{}"])
async def test_what_is_no_message_is_refused(tmp_path: Path, body: bytes) -> None:
    async with serving(tmp_path) as webhook:
        await nothing_kept(webhook, await webhook.post(body), 422, "invalid_request")


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
async def test_what_is_not_declared_to_be_json_is_refused(tmp_path: Path, kind: str) -> None:
    async with serving(tmp_path) as webhook:
        sent = await webhook.post(GOOD, {"content-type": kind})
        await nothing_kept(webhook, sent, 415, "unsupported_media_type")


async def test_what_is_too_large_is_refused(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        sent = await webhook.send(message="x" * LIMITS.body_bytes)
        await nothing_kept(webhook, sent, 413, "body_too_large")


@pytest.mark.parametrize("url", FOREIGN)
async def test_a_reply_goes_to_the_named_host_only(tmp_path: Path, url: str) -> None:
    async with serving(tmp_path, reply_origin="https://hooks.example.com") as webhook:
        sent = await webhook.send(reply_url=url)
        assert sent.json["error"].get("field") == "reply_url"
        await nothing_kept(webhook, sent, 422, "invalid_request")


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("https://hooks.example.com", "https://hooks.example.com/a/../b?c=d@e#f"),
        ("https://hooks.example.com", "https://hooks.example.com//evil.example/"),
        ("https://hooks.example.com:8443", "https://hooks.example.com:8443/x"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]/x"),
        ("https://[2001:db8::1]:8443", "https://[2001:db8::1]:8443/x"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001/x"),
    ],
)
async def test_it_may_go_anywhere_there(tmp_path: Path, origin: str, url: str) -> None:
    async with serving(tmp_path, reply_origin=origin) as webhook:
        assert (await webhook.send(reply_url=url)).status == 202


@pytest.mark.parametrize("conversation", ["../..", "a/b", "\0", "🍵", "x" * 500, " ", "webhook"])
async def test_a_conversation_may_have_any_name(tmp_path: Path, conversation: str) -> None:
    async with serving(tmp_path) as webhook:
        assert (await webhook.send("m-1", conversation=conversation)).status == 202
        assert await webhook.work(conversation) == [None]
        assert webhook.replies == [{"id": "m-1", "conversation": conversation, "answer": "1: hello"}]


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
async def test_it_takes_posts_only(tmp_path: Path, method: str) -> None:
    async with serving(tmp_path) as webhook:
        assert (await call(webhook.host.app, method, "/webhook")).status == 405
