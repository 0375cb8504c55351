"""The stores that other tests rely on do what they say."""

from __future__ import annotations

import asyncio

import pytest

from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import ABSENT, Lost, Unknown
from tests.support.stores import CountingStore, FaultStore, Gate, away, lost_answer, lost_request, twice


async def test_the_nth_matching_operation_fails() -> None:
    store = FaultStore(MemoryStore())
    store.plan(away, kind="put", name="head", nth=2, times=2)
    await store.put("k/head", b"1")
    await store.put("k/other", b"1")
    await store.get("k/head")
    for _ in range(2):
        with pytest.raises(StateUnavailable):
            await store.put("k/head", b"2")
    await store.put("k/head", b"3")
    assert store.names("put") == ["k/head", "k/other", "k/head", "k/head", "k/head"]
    assert store.names("get") == ["k/head"]


async def test_faults_apply_or_not() -> None:
    inner = MemoryStore()
    store = FaultStore(inner)
    store.plan(lost_answer, name=lambda name: name == "applied")
    store.plan(lost_request, name="lost", times=None)
    store.plan(twice, name="twice")
    for name in ("applied", "lost"):
        with pytest.raises(Unknown):
            await store.put(name, b"x", if_version=ABSENT)
    await store.put("twice", b"x", if_version=ABSENT)
    assert await inner.list("") == ["applied", "twice"]
    store.clear()
    await store.put("lost", b"x")
    with pytest.raises(Lost):
        await store.put("lost", b"x", if_version=ABSENT)


@pytest.mark.parametrize("applied", [False, True])
async def test_a_gate_holds_an_operation(applied: bool) -> None:
    inner = MemoryStore()
    store, gate = FaultStore(inner), Gate()
    store.plan(gate.after if applied else gate.before, kind="put")
    writing = asyncio.ensure_future(store.put("a", b"x"))
    await gate.reached()
    assert await inner.list("") == (["a"] if applied else [])
    assert not writing.done()
    gate.open()
    await writing
    assert await inner.list("") == ["a"]


async def test_operations_at_the_same_time_are_one_round() -> None:
    store = CountingStore(MemoryStore())
    await asyncio.gather(store.get("a"), store.put("b", b""), store.list(""))
    assert (store.operations, store.rounds) == (3, 1)
    await store.delete("b")
    await store.get("a")
    assert (store.operations, store.rounds) == (5, 3)
    store.reset()
    assert (store.operations, store.rounds) == (0, 0)


async def test_a_long_operation_beside_two_short_ones_is_two_rounds() -> None:
    inner, gate = FaultStore(MemoryStore()), Gate()
    inner.plan(gate.before, name="long")
    store = CountingStore(inner)
    long = asyncio.ensure_future(store.get("long"))
    await gate.reached()
    await store.get("short")
    await store.get("short")
    gate.open()
    await long
    assert store.rounds == 2
