"""The signed webhook: acknowledged at once, run once and in order, and answered by a signed post."""

import asyncio
import logging
import shutil
from pathlib import Path

import msgspec
import pytest
from agent_framework import AgentSession, Message
from webhook_channel.signatures import Signatures
from webhook_channel.webhook import WebhookChannel

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError
from tests.samples.webhooks import LIMITS, NOW, SECOND, SECRET, Webhook, key_of, reply_of, serving, signed_headers
from tests.support.asgi import call
from tests.support.channels import started
from tests.support.receivers import Receiver, answered
from tests.support.targets import ScriptedAgent


async def test_a_message_is_acknowledged_then_run_then_answered(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        sent = await webhook.send()
        assert (sent.status, sent.body) == (202, b"")
        assert webhook.inbox.woken == [key_of("tea")]
        assert webhook.agent.heard == []

        assert await webhook.work() == [None]
        assert webhook.replies == [{"id": "m-1", "conversation": "tea", "answer": "1: hello"}]
        assert webhook.receiver.received[0].target == "/replies"
        assert webhook.receiver.received[0].headers["content-type"] == "application/json"
        assert int(webhook.receiver.received[0].headers["x-webhook-timestamp"]) == NOW


@pytest.mark.parametrize("durable", [True, False])
async def test_the_process_works_on_it_by_itself(tmp_path: Path, durable: bool) -> None:
    async with Receiver() as receiver:
        channel = WebhookChannel(Signatures([SECRET], clock=lambda: NOW), receiver.origin)
        host = AgentFrameworkHost(ScriptedAgent(), channels=[channel], state_dir=tmp_path if durable else None)
        async with started(host):
            body = b'{"id":"m-1","conversation":"tea","sequence":1,"message":"x","reply_url":"%s/r"}'
            body %= receiver.origin.encode()
            headers = {"content-type": "application/json", **signed_headers(body)}
            assert (await call(host.app, path="/webhook", body=body, headers=headers)).status == 202
            await receiver.until(1)
        assert reply_of(receiver.received[0])["answer"] == "1: x"


async def test_what_was_acknowledged_survives_the_process(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        assert (await webhook.send(reply_url=...)).status == 202
    async with serving(tmp_path) as webhook:
        assert await webhook.work() == [None]
        assert [messages[-1].text for messages in webhook.agent.heard] == ["hello"]


async def test_without_a_reply_url_nothing_is_posted(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        assert (await webhook.send(reply_url=...)).status == 202
        assert await webhook.work() == [None]
        assert len(webhook.agent.heard) == 1
        assert webhook.replies == []


async def test_repeats_are_acknowledged_and_run_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        assert [(await webhook.send()).status for _ in range(3)] == [202] * 3
        assert await webhook.work() == [None]
        assert (await webhook.send()).status == 202
        assert (await webhook.send(sequence=7)).status == 202
        assert await webhook.work() == [None]
        assert len(webhook.agent.heard) == 1
        assert len(webhook.replies) == 1


async def test_a_repeat_with_another_sequence_is_a_repeat(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        webhook.receiver.answers.append(answered(500))
        await webhook.send("m-1", sequence=5)
        await webhook.send("m-1", sequence=7)
        [later] = await webhook.work()
        assert later is not None
        await webhook.send("m-1", sequence=1)
        webhook.clock.now += later
        assert await webhook.work() == [None]
        assert len(webhook.agent.heard) == 1
        assert len(webhook.replies) == 2
        assert webhook.kept("in") == []


async def test_repeats_at_once_are_run_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        sent = await asyncio.gather(*(webhook.send() for _ in range(8)))
        assert {reply.status for reply in sent} == {202}
        await asyncio.gather(*(webhook.work() for _ in range(4)))
        await webhook.work()
        assert len(webhook.agent.heard) == 1


async def test_a_conversation_goes_in_the_order_of_its_sequence(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        for sequence in (10, 2, 9_000_000_000_000_000_000, 1):
            await webhook.send(f"m-{sequence}", sequence=sequence, message=f"say {sequence}")
        assert await webhook.work() == [None]
        assert [reply["answer"] for reply in webhook.replies] == [
            "1: say 1",
            "2: say 2",
            "3: say 10",
            "4: say 9000000000000000000",
        ]


async def test_two_conversations_go_side_by_side(tmp_path: Path) -> None:
    meeting = asyncio.Barrier(2)

    async def act(messages: list[Message], session: AgentSession | None) -> str:
        async with asyncio.timeout(10):
            await meeting.wait()
        return messages[-1].text

    async with serving(tmp_path, ScriptedAgent(act)) as webhook:
        # The same id in another conversation is another message.
        await webhook.send("m-1", conversation="tea", message="green")
        await webhook.send("m-1", conversation="coffee", message="black")
        await asyncio.gather(webhook.work("tea"), webhook.work("coffee"))
        assert {(reply["conversation"], reply["answer"]) for reply in webhook.replies} == {
            ("tea", "green"),
            ("coffee", "black"),
        }


async def test_two_instances_keep_each_conversation_once_and_in_order(tmp_path: Path) -> None:
    conversations = [f"c-{number}" for number in range(4)]
    sequences = range(1, 7)

    async def work(webhook: Webhook, conversation: str) -> None:
        async with asyncio.timeout(30):
            while await webhook.work(conversation) != [None]:
                pass  # The other instance has it.

    async with serving(tmp_path) as one, serving(tmp_path, reply_origin=one.receiver.origin) as other:
        # Every message comes twice, the second time at the other instance and the other way round.
        for instance, order in ((one, sequences), (other, sequences[::-1])):
            for sequence in order:
                for conversation in conversations:
                    message = one.message(f"m-{sequence}", conversation=conversation, sequence=sequence)
                    body = msgspec.json.encode({**message, "message": f"say {sequence}"})
                    assert (await instance.post(body)).status == 202
        await asyncio.gather(
            *(work(instance, conversation) for instance in (one, other) for conversation in conversations)
        )
        for conversation in conversations:
            answers = [reply["answer"] for reply in one.replies if reply["conversation"] == conversation]
            assert answers == [f"{sequence}: say {sequence}" for sequence in sequences]
        assert len(one.agent.heard) + len(other.agent.heard) == len(conversations) * len(sequences)
        assert one.kept("in") == []


async def test_what_cannot_get_better_is_answered_with_an_error(tmp_path: Path) -> None:
    def act(messages: list[Message], session: AgentSession | None) -> str:
        assert session is not None
        session.state["padding"] = "x" * LIMITS.session_bytes
        return "grown"

    async with serving(tmp_path, ScriptedAgent(act)) as webhook:
        await webhook.send("m-1", sequence=1)
        await webhook.send("m-2", sequence=2)
        assert await webhook.work() == [None]
        assert len(webhook.agent.heard) == 1
        assert [reply.get("answer") for reply in webhook.replies] == ["grown", None]
        assert "Reset it" in webhook.replies[1]["error"]


async def test_a_store_that_is_away_has_the_sender_try_again(tmp_path: Path) -> None:
    async with serving(tmp_path) as webhook:
        shutil.rmtree(webhook.directory)
        webhook.directory.write_text("no directory")
        sent = await webhook.send()
        assert (sent.status, sent.json["error"]["code"]) == (503, "state_unavailable")
        assert int(sent.headers["retry-after"]) > 0
        assert str(webhook.directory) not in sent.body.decode()


async def test_no_secret_and_no_signature_is_logged_or_stored(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with serving(tmp_path) as webhook:
        webhook.receiver.answers.append(answered(500))
        await webhook.send()
        await webhook.post(b"{}", signed_headers(b"other"))
        await webhook.work()
        kept = b"".join(webhook.files().values())
        told = caplog.text + repr(webhook.channel) + repr(vars(webhook.channel)["signatures"])
        signature = webhook.receiver.received[0].headers["x-webhook-signature"]
        assert b"m-1" in kept
        for secret in (SECRET, SECOND, signature, signature.removeprefix("sha256=")):
            assert secret.encode() not in kept
            assert secret not in told


@pytest.mark.parametrize("secrets", [[], [""], ["short"], [SECRET, "short"], "one text of more than 32 characters"])
def test_secrets_that_can_be_guessed_are_refused(secrets: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="32 characters"):
        Signatures(secrets)


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "hooks.example.com",
        "https://",
        "ftp://h",
        "https://h/",
        "https://h/x",
        "https://u@h",
        "https://h?x",
        "https://h#x",
        "https://h ",
        "https://h\n",
        "https:\\\\h",
    ],
)
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="reply_origin"):
        WebhookChannel(Signatures([SECRET]), origin)


def test_it_may_be_exposed(tmp_path: Path) -> None:
    channel = WebhookChannel(Signatures([SECRET]), "https://hooks.example.com")
    AgentFrameworkHost(ScriptedAgent(), channels=[channel], state_dir=tmp_path).check_exposure("a server")
