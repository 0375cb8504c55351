"""A channel that works on updates, and instances that share a store, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from agent_framework_hosting import (
    AgentFrameworkHost,
    ChannelContext,
    ChannelContribution,
    HostedRunResult,
    HostLimits,
    InboundUpdate,
)
from agent_framework_hosting.drains import Drains
from agent_framework_hosting.host_updates import HostUpdates
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.checkpoints import StoredCheckpoints
from agent_framework_hosting.state.head import Head, decode_head
from agent_framework_hosting.state.mail import SetAside, decode_dead
from agent_framework_hosting.state.mailbox import StoredMailboxes
from agent_framework_hosting.state.store import StateStore, read
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting.targets import TargetSource
from agent_framework_hosting.turns import Turns
from tests.hosting.protocol.channel import started
from tests.hosting.protocol.diary import LONG, Diary, read_diary, request
from tests.hosting.protocol.modes import text_of
from tests.support.faults import ManualClock

KEY = "chat:1"
BORN = 1_700_000_000.0
LOOKS = 60

Act = Callable[["PostChannel", InboundUpdate], Awaitable[None]]


def post(word: str, *, key: str = KEY, order: str = "", id: str = "", **fields: Any) -> InboundUpdate:
    """An update that says a word; its id and order are the word unless they are given."""
    return InboundUpdate(
        channel="post",
        id=id or word,
        isolation_key=key,
        payload=json.dumps({"word": word}).encode(),
        order=order or word,
        **fields,
    )


def word_of(update: InboundUpdate) -> str:
    return json.loads(update.payload)["word"]


async def reply(channel: PostChannel, update: InboundUpdate) -> None:
    """Run the target with the word, and send what it answers."""
    await channel.send(text_of((await channel.run(update)).result))


class PostChannel:
    """Takes updates and does with each what `act` says; `sent` is what its users have got."""

    name = "post"
    path = "/post"
    context: ChannelContext

    def __init__(self, act: Act = reply, *, sent: list[str] | None = None) -> None:
        self.act = act
        self.sent: list[str] = [] if sent is None else sent
        self.begun: list[str] = []

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        self.context = context
        return ChannelContribution(on_update=self.on_update, authenticated=True)

    async def on_update(self, update: InboundUpdate) -> None:
        self.begun.append(word_of(update))
        await self.act(self, update)

    async def run(
        self, update: InboundUpdate, word: str | None = None, *, key: str | None = None, **how: Any
    ) -> HostedRunResult[Any]:
        key = update.isolation_key if key is None else key
        return await self.context.run(request(key, word_of(update) if word is None else word, **how))

    async def send(self, text: str) -> None:
        self.sent.append(text)


@dataclass
class Times:
    """The time of all instances of a test: that of leases, and that on the wall."""

    clock: ManualClock = field(default_factory=ManualClock)

    def wall(self) -> float:
        return BORN + self.clock.time


@dataclass
class Desk:
    """One instance that works on a store's updates."""

    channel: PostChannel
    mailboxes: StoredMailboxes
    updates: HostUpdates
    times: Times

    @property
    def drains(self) -> Drains:
        return self.updates.drains

    @property
    def sent(self) -> list[str]:
        return self.channel.sent

    async def accept(self, *updates: InboundUpdate) -> list[bool]:
        return [await self.drains.accept(update) for update in updates]

    async def keys(self) -> list[str]:
        """The conversations that have something to work on."""
        found = self.drains.keys()
        return sorted([key async for key in found])

    async def drain(self, key: str = KEY) -> float | None:
        return await self.drains.drain(key)

    async def finish(self, key: str = KEY) -> None:
        """Drain until nothing is left, moving the clock on where there is something to wait for."""
        for _ in range(LOOKS):
            if (delay := await self.drain(key)) is None:
                return
            self.times.clock.advance(delay + 0.001)
        raise TimeoutError("The mailbox is never empty.")


@asynccontextmanager
async def desk(
    store: StateStore,
    act: Act = reply,
    *,
    target: Any = None,
    limits: HostLimits = LONG,
    times: Times | None = None,
    sent: list[str] | None = None,
    jitter: Callable[[], float] = lambda: 0.5,
    **parts: Any,
) -> AsyncIterator[Desk]:
    """Work on a store as a host does; with `times` no real time passes."""
    channel = PostChannel(act, sent=sent)
    source = TargetSource(Diary() if target is None else target)
    await source.start()
    if times is not None:
        parts = {"clock": times.clock, "wall": times.wall, "sleep": times.clock.sleep, **parts}
    conversations = StoredConversations(store, limits, jitter=jitter, **parts)
    conversations.keeper = StoredCheckpoints(store)
    turns = Turns(conversations, turn_timeout=limits.turn_timeout.total_seconds())
    turns.runner = await source.runner()
    mailboxes = StoredMailboxes(conversations)
    updates = HostUpdates(mailboxes, {channel.name: channel.on_update}, None, store=store)
    channel.contribute(ChannelContext(channel.name, source, turns, store, limits, updates=lambda: updates))
    try:
        yield Desk(channel, mailboxes, updates, times or Times())
    finally:
        await mailboxes.close()
        await conversations.close()


@asynccontextmanager
async def serving(act: Act = reply, *, target: Any = None, **host: Any) -> AsyncGenerator[PostChannel]:
    """Run a whole host with one such channel; its inbox works in this process."""
    channel = PostChannel(act)
    async with started(AgentFrameworkHost(Diary() if target is None else target, channels=[channel], **host)):
        yield channel


async def head_of(store: StateStore, key: str = KEY) -> Head | None:
    name = f"k/{conversation_path(key)}/head"
    found = await read(store, name)
    return None if found is None else decode_head(name, found[0], key)


async def dead(store: StateStore, key: str = KEY) -> list[SetAside]:
    """What was set aside in a conversation."""
    names = await store.list(f"dead/{conversation_path(key)}/")
    return [decode_dead(name, (await read(store, name) or (b"", ""))[0]) for name in names]


async def check_at_rest(store: StateStore, words: list[str], key: str = KEY) -> None:
    """Make sure that a conversation has these words, that nothing waits in it, and that nobody holds it."""
    assert await read_diary(store, key) == words
    assert await store.list(f"in/{conversation_path(key)}/") == []
    head = await head_of(store, key)
    assert head is not None
    assert (head.lease, head.ran, head.hold) == (None, None, {})


def numbered(words: list[str]) -> list[str]:
    """What the diary answers to these words."""
    return [f"{number}: {word}" for number, word in enumerate(words, 1)]


def lasting(update: InboundUpdate, **fields: Any) -> InboundUpdate:
    return replace(update, **fields)


async def settled(*works: Awaitable[Any]) -> list[Any]:
    """Do works at the same time and give what each returned or raised."""
    return await asyncio.gather(*works, return_exceptions=True)
