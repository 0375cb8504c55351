"""Replies arrive at least once: what the receiver refuses is sent again later, and the agent runs once all the same."""

import asyncio
import ssl
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from agent_framework_hosting import InboundUpdate, InvalidRequest
from tests.samples.webhooks import LIMITS, Webhook, key_of, serving
from tests.support.receivers import Answer, Receiver, answered, silence
from tests.support.targets import ScriptedAgent


async def attempted(webhook: Webhook) -> float:
    """Work on a message whose reply fails, and give the seconds until the next attempt."""
    [later] = await webhook.work()
    assert later is not None
    return later


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer a byte at a time, each of them soon enough."""
    writer.write(b"HTTP/1.1 200 X\r\nx: ")
    with suppress(OSError):
        while True:
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.01)


FAILURES: dict[str, Answer] = {
    "an error": answered(500),
    "a busy receiver": answered(429, "retry-after: 1"),
    "a refusal": answered(401),
    "gone": answered(410),
    "no HTTP": b"hello\r\n\r\n",
    "nothing": b"",
    "silence": silence,
    "a drip": drip,
    "half a head": b"HTTP/1.1 204 X\r\n",
}


@pytest.mark.parametrize("name", FAILURES)
async def test_a_reply_that_fails_is_sent_again_without_another_run(tmp_path: Path, name: str) -> None:
    async with serving(tmp_path, timeout=1.0) as webhook:
        webhook.receiver.answers.append(FAILURES[name])
        await webhook.send()
        webhook.clock.now += await attempted(webhook)
        assert await webhook.work() == [None]
        assert webhook.replies == [{"id": "m-1", "conversation": "tea", "answer": "1: hello"}] * 2
        assert len(webhook.agent.heard) == 1


async def test_a_receiver_that_is_away_gets_it_later(tmp_path: Path) -> None:
    async with Receiver() as gone:
        origin = gone.origin
    async with serving(tmp_path, reply_origin=origin) as webhook:
        await webhook.send(reply_url=f"{origin}/replies")
        later = await attempted(webhook)
        assert 4 <= later <= 6
        assert await webhook.work() == [later]
        assert len(webhook.agent.heard) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_a_failure_and_not_followed(tmp_path: Path, status: int) -> None:
    async with Receiver() as elsewhere, serving(tmp_path) as webhook:
        webhook.receiver.answers.append(answered(status, f"location: {elsewhere.origin}/"))
        await webhook.send()
        await attempted(webhook)
        assert elsewhere.received == []
        assert len(webhook.replies) == 1


@pytest.fixture
def self_signed(tmp_path: Path) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that nobody vouches for."""
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=x"
    files = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *files], cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


@pytest.mark.needs("openssl")
async def test_a_certificate_that_nobody_vouches_for_is_a_failure(tmp_path: Path, self_signed: ssl.SSLContext) -> None:
    async with Receiver(tls=self_signed) as receiver, serving(tmp_path, reply_origin=receiver.origin) as webhook:
        await webhook.send(reply_url=f"{receiver.origin}/replies")
        await attempted(webhook)
        assert receiver.received == []


async def test_an_answer_of_any_size_is_not_read(tmp_path: Path) -> None:
    written = 0
    gone = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(b"HTTP/1.1 200 X\r\ncontent-length: 1000000000000\r\n\r\n")
        with suppress(OSError):
            while True:
                writer.write(b"x" * 65_536)
                await writer.drain()
                written += 65_536
        gone.set()

    async with serving(tmp_path) as webhook:
        webhook.receiver.answers.append(flood)
        await webhook.send()
        assert await webhook.work() == [None]
        async with asyncio.timeout(10):
            await gone.wait()
        assert written < 64 * 2**20


async def test_a_head_without_end_is_a_failure(tmp_path: Path) -> None:
    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 X\r\n")
        with suppress(OSError):
            while True:
                writer.write(b"x: " + b"y" * 65_536 + b"\r\n")
                await writer.drain()

    async with serving(tmp_path) as webhook:
        webhook.receiver.answers.append(flood)
        await webhook.send()
        await attempted(webhook)


async def test_a_reply_that_never_arrives_is_set_aside_and_the_conversation_goes_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        webhook.receiver.answers += [answered(500)] * LIMITS.update_attempts
        await webhook.send("m-1", sequence=1)
        await webhook.send("m-2", sequence=2)
        for _ in range(LIMITS.update_attempts - 1):
            webhook.clock.now += await attempted(webhook)
        assert await webhook.work() == [None]
        ids = [reply["id"] for reply in webhook.replies]
        assert ids == ["m-1"] * LIMITS.update_attempts + ["m-2"]
        assert [messages[-1].text for messages in webhook.agent.heard] == ["hello", "hello"]
        [dead] = webhook.kept("dead")
        assert b"m-1" in dead and b"500" in dead
        assert webhook.receiver.origin.encode() + b"/replies" not in dead.partition(b'"error"')[2].partition(b'","')[0]


async def test_while_a_reply_waits_other_conversations_go_on(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        webhook.receiver.answers.append(answered(503))
        await webhook.send("m-1", conversation="tea")
        await webhook.send("m-2", conversation="coffee")
        await attempted(webhook)
        assert await webhook.work("coffee") == [None]
        assert [reply["id"] for reply in webhook.replies] == ["m-1", "m-2"]


async def test_an_agent_that_fails_is_run_again(tmp_path: Path) -> None:
    runs = 0

    def act(messages: object, session: object) -> str:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise ValueError("the model is away")
        return "done"

    async with serving(tmp_path, ScriptedAgent(act)) as webhook:
        await webhook.send()
        webhook.clock.now += await attempted(webhook)
        assert await webhook.work() == [None]
        assert [reply["answer"] for reply in webhook.replies] == ["done"]


async def test_an_origin_that_was_changed_holds_for_what_was_accepted_before(tmp_path: Path) -> None:
    async with serving(tmp_path, reply_origin="https://hooks.example.com") as webhook:
        payload = b'{"id":"m","conversation":"tea","sequence":1,"message":"x","reply_url":"%s/"}'
        payload %= webhook.receiver.origin.encode()
        with pytest.raises(InvalidRequest, match="operator"):
            await webhook.deliver(InboundUpdate("webhook", "m", key_of("tea"), payload, "1"))
        assert webhook.agent.heard == []
        assert webhook.receiver.received == []
