"""Writes whose answers get lost, and what is made of them."""

from __future__ import annotations

import pytest

from agent_framework_hosting.errors import StateUnavailable
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.settle import Overtaken, read_back, settled_put
from agent_framework_hosting.state.store import ABSENT, Condition, Lost, Unknown, Version
from tests.support.stores import CountingStore, Fault, FaultStore, away, calling, lost_answer, lost_request, twice

NAME = "k/aa/key/head"


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def store() -> FaultStore:
    return FaultStore(MemoryStore())


async def settle(store: FaultStore, time: Time, data: bytes = b"ours", condition: Condition = None) -> Version:
    return await settled_put(store, NAME, data, if_version=condition, clock=time, sleep=time.sleep, jitter=lambda: 0.5)


async def before(store: FaultStore, condition: str) -> Condition:
    if condition == "nothing":
        return ABSENT
    version = await store.inner.put(NAME, b"before")
    return version if condition == "a version" else None


async def standing(store: FaultStore) -> object:
    return await store.inner.get(NAME)


@pytest.mark.parametrize("condition", ["nothing", "a version", "anything"])
@pytest.mark.parametrize("fault", [None, lost_answer, lost_request, away])
async def test_a_write_gets_through(store: FaultStore, time: Time, condition: str, fault: Fault | None) -> None:
    expected = await before(store, condition)
    if fault is not None:
        store.plan(fault, kind="put")
    version = await settle(store, time, condition=expected)
    assert await standing(store) == (b"ours", version)


@pytest.mark.parametrize("condition", ["nothing", "a version"])
async def test_a_write_that_is_delivered_twice_happens_once(store: FaultStore, time: Time, condition: str) -> None:
    expected = await before(store, condition)
    store.plan(twice, kind="put")
    version = await settle(store, time, condition=expected)
    assert await standing(store) == (b"ours", version)


@pytest.mark.parametrize("condition", ["nothing", "a version"])
async def test_several_answers_get_lost(store: FaultStore, time: Time, condition: str) -> None:
    expected = await before(store, condition)
    store.plan(lost_request, kind="put", times=2)
    store.plan(lost_answer, kind="put")
    store.plan(away, kind="get", times=2)
    version = await settle(store, time, condition=expected)
    assert await standing(store) == (b"ours", version)


async def test_a_write_that_works_costs_one_operation(time: Time) -> None:
    store = CountingStore(MemoryStore())
    await settled_put(store, NAME, b"ours", if_version=ABSENT, clock=time, sleep=time.sleep)
    assert (store.operations, store.rounds) == (1, 1)
    with pytest.raises(Lost):
        await settled_put(store, NAME, b"theirs", if_version=ABSENT, clock=time, sleep=time.sleep)
    assert (store.operations, store.rounds) == (2, 2)
    assert time.slept == []


@pytest.mark.parametrize("fault", [lost_answer, lost_request])
async def test_somebody_else_wrote_after_a_doubt(store: FaultStore, time: Time, fault: Fault) -> None:
    expected = await before(store, "a version")

    async def others_write() -> None:
        await store.inner.put(NAME, b"theirs")

    store.plan(fault, kind="put")
    store.plan(calling(before=others_write), kind="get")
    with pytest.raises(Overtaken):
        await settle(store, time, condition=expected)
    found = await standing(store)
    assert isinstance(found, tuple)
    assert found[0] == b"theirs"


async def test_the_first_attempt_lands_late(store: FaultStore, time: Time) -> None:
    expected = await before(store, "a version")

    async def lands() -> None:
        await store.inner.put(NAME, b"ours", if_version=expected)

    store.plan(lost_request, kind="put")
    store.plan(calling(before=lands), kind="put")
    version = await settle(store, time, condition=expected)
    assert await standing(store) == (b"ours", version)


async def test_somebody_else_writes_between_reading_back_and_the_next_attempt(store: FaultStore, time: Time) -> None:
    expected = await before(store, "a version")

    async def others_write() -> None:
        await store.inner.put(NAME, b"theirs")

    store.plan(lost_request, kind="put")
    store.plan(calling(after=others_write), kind="get")
    with pytest.raises(Overtaken):
        await settle(store, time, condition=expected)


async def test_a_deleted_document_is_not_written_again(store: FaultStore, time: Time) -> None:
    expected = await before(store, "a version")

    async def removed() -> None:
        await store.inner.delete(NAME)

    store.plan(calling(before=removed), kind="get")
    store.plan(lost_request, kind="put")
    with pytest.raises(Overtaken):
        await settle(store, time, condition=expected)
    assert await standing(store) is None


async def test_a_store_that_stays_away_is_a_definite_failure(store: FaultStore, time: Time) -> None:
    store.plan(away, times=None)
    with pytest.raises(StateUnavailable) as failure:
        await settle(store, time)
    assert not isinstance(failure.value, Unknown)
    assert len(store.log) == 6
    assert time.slept == sorted(time.slept)
    assert time.now < 5


async def test_doubt_that_stays_is_said(store: FaultStore, time: Time) -> None:
    store.plan(lost_answer, kind="put")
    store.plan(away, kind="get", times=None)
    with pytest.raises(Unknown):
        await settle(store, time)
    assert store.names("put") == [NAME]


async def test_patience_bounds_the_time(store: FaultStore, time: Time) -> None:
    store.plan(away, times=None)
    with pytest.raises(StateUnavailable):
        await settled_put(
            store, NAME, b"x", attempts=1000, patience=2.0, clock=time, sleep=time.sleep, jitter=lambda: 0.99
        )
    assert time.now <= 2.0
    store.log.clear()
    with pytest.raises(StateUnavailable):
        await settled_put(store, NAME, b"x", patience=0, clock=time, sleep=time.sleep)
    assert len(store.log) == 1


async def test_reading_back(store: FaultStore) -> None:
    assert await read_back(store, NAME, b"ours", if_version=ABSENT) is None
    assert await read_back(store, NAME, b"ours") is None
    version = await store.put(NAME, b"ours")
    assert await read_back(store, NAME, b"ours", if_version=ABSENT) == version
    assert await read_back(store, NAME, b"next", if_version=version) is None
    with pytest.raises(Overtaken):
        await read_back(store, NAME, b"next", if_version=ABSENT)
    with pytest.raises(Overtaken):
        await read_back(store, NAME, b"next", if_version="another")
