"""Only what somebody with a secret has signed, about now and with this body, gets in: nothing is kept of all else."""

import asyncio
import hmac
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request
from webhook_channel.signatures import SIGNATURE, TIMESTAMP, WINDOW, Signatures, sign

from agent_framework_hosting import Unauthenticated
from tests.samples.webhooks import LIMITS, NOW, SECOND, SECRET, Webhook, serving, signed_headers
from tests.support.asgi import Connection

Headers = dict[str, str]
Forge = Callable[[bytes], Headers]


def without(name: str) -> Forge:
    return lambda body: {**signed_headers(body), name: ""}


def stamped(timestamp: str, *, claimed: str | None = None) -> Forge:
    return lambda body: {**signed_headers(body, timestamp=timestamp), TIMESTAMP: claimed or timestamp}


def altered(change: Callable[[str], str]) -> Forge:
    return lambda body: {**signed_headers(body), SIGNATURE: change(signed_headers(body)[SIGNATURE])}


UNREAD: dict[str, Forge] = {
    "no timestamp": without(TIMESTAMP),
    "no signature": without(SIGNATURE),
    "too old": stamped(str(NOW - WINDOW - 1)),
    "too far ahead": stamped(str(NOW + WINDOW + 1)),
    "from the beginning of time": stamped("0"),
    "a time beyond any integer": stamped("9" * 5_000),
    "a time with a sign": stamped(f"+{NOW}"),
    "a negative time": stamped(f"-{NOW}"),
    "a time with a fraction": stamped(f"{NOW}.0"),
    "a time with an underscore": stamped("1_795_000_000"),
    "a time of digits that are none": stamped("²" * 10),
    "a time in words": stamped("now"),
    "a time with a space": stamped(f" {NOW}"),
    "no scheme": altered(lambda signature: signature.removeprefix("sha256=")),
    "another scheme": altered(lambda signature: signature.replace("sha256", "sha1")),
    "upper case": altered(lambda signature: "sha256=" + signature[7:].upper() + "A"),
    "one digit short": altered(lambda signature: signature[:-1]),
    "one digit more": altered(lambda signature: signature + "0"),
    "two signatures": altered(lambda signature: f"{signature},{signature}"),
    "a signature that is not ASCII": altered(lambda signature: "sha256=" + "é" * 64),
    "a huge signature": altered(lambda signature: signature * 1_000),
}
"""Headers that fit no body at this time."""

FORGED: dict[str, Forge] = {
    "another time than the signed one": stamped(str(NOW), claimed=str(NOW + 1)),
    "a zero before the signed time": stamped(str(NOW), claimed=f"0{NOW}"),
    "one digit changed": altered(lambda signature: signature[:-1] + ("1" if signature[-1] == "0" else "0")),
    "another body's": lambda body: signed_headers(body + b" "),
    "an empty body's": lambda body: signed_headers(b""),
    "another secret's": lambda body: signed_headers(body, "s3cret-of-nobody-" * 3),
    "an empty secret's": lambda body: signed_headers(body, ""),
    "a time and body without the dot": lambda body: {
        TIMESTAMP: str(NOW),
        SIGNATURE: "sha256=" + hmac.digest(SECRET.encode(), f"{NOW}".encode() + body, "sha256").hex(),
    },
    "a body without the time": lambda body: {
        TIMESTAMP: str(NOW),
        SIGNATURE: "sha256=" + hmac.digest(SECRET.encode(), body, "sha256").hex(),
    },
}
"""Headers that fit something else."""


async def refused(webhook: Webhook, forge: Forge) -> None:
    before = webhook.files()
    body = b'{"id": "m-1", "conversation": "tea", "sequence": 1, "message": "hello"}'
    sent = await webhook.post(body, forge(body))
    assert (sent.status, sent.json["error"]["code"]) == (401, "unauthenticated")
    assert webhook.files() == before
    assert webhook.inbox.woken == []


@pytest.mark.parametrize("name", [*UNREAD, *FORGED])
async def test_what_is_not_signed_rightly_is_refused(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as webhook:
        await refused(webhook, {**UNREAD, **FORGED}[name])


@pytest.mark.parametrize("name", UNREAD)
async def test_headers_that_fit_no_body_are_refused_before_one_is_read(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path) as webhook:
        headers = {"content-type": "application/json", **UNREAD[name](b"{}")}
        async with Connection(webhook.host.app, path="/webhook", headers=headers) as connection:
            assert (await connection.end()).status == 401
            assert connection.received == 0


@pytest.mark.parametrize("secret", [SECRET, SECOND])
@pytest.mark.parametrize("off", [0, -WINDOW, WINDOW])
async def test_any_secret_is_good_for_the_whole_window(tmp_path: Path, secret: str, off: int) -> None:
    async with serving(tmp_path) as webhook:
        webhook.clock.now += off
        assert (await webhook.post(b"[]", secret=secret)).status == 422


async def test_a_secret_that_is_dropped_is_no_longer_good(tmp_path: Path) -> None:
    async with serving(tmp_path, secrets=[SECOND]) as webhook:
        assert (await webhook.post(b"[]", secret=SECRET)).status == 401
        assert (await webhook.post(b"[]", secret=SECOND)).status == 422


async def test_a_body_in_pieces_is_checked_as_a_whole(tmp_path: Path) -> None:
    body = '{"id": "m-1", "conversation": "tea", "sequence": 1, "message": "grün 🍵"}'.encode()
    async with serving(tmp_path) as webhook:
        headers = {"content-type": "application/json", **signed_headers(body)}
        async with Connection(webhook.host.app, path="/webhook", headers=headers) as connection:
            for position in range(len(body)):
                connection.send(body[position : position + 1], more=True)
            connection.send(b"")
            assert (await connection.end()).status == 202
        await webhook.work()
        assert webhook.agent.heard[0][-1].text == "grün 🍵"


async def test_a_huge_body_is_not_read_to_its_end(tmp_path: Path) -> None:
    body = b" " * (LIMITS.body_bytes + 1)
    async with serving(tmp_path) as webhook:
        assert (await webhook.post(body)).status == 413
        assert (await webhook.post(b"", {"content-length": "9" * 30})).status == 413
        async with Connection(webhook.host.app, path="/webhook", headers=signed_headers(body)) as connection:
            connection.send(body, more=True)
            assert (await connection.end()).status == 413


async def test_a_caller_that_leaves_has_sent_nothing(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        async with Connection(webhook.host.app, path="/webhook", headers=signed_headers(b"{}")) as connection:
            connection.send(b"{", more=True)
            connection.disconnect()
            assert (await connection.end()).status == 400
        assert webhook.inbox.woken == []


def read(secrets: list[str], headers: Headers, body: bytes, now: float) -> bytes:
    """Have a request checked outside any app."""

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body}

    fields = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    request = Request({"type": "http", "headers": [*fields, (b"content-type", b"application/json")]}, receive)
    return asyncio.run(Signatures(secrets, clock=lambda: now).read(request, 1_000))


secrets = st.text(st.characters(exclude_categories=["Cs"]), min_size=32, max_size=50)
times = st.integers(WINDOW, 10**12 - 1 - WINDOW)
LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=80)


@settings(deadline=None)
@given(secrets, secrets, times, st.integers(-WINDOW, WINDOW), st.binary(max_size=100))
def test_what_is_signed_is_read(first: str, second: str, now: int, off: int, body: bytes) -> None:
    assert read([first, second], signed_headers(body, second, str(now + off)), body, now) == body


@settings(deadline=None)
@given(secrets, times, st.binary(max_size=100), st.data())
def test_a_change_of_any_kind_is_noticed(secret: str, now: int, body: bytes, data: st.DataObject) -> None:
    timestamp = str(now)
    changed = data.draw(
        st.sampled_from(["secret", "timestamp", "body"]).flatmap(
            lambda part: {
                "secret": st.tuples(secrets, st.just(timestamp), st.just(body)),
                "timestamp": st.tuples(
                    st.just(secret), st.integers(now - WINDOW, now + WINDOW).map(str), st.just(body)
                ),
                "body": st.tuples(st.just(secret), st.just(timestamp), st.binary(max_size=100)),
            }[part]
        )
    )
    headers = {TIMESTAMP: timestamp, SIGNATURE: sign(*changed)}
    if changed == (secret, timestamp, body):
        assert read([secret], headers, body, now) == body
    else:
        with pytest.raises(Unauthenticated):
            read([secret], headers, body, now)


@settings(deadline=None)
@given(LATIN, LATIN, st.binary(max_size=20))
def test_headers_of_any_kind_are_refused(timestamp: str, signature: str, body: bytes) -> None:
    with pytest.raises(Unauthenticated):
        read([SECRET], {TIMESTAMP: timestamp, SIGNATURE: signature}, body, NOW)
