"""What a prune removes, and what it leaves."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from agent_framework_hosting.errors import ConfigurationError, TurnConflict
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.documents import all_names, stores_of
from agent_framework_hosting.state.head import Lease, encode_head
from agent_framework_hosting.state.locations import open_state
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.retention import Pruned
from tests.hosting.protocol.diary import LARGE, Diary, hosted, say
from tests.hosting.retention.written import (
    DAY,
    GONE,
    KEPT,
    LEASE,
    NOW,
    OLD,
    YOUNG,
    change_head,
    document,
    get_head,
    head_of,
    new_head,
    prune,
    put_head,
    write_everything,
)
from tests.support.stores import FaultStore, Gate, calling


@pytest.mark.parametrize("batch", [1, 3, 1000])
async def test_a_prune_removes_what_may_go_and_nothing_else(store: FaultStore, batch: int) -> None:
    written = await write_everything(store)
    pruned = await prune(store, batch=batch)
    assert await written.names() == written.stays
    for key in GONE:
        head = await get_head(store, key)
        assert head.deleted is not None and head.lease is None and not head.key
    for key in KEPT:
        assert (await get_head(store, key)).deleted is None
    assert pruned.conversations == 2
    assert pruned.documents == len(written.goes)
    assert pruned.stamped == 1 and (await get_head(store, "undated")).when == NOW
    assert pruned.damaged == set() and pruned.postponed == 0


async def test_checkpoints_may_have_a_place_of_their_own(store: FaultStore) -> None:
    checkpoints = MemoryStore()
    written = await write_everything(store, checkpoints)
    await prune(store, checkpoints)
    assert await written.names() == written.stays


async def test_a_second_prune_finds_nothing_to_do(store: FaultStore) -> None:
    written = await write_everything(store)
    await prune(store)
    store.log.clear()
    assert (await prune(store)).documents == 0
    assert await written.names() == written.stays
    assert store.names("put") == store.names("delete") == []


async def test_a_dry_run_counts_and_changes_nothing(store: FaultStore) -> None:
    written = await write_everything(store)
    names = await written.names()
    store.log.clear()
    pruned = await prune(store, dry_run=True, batch=2)
    assert store.names("put") == store.names("delete") == []
    assert await written.names() == names
    assert pruned.conversations == 1 and pruned.postponed == 2
    in_doubt = 1 + 2  # of the dead lease, and of the orphan
    assert pruned.documents == len(written.goes) - in_doubt


async def test_without_a_retention_only_garbage_goes(store: FaultStore) -> None:
    written = await write_everything(store)
    pruned = await prune(store, retention=None)
    assert pruned.conversations == pruned.stamped == 0
    assert (await get_head(store, "idle")).deleted is None
    removed = written.stays | written.goes
    removed -= await written.names()
    path = conversation_path("idle")
    assert {name for name in removed if path in name} == {
        f"k/{path}/{name}" for name in ("b/000000000002-x", "c/0/000000000001-x")
    }
    assert not any(name.startswith(("d/", "dead/", "in/")) for name in removed)
    assert not any("/s/" in name and conversation_path("used") in name for name in removed)


async def test_a_tombstone_keeps_the_epoch_and_what_was_done_today(store: FaultStore) -> None:
    await put_head(store, "k", when=NOW - 7200, epoch=8, done={"today": int(NOW - 7000), "before": int(OLD)})
    await prune(store, retention=timedelta(hours=1))
    tombstone = await get_head(store, "k")
    assert (tombstone.epoch, tombstone.done, tombstone.deleted) == (9, {"today": int(NOW - 7000)}, NOW)
    await prune(store, now=NOW + DAY)
    assert (await get_head(store, "k")).done == {"today": int(NOW - 7000)}
    await prune(store, now=NOW + 3 * DAY)
    cleared = await get_head(store, "k")
    assert (cleared.epoch, cleared.done, cleared.deleted) == (9, {}, NOW)
    assert len(encode_head(cleared)) < 200


async def test_what_an_earlier_release_wrote_ages_from_the_first_prune_on(store: FaultStore) -> None:
    await put_head(store, "k")
    await prune(store)
    await prune(store, now=NOW + 29 * DAY)
    assert (await get_head(store, "k")).deleted is None
    await prune(store, now=NOW + 31 * DAY)
    assert (await get_head(store, "k")).deleted is not None


@pytest.mark.parametrize("when", [OLD, 0.0], ids=["old", "undated"])
async def test_a_holder_that_renews_is_left_alone(store: FaultStore, when: float) -> None:
    head = await put_head(store, "k", when=when, lease=LEASE)

    async def renew(seconds: float) -> None:
        await change_head(store, "k", when=when)

    await prune(store, sleep=renew)
    found = await get_head(store, "k")
    assert (found.lease, found.when, found.epoch) == (LEASE, when, head.epoch)


async def test_a_dead_lease_of_an_undated_conversation_stays_and_is_dated(store: FaultStore) -> None:
    await put_head(store, "k", lease=Lease("t", 9.0, attempt=4))
    await prune(store)
    head = await get_head(store, "k")
    assert head.when == NOW and head.lease == Lease("t", 9.0, attempt=4)


async def test_a_lease_that_lasts_longer_than_a_prune_waits_is_left_to_another(store: FaultStore) -> None:
    await put_head(store, "k", when=OLD, lease=Lease("t", 61.0))
    assert (await prune(store)).postponed == 1
    assert (await get_head(store, "k")).deleted is None
    assert (await prune(store, settle=61.0)).conversations == 1


async def test_what_was_written_before_its_head_is_looked_at_again(store: FaultStore) -> None:
    """The first turn of a fresh conversation writes its large snapshot, then the head that names it."""
    name = f"k/{conversation_path('k')}/b/000000000001-x"
    await store.put(name, b"{}")

    async def save(seconds: float) -> None:
        await put_head(store, "k", epoch=1, when=NOW)

    await prune(store, sleep=save)
    assert await all_names(store, "k/") == [name, head_of("k")]


async def test_an_orphan_gets_a_tombstone_before_it_goes(store: FaultStore) -> None:
    """So the commit of a turn that was stopped meets a head, and names nothing which is gone."""
    name = f"k/{conversation_path('k')}/b/000000000001-x"
    await store.put(name, b"{}")
    await prune(store)
    changes = [(operation.kind, operation.name) for operation in store.log if operation.kind in ("put", "delete")]
    assert changes[1:] == [("put", head_of("k")), ("delete", name)]
    assert (await get_head(store, "k")).epoch == 2


async def test_who_uses_an_idle_conversation_first_keeps_it(store: FaultStore) -> None:
    await put_head(store, "k", when=OLD)
    await store.put(f"k/{conversation_path('k')}/b/000000000003-x", b"{}")

    async def use() -> None:
        await change_head(store, "k", epoch=4, lease=LEASE)

    store.plan(calling(before=use), kind="list", name="/s/")
    assert (await prune(store)).conversations == 0
    assert (await get_head(store, "k")).lease == LEASE


async def test_an_update_that_comes_between_is_not_touched(store: FaultStore) -> None:
    await put_head(store, "k", when=OLD)
    name = f"in/{conversation_path('k')}/0001.u1"

    async def accept() -> None:
        await store.inner.put(name, document(key="k"))

    store.plan(calling(after=accept), kind="list", name="in/")
    assert (await prune(store)).conversations == 1
    assert await all_names(store, "in/") == [name]


@pytest.mark.parametrize(
    "data",
    [b"", b"damaged", encode_head(new_head("other")), b'{"format": 2, "key": "k"}'],
    ids=["empty", "damaged", "another's", "newer"],
)
async def test_a_head_that_cannot_be_read_keeps_all_that_belongs_to_it(store: FaultStore, data: bytes) -> None:
    await store.put(head_of("k"), data)
    await store.put(f"k/{conversation_path('k')}/b/000000000001-x", b"{}")
    await put_head(store, "idle", when=OLD)
    names = await all_names(store, "")
    pruned = await prune(store)
    assert pruned.damaged == {head_of("k")} and pruned.conversations == 1
    assert await all_names(store, "") == names


async def test_an_archive_that_cannot_be_read_is_kept_and_named(store: FaultStore) -> None:
    await put_head(store, "k", when=YOUNG)
    name = f"k/{conversation_path('k')}/s/0/000000000001"
    await store.put(name, b"damaged")
    assert (await prune(store)).damaged == {name}
    assert name in await all_names(store, "")


async def test_checkpoints_whose_conversations_are_elsewhere_are_not_taken_for_orphans(store: FaultStore) -> None:
    await store.put(f"k/{conversation_path('k')}/c/0/000000000001-x", b"{}")
    with pytest.raises(ConfigurationError, match="checkpoints here and no conversations"):
        await prune(MemoryStore(), store)
    assert len(await all_names(store, "")) == 1


def test_nobody_else_can_prune_what_is_in_memory() -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        stores_of(open_state("memory://", memory_sessions=10))


async def test_progress_is_told_after_every_batch(store: FaultStore) -> None:
    await write_everything(store)
    seen: list[int] = []

    def tell(pruned: Pruned) -> None:
        seen.append(pruned.seen)

    await prune(store, batch=5, progress=tell)
    assert len(seen) > 5 and seen == sorted(seen) and seen[0] == 5


async def test_the_commit_of_a_fresh_turn_that_a_prune_overtook_names_nothing_that_is_gone(store: FaultStore) -> None:
    """It has written its large snapshot, and was stopped before the head."""
    gate = Gate()
    async with hosted(store, Diary(padding=LARGE)) as context:
        store.plan(gate.before, kind="put", name="head")
        turn = asyncio.create_task(say(context, "k", "fresh", fresh=True))
        await gate.reached()
        await prune(store.inner)
        gate.open()
        with pytest.raises(TurnConflict):
            await turn
        assert await all_names(store, "") == [head_of("k")]
        assert await say(context, "k", "anew") == "1: anew"


async def test_what_a_late_holder_sets_aside_after_a_deletion_goes_with_the_next_prune(store: FaultStore) -> None:
    path, done, other = conversation_path("gone"), "d" * 64, "e" * 64
    await put_head(store, "gone", deleted=YOUNG, done={done[:32]: int(YOUNG)})
    for uid in (done, other):
        for place in ("in", "dead"):
            await store.put(f"{place}/{path}/1.{uid}", document(YOUNG, key="gone"))
    await prune(store)
    kept = [*await all_names(store, "in/"), *await all_names(store, "dead/")]
    assert kept == [f"in/{path}/1.{other}", f"dead/{path}/1.{other}"]
