"""Updates of whole hosts: in order, one at a time, each once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_framework_hosting import InboundUpdate
from agent_framework_hosting.errors import InvalidRequest
from agent_framework_hosting.state.mail import Letter
from tests.hosting.mailbox.desk import KEY, PostChannel, numbered, post, serving, word_of
from tests.hosting.protocol.diary import Diary
from tests.support.faults import eventually


class Stopped:
    """Holds every run until it is let go."""

    def __init__(self) -> None:
        self.going = asyncio.Event()
        self.running: list[str] = []
        self.most = 0

    async def __call__(self, word: str) -> None:
        self.running.append(word)
        self.most = max(self.most, len(self.running))
        await self.going.wait()
        self.running.remove(word)


async def sent(channel: PostChannel, count: int) -> list[str]:
    await eventually(lambda: len(channel.sent) >= count, f"only {channel.sent}")
    return channel.sent


@pytest.mark.parametrize(
    "orders",
    [
        ["1", "2", "10", "11", "100"],
        ["9", "009999", "10000000000000000000"],
        ["2026-11-25T04:00:00Z/1", "2026-11-25T04:00:00Z/2", "2026-11-25T04:00:01Z/0"],
        ["b", "b-1", "b.2", "c"],
        ["A", "Z", "a", "ß", "ü", "\U0001f600"],
        ["a", "a\0", "a/../b", "ab"],
    ],
)
async def test_updates_that_wait_are_processed_by_their_order(state_dir: Path | None, orders: list[str]) -> None:
    stopped = Stopped()
    async with serving(target=Diary(stopped), state_dir=state_dir) as channel:
        await channel.context.accept(post("first", order="0" if orders[0].isdigit() else "!"))
        await eventually(lambda: stopped.running == ["first"], "the first is not begun")
        for order in reversed(orders):  # They arrive the wrong way round.
            assert await channel.context.accept(post(order, id=order))
        stopped.going.set()
        assert await sent(channel, len(orders) + 1) == numbered(["first", *orders])
        assert channel.begun == ["first", *orders]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs", "Nd"]), min_size=1, max_size=16), min_size=2))
def test_names_of_updates_sort_as_their_orders_do(orders: list[str]) -> None:
    def name(order: str) -> str:
        return Letter.of(post("x", order=order)).waiting

    assert sorted(orders, key=name) == sorted(orders, key=lambda order: order.encode())


@given(st.lists(st.integers(0, 10**20 - 1), min_size=2))
def test_names_of_updates_sort_as_their_numbers_do(numbers: list[int]) -> None:
    assert sorted(numbers, key=lambda number: Letter.of(post("x", order=str(number))).waiting) == sorted(numbers)


async def test_one_conversation_runs_one_at_a_time_and_others_beside_it(state_dir: Path | None) -> None:
    stopped = Stopped()
    async with serving(target=Diary(stopped), state_dir=state_dir) as channel:
        for number in range(3):
            for key in ("x", "y", "z"):
                await channel.context.accept(post(f"{key}{number}", key=key, order=str(number)))
        await eventually(lambda: len(stopped.running) == 3, "conversations wait for each other")
        assert sorted(stopped.running) == ["x0", "y0", "z0"]
        stopped.going.set()
        await sent(channel, 9)
    assert stopped.most == 3
    for key in "xyz":
        words = [f"{key}{number}" for number in range(3)]
        assert [text for text in channel.sent if f" {key}" in text] == numbered(words)


async def test_two_hosts_share_the_work_and_double_none(tmp_path: Path) -> None:
    keys, count = [f"k{n}" for n in range(4)], 8
    async with serving(state_dir=tmp_path) as one, serving(state_dir=tmp_path) as other:
        accepts = [
            host.context.accept(post(f"{key}-{number:02}", key=key))
            for number in range(count)
            for key in keys
            for host in (one, other)  # Each is delivered to both.
        ]
        await asyncio.gather(*accepts)
        await eventually(lambda: len({*one.sent, *other.sent}) == len(keys) * count, "not all were answered")
    assert sorted(one.sent + other.sent) == sorted(
        text for key in keys for text in numbered([f"{key}-{number:02}" for number in range(count)])
    )


async def test_the_same_update_before_during_and_after_its_processing(anywhere: str | None) -> None:
    stopped, replying = Stopped(), asyncio.Event()

    async def slowly(channel: PostChannel, update: InboundUpdate) -> None:
        hosted = await channel.run(update)
        await replying.wait()
        await channel.send(hosted.result.text)

    agent = Diary(stopped)
    async with serving(slowly, target=agent, state_dir=anywhere) as channel:
        accept = channel.context.accept
        assert await accept(post("a")) and await accept(post("b"))
        assert await accept(post("b"))  # It waits.
        await eventually(lambda: stopped.running == ["a"], "a does not run")
        assert await accept(post("a"))  # It runs, and may still fail.
        stopped.going.set()
        await eventually(lambda: agent.heard == ["a"] and not stopped.running, "a has not run")
        while await accept(post("a")):  # noqa: ASYNC110 - the turn is about to be saved
            await asyncio.sleep(0)
        replying.set()
        assert await sent(channel, 2) == ["1: a", "2: b"]
        while await accept(post("b")):  # noqa: ASYNC110 - the update is about to be done
            await asyncio.sleep(0)
        assert not await accept(post("a"))
        await accept(post("c"))
        assert await sent(channel, 3) == ["1: a", "2: b", "3: c"]
    assert agent.heard == ["a", "b", "c"]


async def test_equal_words_with_ids_of_their_own_are_different_updates(state_dir: Path | None) -> None:
    async with serving(state_dir=state_dir) as channel:
        for key, number in (("x", "1"), ("y", "1"), ("x", "2")):
            assert await channel.context.accept(post("w", key=key, id=f"{key}{number}", order=number))
        assert sorted(await sent(channel, 3)) == ["1: w", "1: w", "2: w"]


ODD = ["..", "a/b", "a\0b", "é\U0001f600", "A" * 100_000, " ", "%2e", 'quote"and\\', "\n", "\u2028"]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
async def test_odd_ids_keys_and_payloads(state_dir: Path | None, odd: str) -> None:
    async def echo(channel: PostChannel, update: InboundUpdate) -> None:
        await channel.send(word_of(update))
        assert (update.id, update.isolation_key, update.reply_token) == (odd, odd, odd)

    async with serving(echo, state_dir=state_dir) as channel:
        update = post(odd, key=odd, order="1", reply_token=odd)
        assert await channel.context.accept(update)
        assert await sent(channel, 1) == [odd]


WRONG: dict[str, dict[str, Any]] = {
    "id": {"id": "\ud800"},
    "id is a number": {"id": 7},
    "session": {"isolation_key": "\ud800"},
    "order": {"order": "\ud800"},
    "order is a number": {"order": 7},
    "order is empty": {"order": ""},
    "order is too long": {"order": "x" * 65},
    "payload": {"payload": "text"},
    "reply_token": {"reply_token": "\ud800"},
    "expires": {"expires": float("nan")},
    "expires is text": {"expires": "tomorrow"},
}


@pytest.mark.parametrize("what", WRONG)
async def test_what_could_not_be_read_back_is_refused_by_name(state_dir: Path | None, what: str) -> None:
    fields: dict[str, Any] = {"id": "1", "isolation_key": KEY, "payload": b"{}", "order": "1", **WRONG[what]}
    async with serving(state_dir=state_dir) as channel:
        with pytest.raises(InvalidRequest) as refusal:
            await channel.context.accept(InboundUpdate("post", **fields))
        assert refusal.value.field == what.split(maxsplit=1)[0]
        await channel.context.accept(post("fine"))
        assert await sent(channel, 1) == ["1: fine"]
        assert channel.begun == ["fine"]


def test_an_update_shows_neither_payload_nor_token() -> None:
    assert "secret" not in repr(post("secret", order="1", id="1", reply_token="secret"))
