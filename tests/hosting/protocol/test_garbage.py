"""Documents that turns replace: a later turn removes them, however slowly the store does and fast turns are."""

from __future__ import annotations

import asyncio

import pytest

from tests.hosting.protocol.diary import LARGE, Diary, hosted, read_diary, say
from tests.support.stores import FaultStore, away, calling

KEY = "chat:1"
TURNS = 6


@pytest.mark.parametrize("how", ["slow", "away"])
async def test_what_was_not_removed_in_time_is_removed_by_a_later_turn(store: FaultStore, how: str) -> None:
    async def never() -> None:
        await asyncio.get_running_loop().create_future()

    fault = away if how == "away" else calling(before=never)
    store.plan(fault, kind="delete", name="/b/", times=None)
    async with hosted(store, Diary(padding=LARGE)) as context:
        for number in range(TURNS):
            await say(context, KEY, f"w{number}")
        assert len(await snapshots(store)) == TURNS
        store.clear()
        removed = asyncio.Event()
        store.plan(calling(after=removed.set), kind="delete", name="/b/", nth=TURNS - 1)

        async def until_removed(word: str) -> None:
            async with asyncio.timeout(10):
                await removed.wait()

        agent = Diary(until_removed, padding=LARGE)
        async with hosted(store, agent) as other:
            await say(other, KEY, "last")
    assert len(await snapshots(store)) == 2  # The current one, and the one before.
    assert await read_diary(store, KEY) == [*(f"w{number}" for number in range(TURNS)), "last"]


async def snapshots(store: FaultStore) -> list[str]:
    return [name for name in await store.inner.list("k/") if "/b/" in name]
