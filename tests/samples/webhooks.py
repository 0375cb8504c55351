"""The webhook sample on a host with a state directory, a clock of its own, and a receiver on loopback for its replies.

Nothing is worked on but by `Webhook.work`: the host's inbox only notes what it is told.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from webhook_channel.signatures import SIGNATURE, TIMESTAMP, Signatures, sign
from webhook_channel.webhook import WebhookChannel

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelContext,
    ChannelContribution,
    HostLimits,
    InboundUpdate,
    isolation_key,
)
from agent_framework_hosting.drains import Drains
from agent_framework_hosting.state.mailbox import StoredMailboxes
from agent_framework_hosting.state.stored import StoredConversations
from tests.support.asgi import Reply, call
from tests.support.channels import started
from tests.support.receivers import Received, Receiver
from tests.support.targets import ScriptedAgent

NOW = 1_795_000_000
SECRET, SECOND = "s3cret-of-today-" * 3, "s3cret-of-tomorrow-é-" * 3
LIMITS = HostLimits(body_bytes=20_000)


class Clock:
    def __init__(self) -> None:
        self.now = float(NOW)

    def __call__(self) -> float:
        return self.now


class NotingInbox:
    def __init__(self) -> None:
        self.woken: list[str] = []

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        self.woken.append(isolation_key)


class Channel(WebhookChannel):
    """Shows what it contributes."""

    contribution: ChannelContribution

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.contribution = super().contribute(context)
        return self.contribution


class Webhook:
    def __init__(
        self,
        directory: Path,
        receiver: Receiver,
        agent: ScriptedAgent,
        *,
        secrets: Sequence[str] = (SECRET, SECOND),
        reply_origin: str | None = None,
        **signatures: Any,
    ) -> None:
        self.clock, self.inbox = Clock(), NotingInbox()
        self.directory, self.receiver, self.agent = directory, receiver, agent
        self.channel = Channel(Signatures(secrets, clock=self.clock, **signatures), reply_origin or receiver.origin)
        self.host = AgentFrameworkHost(
            agent, channels=[self.channel], state_dir=directory, limits=LIMITS, inbox=self.inbox
        )

    def message(self, id: str = "m-1", *, conversation: str = "tea", **fields: Any) -> dict[str, Any]:
        url = f"{self.receiver.origin}/replies"
        message = {"id": id, "conversation": conversation, "sequence": 1, "message": "hello", "reply_url": url}
        return {name: value for name, value in {**message, **fields}.items() if value is not ...}

    async def send(self, id: str = "m-1", **fields: Any) -> Reply:
        return await self.post(msgspec.json.encode(self.message(id, **fields)))

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None, *, secret: str = SECRET) -> Reply:
        """Post a signed body; `headers` replace those that go with it."""
        signed = {"content-type": "application/json", **signed_headers(body, secret), **(headers or {})}
        return await call(self.host.app, path="/webhook", body=body, headers=signed)

    async def work(self, *conversations: str) -> list[float | None]:
        """Do what can be done in the conversations now, and give the seconds after which there is more."""
        kept = StoredConversations(self.host.state.sessions, LIMITS, wall=self.clock)
        assert self.channel.contribution.on_update is not None
        drains = Drains(StoredMailboxes(kept), {"webhook": self.channel.contribution.on_update})
        try:
            return [await drains.drain(key_of(conversation)) for conversation in conversations or ["tea"]]
        finally:
            await drains.mailboxes.close()
            await kept.close()

    async def deliver(self, update: InboundUpdate) -> None:
        """Have the channel work on an update outside any mailbox."""
        assert self.channel.contribution.on_update is not None
        await self.channel.contribution.on_update(update)

    @property
    def replies(self) -> list[dict[str, str]]:
        return [reply_of(received) for received in self.receiver.received]

    def files(self) -> dict[str, bytes]:
        """All that is stored."""
        paths = (path for path in self.directory.rglob("*") if path.is_file())
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in paths}

    def kept(self, where: str) -> list[bytes]:
        """The updates that stand in `in` (accepted) or in `dead` (set aside)."""
        return [data for name, data in self.files().items() if f"/{where}/" in name]


def key_of(conversation: str) -> str:
    return isolation_key("webhook", conversation)


def signed_headers(body: bytes, secret: str = SECRET, timestamp: str = str(NOW)) -> dict[str, str]:
    return {TIMESTAMP: timestamp, SIGNATURE: sign(secret, timestamp, body)}


def reply_of(received: Received) -> dict[str, str]:
    """Read a reply as its receiver does, with the signature checked."""
    assert received.headers[SIGNATURE] == sign(SECRET, received.headers[TIMESTAMP], received.body)
    reply = msgspec.json.decode(received.body, type=dict[str, str])
    assert received.headers["idempotency-key"] == reply["id"]
    return reply


@asynccontextmanager
async def serving(directory: Path, agent: ScriptedAgent | None = None, **channel: Any) -> AsyncIterator[Webhook]:
    async with Receiver() as receiver:
        webhook = Webhook(directory / "state", receiver, agent or ScriptedAgent(), **channel)
        async with started(webhook.host):
            yield webhook
