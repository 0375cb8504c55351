"""Updates that fail: held back, tried again, set aside; and what is kept and shown of that."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agent_framework import AgentResponse, Message

from agent_framework_hosting import AgentFrameworkHost, InboundUpdate
from agent_framework_hosting.drains import Drains
from agent_framework_hosting.errors import (
    ConfigurationError,
    HostingError,
    InvalidRequest,
    SessionTooLarge,
    TurnConflict,
)
from agent_framework_hosting.running.results import encode_result
from agent_framework_hosting.state.belonging import Finder
from agent_framework_hosting.state.deletion import Deleter
from agent_framework_hosting.state.held import StoredHeld
from agent_framework_hosting.state.mail import Letter
from agent_framework_hosting.state.mailbox_keys import waiting_keys
from agent_framework_hosting.state.store import read
from agent_framework_hosting.state.transient import TransientConversations
from agent_framework_hosting.state.transient_mailbox import TransientMailboxes
from tests.hosting.mailbox.desk import (
    KEY,
    PostChannel,
    Times,
    check_at_rest,
    dead,
    desk,
    head_of,
    post,
    reply,
    serving,
    word_of,
)
from tests.hosting.protocol.channel import started
from tests.hosting.protocol.diary import LONG, Diary
from tests.support.channels import ProbeChannel
from tests.support.stores import FaultStore, away, calling

TOKEN = "reply-token-5f2c"
USER = "user:pw"
PATH = "bot7:SECRET/sendMessage"


async def fail(channel: PostChannel, update: InboundUpdate) -> None:
    raise ValueError(f"POST https://{USER}@api.example.org/{PATH}?x=1 failed for {TOKEN}")


@pytest.mark.parametrize("jitter", [0.0, 0.5, 1.0])
async def test_a_failing_update_is_tried_again_later_and_later_and_then_set_aside(
    store: FaultStore, jitter: float
) -> None:
    times = Times()
    async with desk(store, fail, times=times, jitter=lambda: jitter) as one:
        await one.accept(post("a"), post("b"))
        waits: list[float] = []
        while len(waits) < 4:
            delay = await one.drain()
            assert delay is not None
            waits.append(delay)
            times.clock.advance(delay / 2)
            assert await one.drain() == pytest.approx(delay / 2)  # Not before its time, and the next one not either.
            times.clock.advance(delay / 2 + 0.001)
        assert waits == pytest.approx([(0.8 + 0.4 * jitter) * seconds for seconds in (5, 20, 80, 320)])
        assert one.channel.begun == ["a"] * 4
        one.channel.act = lambda channel, update: (fail if word_of(update) == "a" else reply)(channel, update)
        assert await one.drain() is None
        assert one.sent == ["1: b"]
    [update] = await dead(store)
    assert (update.id, update.attempts, update.channel, update.order) == ("a", 5, "post", "a")
    assert update.payload == post("a").payload
    assert update.error.startswith("ValueError: POST https://api.example.org/…")
    await check_at_rest(store, ["b"])


async def test_a_channel_is_told_which_attempt_it_is(store: FaultStore) -> None:
    attempts: list[int] = []

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        attempts.append(update.attempt)
        await (reply if update.attempt == 3 else fail)(channel, update)

    async with desk(store, act, times=Times()) as one:
        await one.accept(post("a"))
        await one.finish()
        assert one.sent == ["1: a"]
    assert attempts == [1, 2, 3]


@pytest.mark.parametrize("error", [InvalidRequest("message", "There is none."), SessionTooLarge("It is too large.")])
async def test_what_would_be_the_same_again_is_set_aside_at_once(store: FaultStore, error: HostingError) -> None:
    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        if word_of(update) == "a":
            raise error
        await reply(channel, update)

    async with desk(store, act, times=Times()) as one:
        await one.accept(post("a"), post("b"))
        assert await one.drain() is None
        assert one.sent == ["1: b"]
    assert [(update.id, update.attempts) for update in await dead(store)] == [("a", 1)]
    await check_at_rest(store, ["b"])


async def test_an_update_that_was_set_aside_is_known(store: FaultStore) -> None:
    async with desk(store, fail, times=Times(), limits=replace(LONG, update_attempts=1)) as one:
        await one.accept(post("a"))
        await one.finish()
        assert await one.accept(post("a")) == [False]
        await one.finish()
        assert one.channel.begun == ["a"]
    assert await store.list("in/") == []


async def test_nothing_secret_is_kept_or_shown(store: FaultStore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with desk(store, fail, times=Times(), limits=replace(LONG, update_attempts=2)) as one:
        await one.accept(post("a", reply_token=TOKEN))
        assert await one.drain() is not None
        head = await head_of(store)
        assert head is not None
        [hold] = head.hold.values()
        assert hold.error is not None
        await one.finish()
    shown = [caplog.text, hold.error, *[record.getMessage() for record in caplog.records]]
    documents = [(await read(store, name) or (b"", ""))[0] for name in await store.list("")]
    assert any(b"api.example.org" in document for document in documents)
    for secret in (TOKEN, "SECRET", USER):
        assert not any(secret in text for text in shown)
        assert not any(secret.encode() in document for document in documents)
    assert "api.example.org" in caplog.text


async def test_an_endless_or_odd_error_is_kept_in_part(store: FaultStore) -> None:
    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        raise ValueError("\ud800" + "x" * 10_000_000)

    async with desk(store, act, times=Times(), limits=replace(LONG, update_attempts=2)) as one:
        await one.accept(post("a"))
        async with asyncio.timeout(5):
            await one.finish()
    [update] = await dead(store)
    assert (update.attempts, len(update.error)) == (2, 2000)
    assert max(len(operation.data or b"") for operation in store.log) < 10_000


async def test_a_reply_token_is_handed_out_until_it_expires(store: FaultStore) -> None:
    times, tokens = Times(), list[str | None]()

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        tokens.append(update.reply_token)
        if len(tokens) < 3:
            raise ValueError("no")

    async with desk(store, act, times=times) as one:
        await one.accept(post("a", reply_token=TOKEN, expires=times.wall() + 10))
        await one.finish()
    assert tokens == [TOKEN, TOKEN, None]
    assert await store.list("in/") == []


async def test_a_reply_token_in_memory_is_handed_out_until_it_expires() -> None:
    times, tokens = Times(), list[str | None]()

    async def act(update: InboundUpdate) -> None:
        tokens.append(update.reply_token)
        if len(tokens) < 3:
            raise ValueError("no")

    mailboxes = TransientMailboxes(TransientConversations(LONG), wall=times.wall, jitter=lambda: 0.5)
    drains = Drains(mailboxes, {"post": act})
    await drains.accept(post("a", reply_token=TOKEN, expires=times.wall() + 10))
    waits: list[float] = []
    while (delay := await drains.drain(KEY)) is not None:
        waits.append(delay)
        times.clock.advance(delay)
    assert tokens == [TOKEN, TOKEN, None]
    assert waits == pytest.approx([5, 20])


async def test_memory_gives_updates_up_and_forgets_them_after_a_day(caplog: pytest.LogCaptureFixture) -> None:
    times, begun = Times(), list[str]()

    async def act(update: InboundUpdate) -> None:
        begun.append(word_of(update))
        if word_of(update) == "bad":
            raise ValueError("no")

    limits = replace(LONG, update_attempts=2)
    mailboxes = TransientMailboxes(TransientConversations(limits), wall=times.wall)
    drains = Drains(mailboxes, {"post": act})
    await drains.accept(post("bad"))
    await drains.accept(post("good"))
    delay = await drains.drain(KEY)
    assert delay is not None
    times.clock.advance(delay)
    assert await drains.drain(KEY) is None
    assert begun == ["bad", "bad", "good"]
    assert "given up" in caplog.text
    times.clock.advance(86_400)
    assert not await drains.accept(post("good"))
    times.clock.advance(86_400)
    assert await drains.accept(post("good"))


async def test_a_damaged_update_is_set_aside_as_it_is(store: FaultStore) -> None:
    async with desk(store, times=Times()) as one:
        await one.accept(post("a"), post("b"))
        await store.put(Letter.of(post("a")).waiting, b"{damaged")
        await one.finish()
        assert one.sent == ["1: b"]
    [update] = await dead(store)
    assert (update.damaged, update.key) == (b"{damaged", KEY)
    await check_at_rest(store, ["b"])


async def test_an_update_in_a_foreign_mailbox_is_set_aside(store: FaultStore) -> None:
    async with desk(store, times=Times()) as one:
        await one.accept(post("a"), post("b", key="other"))
        foreign = await read(store, Letter.of(post("b", key="other")).waiting)
        assert foreign is not None
        await store.put(Letter.of(post("a")).waiting, foreign[0])
        await one.finish()
        assert one.sent == []
    [update] = await dead(store)
    assert update.damaged == foreign[0]


async def test_an_update_of_a_later_release_waits_for_that(store: FaultStore, caplog: pytest.LogCaptureFixture) -> None:
    name = Letter.of(post("a")).waiting
    async with desk(store, times=Times()) as one:
        await one.accept(post("a"), post("b"))
        found = await read(store, name)
        assert found is not None
        later = found[0].replace(b'"format":1', b'"format":2')
        await store.put(name, later)
        for _ in range(10):
            assert await one.drain() == 60
        assert one.sent == []
        assert await dead(store) == []
        assert (await read(store, name) or (b"",))[0] == later
        assert "newer release" in caplog.text
        await store.put(name, found[0])  # An instance of that release is there now.
        await one.finish()
        assert one.sent == ["1: a", "2: b"]
    await check_at_rest(store, ["a", "b"])


async def test_an_update_that_somebody_drops_is_not_begun(store: FaultStore) -> None:
    async with desk(store, fail, times=Times()) as one:
        await one.accept(post("a"), post("b"))
        assert await one.drain() is not None
        await store.delete(Letter.of(post("a")).waiting)
        one.channel.act = reply
        await one.finish()
        assert one.sent == ["1: b"]
    await check_at_rest(store, ["b"])  # And nothing of the other is left in the head.


async def test_an_update_of_a_channel_that_is_gone_is_set_aside(store: FaultStore) -> None:
    async with desk(store, times=Times(), limits=replace(LONG, update_attempts=2)) as one:
        await one.accept(post("a"))
        without = Drains(one.mailboxes, {})
        for _ in range(2):
            delay = await without.drain(KEY)
            one.times.clock.advance(delay or 0)
    [update] = await dead(store)
    assert "no channel 'post'" in update.error


def handling(name: str = "probe") -> ProbeChannel:
    """A channel that works on updates."""

    async def on_update(update: InboundUpdate) -> None:
        return None

    return ProbeChannel(name, f"/{name}", on_update=on_update)


async def test_updates_of_unknown_channels_are_refused(state_dir: Path | None) -> None:
    async with serving(state_dir=state_dir) as channel:
        for name in ("unknown", "probe"):
            with pytest.raises(ConfigurationError, match="cannot accept"):
                await channel.context.accept(replace(post("a"), channel=name))


async def test_a_channel_without_on_update_accepts_none(state_dir: Path | None) -> None:
    without = ProbeChannel()
    for channels in ([without], [without, handling("other")]):
        AgentFrameworkHost(Diary(), channels=channels, state_dir=state_dir).app  # noqa: B018
        with pytest.raises(ConfigurationError, match="no on_update"):
            await without.context.accept(replace(post("a"), channel="probe"))


class Silent:
    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        return None


def test_platforms_refuse_updates_that_would_be_lost(tmp_path: Path) -> None:
    def host(**how: Any) -> AgentFrameworkHost:
        return AgentFrameworkHost(Diary(), channels=[handling()], **how)

    with pytest.raises(ConfigurationError, match="state_dir"):
        host().check_platform("Somewhere")
    with pytest.raises(ConfigurationError, match="state_dir"):
        host(inbox=Silent()).check_platform("Somewhere")
    with pytest.raises(ConfigurationError, match="inbox="):
        host(state_dir=tmp_path).check_platform("Somewhere")
    host(state_dir=tmp_path, inbox=Silent()).check_platform("Somewhere")
    AgentFrameworkHost(Diary(), channels=[ProbeChannel()]).check_platform("Somewhere")


async def test_hosts_say_that_updates_in_memory_get_lost(
    state_dir: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(state_dir=state_dir):
        assert ("updates are kept in memory" in caplog.text) == (state_dir is None)


async def test_channels_are_started_before_their_updates_come_and_stopped_after(tmp_path: Path) -> None:
    events: list[str] = []

    class Client(PostChannel):
        def contribute(self, context: Any) -> Any:
            contribution = super().contribute(context)
            contribution.on_startup, contribution.on_shutdown = [self.up], [self.down]
            return contribution

        async def up(self) -> None:
            events.append("up")

        async def down(self) -> None:
            events.append("down")

    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        events.append(word_of(update))

    client = Client(act)
    async with started(AgentFrameworkHost(Diary(), channels=[client], state_dir=tmp_path)):
        await client.context.accept(post("b", key="other"))
    assert events == ["up", "b", "down"]


async def test_what_is_no_update_keeps_nobody_busy(store: FaultStore) -> None:
    path = Letter.of(post("a")).path
    async with desk(store, times=Times()) as one:
        for name in (f"in/{path}/nodot", f"in/{path}/zz.short", "in/straggler"):
            await store.put(name, b"x")
        await one.accept(post("a"))
        assert await one.drain() is None
        assert one.sent == ["1: a"]
        store.log.clear()
        assert await one.drain() is None
    assert store.names("put") == []


async def test_a_document_that_cannot_be_read_keeps_no_other_mailbox_from_being_swept(store: FaultStore) -> None:
    updates = [post("a", key=f"chat:{number}") for number in range(5)]
    async with desk(store, times=Times()) as one:
        await one.accept(*updates)
        store.plan(away, kind="get", name=Letter.of(updates[2]).waiting, times=None)
        found = [key async for key in waiting_keys(store)]
    assert sorted(found) == [f"chat:{number}" for number in (0, 1, 3, 4)]


async def test_what_a_deletion_has_removed_is_not_set_aside_by_a_late_holder(store: FaultStore) -> None:
    update = post("a")
    letter = Letter.of(update)
    async with desk(store, times=Times()) as one:
        await one.accept(update)
        held = await one.drains.mailboxes.take(KEY)
        assert isinstance(held, StoredHeld)

        async def delete() -> None:
            deleter, finder = Deleter([store.inner]), Finder([store.inner])
            candidate = await finder.find(letter.path, KEY)
            assert candidate is not None
            await deleter.delete([candidate], [])

        store.plan(calling(after=delete), kind="put", name="dead/")
        with suppress(TurnConflict):
            await held.fail("no", final=True)
    assert await store.inner.list("dead/") == []


async def test_a_saved_turn_whose_reply_always_fails_is_set_aside_as_saved(store: FaultStore) -> None:
    async def act(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.run(update)
        raise OSError("the platform is away")

    agent = Diary()
    async with desk(store, act, target=agent, times=Times()) as one:
        await one.accept(post("a"))
        await one.finish()
    assert agent.heard == ["a"]
    assert [(update.attempts, update.saved) for update in await dead(store)] == [(5, True)]
    await check_at_rest(store, ["a"])


async def test_a_process_that_dies_after_the_last_attempt_has_saved_leaves_the_reply_to_the_next(
    store: FaultStore,
) -> None:
    times, agent = Times(), Diary()
    limits = replace(LONG, update_attempts=1)
    async with desk(store, target=agent, times=times, limits=limits) as one:
        await one.accept(post("a"))
        held = await one.drains.mailboxes.take(KEY)
        assert isinstance(held, StoredHeld)
        turn = await held.turn()
        await turn.commit(snapshot=None, checkpoint=None, result=encode_result(answer("1: a"), ()))
        times.clock.advance(LONG.lease.total_seconds())  # Nothing more is heard of it.
        async with desk(store, target=agent, times=times, limits=limits) as other:
            await other.finish()
            assert other.sent == ["1: a"]
    assert agent.heard == []
    assert await dead(store) == []


def answer(text: str) -> AgentResponse:
    return AgentResponse(messages=[Message("assistant", [text])])
