"""The framework's checkpoint storage over the stores."""

from __future__ import annotations

import asyncio
import json
import signal
import tempfile
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_framework import FileCheckpointStorage, WorkflowCheckpoint, WorkflowCheckpointException
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from agent_framework_hosting import ConfigurationError, StateDamaged, StateUnavailable
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import StateStore, read
from agent_framework_hosting.storage import StateCheckpointStorage
from tests.hosting.state.savers import BEGIN, SHARED, Shared, checkpoint, save_many, save_on, save_one, seen
from tests.support.channels import serving
from tests.support.examples import examples
from tests.support.faults import ManualClock, Worker, spawning
from tests.support.stores import (
    CountingStore,
    Fault,
    FaultStore,
    Gate,
    away,
    calling,
    kill_after,
    kill_before,
    lost_answer,
    lost_request,
    twice,
)
from tests.support.targets import memory_workflow

SPAWNING = spawning("tests.hosting.state.savers")
SAVE = 4
"""The operations of a first save: read and write the note, write the checkpoint, settle the note."""


@dataclass
class Parcel:
    """A type of an application's own."""

    weight: int


PARCEL = f"{__name__}:Parcel"


@pytest.fixture
def storage(store: StateStore) -> StateCheckpointStorage:
    return StateCheckpointStorage(store)


def patient(store: StateStore) -> StateCheckpointStorage:
    """A storage on which time passes only while it sleeps."""
    clock = ManualClock()
    return StateCheckpointStorage(store, clock=lambda: clock.time, sleep=clock.sleep)


async def latest_id(storage: StateCheckpointStorage, workflow: str = "w") -> str | None:
    found = await storage.get_latest(workflow_name=workflow)
    return None if found is None else found.checkpoint_id


async def documents(store: StateStore) -> list[str]:
    return [name for name in await store.list("") if "/c/" in name]


async def content(store: StateStore, name: str) -> bytes:
    found = await read(store, name)
    assert found is not None
    return found[0]


async def document_of(store: StateStore, id: str) -> str:
    for name in await documents(store):
        if json.loads(await content(store, name))["checkpoint"]["checkpoint_id"] == id:
            return name
    raise LookupError(id)


async def test_a_checkpoint_comes_back_as_it_was(storage: StateCheckpointStorage) -> None:
    saved = checkpoint(
        "one",
        previous_checkpoint_id="zero",
        state={"set": {1, 2}, "when": BEGIN, "text": "é\ud800", "nested": {"a": [1, None, 1.5]}},
        metadata={"step": 3},
        iteration_count=7,
    )
    assert await storage.save(saved) == "one"
    assert await storage.load("one") == saved
    assert await storage.get_latest(workflow_name="w") == saved
    assert await storage.list_checkpoints(workflow_name="w") == [saved]


async def test_what_is_kept_and_given_is_a_copy(storage: StateCheckpointStorage) -> None:
    saved = checkpoint("one", state={"items": [1]})
    await storage.save(saved)
    saved.state["items"].append(2)
    for _ in range(2):
        loaded = await storage.load("one")
        assert loaded.state == {"items": [1]}
        loaded.state["items"].append(3)


async def test_a_checkpoint_is_a_copy_of_the_moment_it_was_saved_in(storage: StateCheckpointStorage) -> None:
    saved = checkpoint("one", state={"items": [1]})
    saving = asyncio.ensure_future(storage.save(saved))
    await asyncio.sleep(0)
    saved.checkpoint_id, saved.workflow_name = "other", "other"
    saved.state["items"].append(2)
    assert await saving == "one"
    assert (await storage.load("one")).state == {"items": [1]}
    assert await latest_id(storage) == "one"


async def test_what_is_absent(storage: StateCheckpointStorage) -> None:
    with pytest.raises(WorkflowCheckpointException, match="No checkpoint found with ID nobody"):
        await storage.load("nobody")
    assert await storage.get_latest(workflow_name="w") is None
    assert await storage.list_checkpoints(workflow_name="w") == []
    assert await storage.list_checkpoint_ids(workflow_name="w") == []
    assert await storage.delete("nobody") is False


async def test_workflows_share_nothing_but_the_place(storage: StateCheckpointStorage) -> None:
    for number, name in enumerate(["w", "W", "w/..", "", "w" * 2000, "🦊"]):
        await storage.save(checkpoint(f"{number}", workflow=name))
    for number, name in enumerate(["w", "W", "w/..", "", "w" * 2000, "🦊"]):
        assert await storage.list_checkpoint_ids(workflow_name=name) == [f"{number}"]
        assert await latest_id(storage, name) == f"{number}"


async def test_any_id_is_one(store: StateStore, storage: StateCheckpointStorage) -> None:
    ids = ["", "a", "A", "../../a", "/etc/passwd", "a\0b", "é", "🦊", "x" * 2000, "a/b", "a.json"]
    for number, one in enumerate(ids):
        await storage.save(checkpoint(one, number))
    for one in ids:
        assert (await storage.load(one)).checkpoint_id == one
    assert await storage.list_checkpoint_ids(workflow_name="w") == ids
    assert all(set(name) <= set("0123456789abcdef/checkpoints/latest") for name in await store.list(""))


async def test_the_latest_is_the_one_with_the_latest_timestamp(storage: StateCheckpointStorage) -> None:
    for name, second in (("a", 2), ("b", 9), ("c", 5)):
        await storage.save(checkpoint(name, second))
    assert await latest_id(storage) == "b"
    assert await storage.list_checkpoint_ids(workflow_name="w") == ["a", "c", "b"]


async def test_timestamps_are_compared_as_times(storage: StateCheckpointStorage) -> None:
    for name, timestamp in (
        ("west", "2026-01-01T10:00:00-05:00"),
        ("naive", "2026-01-01T14:00:00"),
        ("zulu", "2026-01-01T14:30:00Z"),
    ):
        await storage.save(WorkflowCheckpoint("w", "hash", checkpoint_id=name, timestamp=timestamp))
    assert await storage.list_checkpoint_ids(workflow_name="w") == ["naive", "zulu", "west"]
    assert await latest_id(storage) == "west"


async def test_everybody_has_the_same_latest_of_equal_times(store: StateStore, storage: StateCheckpointStorage) -> None:
    for name in "abcdef":
        await storage.save(checkpoint(name))
    ids = await storage.list_checkpoint_ids(workflow_name="w")
    assert await latest_id(storage) == await latest_id(StateCheckpointStorage(store)) == ids[-1]
    await storage.delete(ids[-1])
    assert await latest_id(storage) == ids[-2]


async def test_without_the_latest_the_one_before_is(store: StateStore, storage: StateCheckpointStorage) -> None:
    for second in range(4):
        await storage.save(checkpoint(f"{second}", second))
    for second in (3, 2, 1, 0):
        assert await latest_id(storage) == f"{second}"
        assert await storage.delete(f"{second}") is True
        assert await storage.delete(f"{second}") is False
    assert await storage.get_latest(workflow_name="w") is None
    assert await documents(store) == []
    await storage.save(checkpoint("again", 1))
    assert await latest_id(storage) == "again"


async def test_an_id_that_is_saved_again_is_replaced(storage: StateCheckpointStorage) -> None:
    await storage.save(checkpoint("a", 1, state={"n": 1}))
    await storage.save(checkpoint("b", 2))
    await storage.save(checkpoint("a", 3, state={"n": 2}))
    assert (await storage.load("a")).state == {"n": 2}
    assert await storage.list_checkpoint_ids(workflow_name="w") == ["b", "a"]
    assert await latest_id(storage) == "a"
    await storage.save(checkpoint("a", 0))
    assert await latest_id(storage) == "b"


async def test_prefixes_share_nothing(store: StateStore) -> None:
    one, other = StateCheckpointStorage(store, prefix="one"), StateCheckpointStorage(store, prefix="one/other")
    await one.save(checkpoint("a"))
    await other.save(checkpoint("b"))
    assert await one.list_checkpoint_ids(workflow_name="w") == ["a"]
    assert await other.list_checkpoint_ids(workflow_name="w") == ["b"]
    assert {name.split("/")[0] for name in await store.list("")} == {"one"}


@pytest.mark.parametrize("prefix", ["", "/", "a/", "../a", "a b"])
def test_a_prefix_that_no_name_has_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="document name"):
        StateCheckpointStorage(MemoryStore(), prefix=prefix)


async def run(storage: Any) -> tuple[list[str | None], list[Any]]:
    """Run a workflow with questions and resume it from the latest; give where each checkpoint's predecessor stands."""
    await memory_workflow().run("ask", checkpoint_storage=storage)
    latest = await storage.get_latest(workflow_name="memory")
    assert latest is not None and latest.pending_request_info_events
    resumed = await memory_workflow().run(
        checkpoint_id=latest.checkpoint_id,
        checkpoint_storage=storage,
        responses=dict.fromkeys(latest.pending_request_info_events, True),
    )
    found = sorted(await storage.list_checkpoints(workflow_name="memory"), key=lambda found: found.timestamp)
    places = {found.checkpoint_id: str(place) for place, found in enumerate(found)}
    assert sorted(places) == sorted(await storage.list_checkpoint_ids(workflow_name="memory"))
    assert (await storage.get_latest(workflow_name="memory")).checkpoint_id == found[-1].checkpoint_id
    return [places.get(found.previous_checkpoint_id) for found in found], resumed.get_outputs()


async def test_a_workflow_makes_the_chain_that_it_makes_in_files(store: StateStore, tmp_path: Path) -> None:
    question = ["tests.support.targets:Question"]
    ours = await run(StateCheckpointStorage(store, allowed_checkpoint_types=question))
    assert ours == await run(FileCheckpointStorage(tmp_path / "files", allowed_checkpoint_types=question))
    assert len(ours[0]) > 2 and ours[1]


async def test_hosts_keep_their_checkpoints_there(store: StateStore, tmp_path: Path) -> None:
    said: list[str] = []
    for word in "xyz":
        storage = StateCheckpointStorage(store)
        async with serving(memory_workflow(), checkpoint_location=storage, state_dir=tmp_path / "host") as served:
            said.append((await served.ask("a", word)).result.get_outputs()[-1])
        assert len(await documents(store)) == len(said)
    assert said == ["nothing+x & x", "nothing+x+y & x+y", "nothing+x+y+z & x+y+z"]


async def test_a_type_that_could_not_be_read_back_is_refused(store: StateStore) -> None:
    parcel = checkpoint("one", state={"parcel": Parcel(3)})
    with pytest.raises(WorkflowCheckpointException, match=f"{PARCEL}.*allowed_checkpoint_types") as refused:
        await StateCheckpointStorage(store).save(parcel)
    assert isinstance(refused.value, ConfigurationError)
    assert await store.list("") == []
    allowing = StateCheckpointStorage(store, allowed_checkpoint_types=[PARCEL])
    await allowing.save(parcel)
    assert (await allowing.load("one")).state == {"parcel": Parcel(3)}
    with pytest.raises(WorkflowCheckpointException, match=PARCEL):
        await StateCheckpointStorage(store).load("one")


@pytest.mark.parametrize(
    "bad",
    [
        checkpoint("one", state={"function": lambda: None}),
        WorkflowCheckpoint("w", "hash", timestamp="yesterday"),
        WorkflowCheckpoint("w", "hash", timestamp=None),  # type: ignore[arg-type]
        checkpoint("\ud800"),
        checkpoint("one", workflow="\ud800"),
        checkpoint(None),  # type: ignore[arg-type]
    ],
    ids=["unpicklable", "no time", "no timestamp", "id", "workflow", "no id"],
)
async def test_a_checkpoint_that_cannot_be_kept_is_refused(store: StateStore, bad: WorkflowCheckpoint) -> None:
    with pytest.raises(WorkflowCheckpointException, match="was not saved") as refused:
        await StateCheckpointStorage(store).save(bad)
    assert isinstance(refused.value, ConfigurationError)
    assert await store.list("") == []


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:-10],
    "no JSON": lambda data: b"\xff" + data,
    "of a later release": lambda data: json.dumps({**json.loads(data), "format": 2}).encode(),
    "of another kind": lambda data: b"[1, 2]",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_checkpoint_is_an_error_that_names_it(
    store: StateStore, storage: StateCheckpointStorage, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    await storage.save(checkpoint("before", 1))
    await storage.save(checkpoint("damaged", 2))
    name = await document_of(store, "damaged")
    damaged = DAMAGES[damage](await content(store, name))
    await store.put(name, damaged)
    for reading in (storage.load("damaged"), storage.get_latest(workflow_name="w")):
        with pytest.raises(StateDamaged) as raised:
            await reading
        assert name.endswith(raised.value.name) and raised.value.name in str(raised.value)
        assert isinstance(raised.value, WorkflowCheckpointException)
    assert await storage.list_checkpoint_ids(workflow_name="w") == ["before"]
    assert raised.value.name in caplog.text
    assert await content(store, name) == damaged
    await storage.delete("damaged")
    assert await latest_id(storage) == "before"


async def test_a_search_does_not_pass_over_what_it_cannot_read(
    store: StateStore, storage: StateCheckpointStorage
) -> None:
    for second in range(3):
        await storage.save(checkpoint(f"{second}", second))
    name = await document_of(store, "1")
    await store.put(name, b"{")
    await storage.delete("2")
    with pytest.raises(StateDamaged, match="cannot be read"):
        await storage.get_latest(workflow_name="w")


async def test_a_checkpoint_in_the_place_of_another_is_an_error(
    store: StateStore, storage: StateCheckpointStorage
) -> None:
    for name in "ab":
        await storage.save(checkpoint(name))
    await store.put(await document_of(store, "a"), await content(store, await document_of(store, "b")))
    with pytest.raises(StateDamaged, match="another checkpoint"):
        await storage.load("a")


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_pointer_is_an_error_and_kept(
    store: StateStore, storage: StateCheckpointStorage, damage: str
) -> None:
    await storage.save(checkpoint("a"))
    (name,) = [name for name in await store.list("") if "/latest/" in name]
    damaged = DAMAGES[damage](await content(store, name))
    await store.put(name, damaged)
    for doing in (
        storage.get_latest(workflow_name="w"),
        StateCheckpointStorage(store).save(checkpoint("b", 1)),
        storage.save(checkpoint("c", 2)),
    ):
        with pytest.raises(StateDamaged) as raised:
            await doing
        assert name.endswith(raised.value.name)
    assert await content(store, name) == damaged
    assert (await storage.load("a")).checkpoint_id == "a"
    assert await storage.list_checkpoint_ids(workflow_name="w") == ["a"]


async def fill(store: StateStore, count: int) -> StateCheckpointStorage:
    storage = StateCheckpointStorage(store)
    for first in range(0, count, 100):
        numbers = range(first, min(first + 100, count))
        await asyncio.gather(*(storage.save(checkpoint(f"{number}", number)) for number in numbers))
    return storage


async def test_the_latest_costs_two_round_trips_whatever_is_stored() -> None:
    costs: dict[int, list[tuple[int, list[str]]]] = {}
    for count in (10, 10_000):
        memory = MemoryStore()
        await fill(memory, count)
        counting = CountingStore(memory)
        storage = StateCheckpointStorage(counting)
        calls: list[Coroutine[Any, Any, Any]] = [
            storage.get_latest(workflow_name="w"),
            storage.get_latest(workflow_name="w"),
            storage.load("3"),
            storage.save(checkpoint("new", count)),
            storage.save(checkpoint("newer", count + 1)),
            storage.get_latest(workflow_name="w"),
            storage.delete("newer"),
        ]
        costs[count] = []
        for call in calls:
            counting.reset()
            await call
            costs[count].append((counting.rounds, [operation.kind for operation in counting.log]))
    assert costs[10] == costs[10_000]
    assert costs[10] == [
        (2, ["get", "get"]),
        (2, ["get", "get"]),
        (2, ["list", "get"]),
        (SAVE, ["get", "put", "put", "put"]),
        (SAVE - 1, ["put", "put", "put"]),
        (2, ["get", "get"]),
        (2, ["list", "delete"]),
    ]


async def test_after_a_search_the_latest_costs_two_round_trips_again() -> None:
    memory = MemoryStore()
    await fill(memory, 50)
    counting = CountingStore(memory)
    storage = StateCheckpointStorage(counting)
    for number in (49, 48, 47):
        await storage.delete(f"{number}")
    assert await latest_id(storage) == "46"
    assert "list" in [operation.kind for operation in counting.log]
    counting.reset()
    assert await latest_id(StateCheckpointStorage(counting)) == "46"
    assert (counting.rounds, counting.operations) == (2, 2)


class Comparison(RuleBasedStateMachine):
    """Two instances of ours beside the framework's file storage: the same calls, the same answers."""

    make: Callable[[Path], StateStore]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        store = type(self).make(Path(self.folder.name) / "ours")
        self.ours = [StateCheckpointStorage(store), StateCheckpointStorage(store)]
        self.theirs = FileCheckpointStorage(Path(self.folder.name) / "theirs")

    def teardown(self) -> None:
        self.runner.close()
        self.folder.cleanup()

    @rule(id=st.integers(0, 7), second=st.integers(0, 20), value=st.integers(), who=st.integers(0, 1))
    def save(self, id: int, second: int, value: int, who: int) -> None:
        saved = checkpoint(f"{id}", second, workflow=f"w{id % 2}", state={"value": value, "set": {value}})
        assert self.runner.run(self.ours[who].save(saved)) == self.runner.run(self.theirs.save(saved))

    @rule(id=st.integers(0, 7), who=st.integers(0, 1))
    def load(self, id: int, who: int) -> None:
        assert self.runner.run(loaded(self.ours[who], f"{id}")) == self.runner.run(loaded(self.theirs, f"{id}"))

    @rule(id=st.integers(0, 7), who=st.integers(0, 1))
    def delete(self, id: int, who: int) -> None:
        assert self.runner.run(self.ours[who].delete(f"{id}")) == self.runner.run(self.theirs.delete(f"{id}"))

    @rule(workflow=st.integers(0, 2), who=st.integers(0, 1))
    def list(self, workflow: int, who: int) -> None:
        found = self.runner.run(self.ours[who].list_checkpoints(workflow_name=f"w{workflow}"))
        expected = self.runner.run(self.theirs.list_checkpoints(workflow_name=f"w{workflow}"))
        assert sorted(found, key=by_id) == sorted(expected, key=by_id)
        ids = self.runner.run(self.ours[who].list_checkpoint_ids(workflow_name=f"w{workflow}"))
        assert ids == [one.checkpoint_id for one in found]

    @rule(workflow=st.integers(0, 2), who=st.integers(0, 1))
    def latest(self, workflow: int, who: int) -> None:
        found = self.runner.run(self.ours[who].get_latest(workflow_name=f"w{workflow}"))
        expected = self.runner.run(self.theirs.get_latest(workflow_name=f"w{workflow}"))
        if found is None or expected is None:
            assert found is expected
        else:
            # Which one of equal times it is the framework leaves to the order of its files.
            assert found.timestamp == expected.timestamp
            assert found == self.runner.run(self.theirs.load(found.checkpoint_id))


def by_id(found: WorkflowCheckpoint) -> str:
    return found.checkpoint_id


async def loaded(storage: Any, id: str) -> WorkflowCheckpoint | None:
    try:
        return await storage.load(id)
    except WorkflowCheckpointException:
        return None


def test_answers_as_the_frameworks_file_storage_does(make_store: Callable[[Path], StateStore]) -> None:
    run_state_machine_as_test(
        type("Machine", (Comparison,), {"make": staticmethod(make_store)}),
        settings=settings(
            max_examples=examples(30),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


async def test_of_many_savers_at_once_none_is_lost(store: StateStore) -> None:
    storages = [StateCheckpointStorage(store) for _ in range(3)]
    order = [(number * 37) % 60 for number in range(60)]
    await asyncio.gather(*(storages[n % 3].save(checkpoint(f"{n}", n)) for n in order))
    for storage in (*storages, StateCheckpointStorage(store)):
        assert await latest_id(storage) == "59"
    assert await storages[0].list_checkpoint_ids(workflow_name="w") == [f"{n}" for n in range(60)]


async def test_savers_of_one_loop_write_for_each_other() -> None:
    counting = CountingStore(MemoryStore())
    storage = StateCheckpointStorage(counting)
    await asyncio.gather(*(storage.save(checkpoint(f"{n}", n)) for n in range(200)))
    written = [operation.name for operation in counting.log if operation.kind == "put"]
    assert len([name for name in written if "/c/" in name]) == 200
    assert len([name for name in written if "/latest/" in name]) <= 6
    assert len(counting.log) - len(written) <= 2
    counting.reset()
    assert await latest_id(storage) == "199"
    assert counting.operations == 2


@pytest.mark.parametrize(("kind", "bound"), [(None, 2), ("put", 2 * 6)])
async def test_savers_who_wait_for_each_other_fail_together(kind: str | None, bound: int) -> None:
    faulty = FaultStore(MemoryStore())
    storage = patient(CountingStore(faulty))
    faulty.plan(away, kind=kind, times=None)
    saving = (storage.save(checkpoint(f"{n}", n)) for n in range(50))
    done = await asyncio.gather(*saving, return_exceptions=True)
    assert all(isinstance(error, StateUnavailable) for error in done)
    assert len([operation for operation in faulty.log if kind in (None, operation.kind)]) <= bound
    faulty.clear()
    await storage.save(checkpoint("one"))
    assert await seen(storage, "one") == (True,) * 3


async def test_savers_do_not_line_up_to_settle_while_the_store_is_away() -> None:
    faulty = FaultStore(MemoryStore())
    storage = patient(CountingStore(faulty))
    faulty.plan(away, kind="put", name="/latest/", nth=3, times=None)
    await asyncio.gather(*(storage.save(checkpoint(f"{n}", n)) for n in range(50)))
    assert len([name for name in faulty.names("put") if "/latest/" in name]) <= 6
    faulty.clear()
    for reader in (storage, StateCheckpointStorage(faulty)):
        assert await latest_id(reader) == "49"
    await storage.save(checkpoint("new", 50))
    counting = CountingStore(faulty)
    assert await latest_id(StateCheckpointStorage(counting)) == "new"
    assert counting.operations == 2


def test_one_storage_serves_several_loops(store: StateStore) -> None:
    storage = StateCheckpointStorage(store)

    async def save(name: str) -> None:
        await asyncio.gather(*(storage.save(checkpoint(f"{name}{n}", n)) for n in range(8)))

    threads = [threading.Thread(target=lambda name=name: asyncio.run(save(name))) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = asyncio.run(storage.list_checkpoint_ids(workflow_name="w"))
    assert sorted(found) == [f"{name}{n}" for name in "abc" for n in range(8)]
    assert asyncio.run(latest_id(storage)) == found[-1]


@pytest.mark.parametrize("who", [0, 1, 2])
async def test_a_saver_can_be_cancelled_and_others_go_on(store: StateStore, who: int) -> None:
    gate, faulty = Gate(), FaultStore(store)
    faulty.plan(gate.before, kind="put", name="/latest/")
    storage = StateCheckpointStorage(faulty)
    saving = [asyncio.ensure_future(storage.save(checkpoint(f"{n}", n))) for n in range(3)]
    await gate.reached()
    saving[who].cancel()
    gate.open()
    done = await asyncio.gather(*saving, return_exceptions=True)
    assert [isinstance(result, asyncio.CancelledError) for result in done] == [n == who for n in range(3)]
    others = [f"{n}" for n in range(3) if n != who]
    assert await storage.list_checkpoint_ids(workflow_name="w") == others
    assert await latest_id(storage) == others[-1]


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
@pytest.mark.parametrize("nth", range(1, SAVE + 2))
@pytest.mark.parametrize("before", [False, True])
async def test_a_save_with_a_fault_is_saved_or_has_left_nothing(
    store: StateStore, fault: Fault, nth: int, before: bool
) -> None:
    faulty = FaultStore(store)
    storage = patient(faulty)
    if before:
        await storage.save(checkpoint("before", 1))
    faulty.plan(fault, nth=nth)
    try:
        await storage.save(checkpoint("one", 2))
        saved = True
    except StateUnavailable:
        saved = False
    assert saved or (nth == 1 and not before), "only what reads is not repeated"
    faulty.clear()
    for reader in (storage, StateCheckpointStorage(store)):
        assert await seen(reader, "one") == (saved,) * 3
    await storage.save(checkpoint("two", 3))
    assert await seen(StateCheckpointStorage(store), "two") == (True,) * 3
    expected = ["before"] * before + ["one"] * saved + ["two"]
    assert await storage.list_checkpoint_ids(workflow_name="w") == expected


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request])
@pytest.mark.parametrize("nth", range(1, SAVE + 2))
async def test_while_the_store_is_away_a_checkpoint_is_wholly_there_or_not_at_all(
    store: StateStore, fault: Fault, nth: int
) -> None:
    faulty = FaultStore(store)
    storage = patient(faulty)
    await storage.save(checkpoint("before", 1))
    faulty.plan(fault, nth=nth)
    faulty.plan(away, nth=nth + 1, times=None)
    try:
        await storage.save(checkpoint("one", 2))
        saved = True
    except StateUnavailable:
        saved = False
    faulty.clear()
    views = await seen(StateCheckpointStorage(store), "one")
    assert views in ((True,) * 3, (False,) * 3)
    assert views[0] or not saved
    assert await seen(storage, "one") == views
    await storage.save(checkpoint("two", 3))
    assert await seen(storage, "two") == (True,) * 3


@pytest.mark.parametrize("kind", ["get", "list", "delete"])
async def test_what_reads_says_that_the_store_is_away(store: StateStore, kind: str) -> None:
    faulty = FaultStore(store)
    storage = StateCheckpointStorage(faulty)
    await storage.save(checkpoint("one"))
    faulty.plan(away, kind=kind, times=None)
    calls: dict[str, list[Callable[[], Any]]] = {
        "get": [lambda: storage.load("one"), lambda: storage.get_latest(workflow_name="w")],
        "list": [lambda: storage.load("one"), lambda: storage.list_checkpoints(workflow_name="w")],
        "delete": [lambda: storage.delete("one")],
    }
    for call in calls[kind]:
        with pytest.raises(StateUnavailable):
            await call()
    faulty.clear()
    assert await seen(storage, "one") == (True,) * 3


@pytest.mark.parametrize("fault", [lost_answer, lost_request, away])
@pytest.mark.parametrize("nth", range(1, 4))
async def test_a_delete_with_a_fault_can_be_repeated(store: StateStore, fault: Fault, nth: int) -> None:
    faulty = FaultStore(store)
    storage = StateCheckpointStorage(faulty)
    await storage.save(checkpoint("before", 1))
    await storage.save(checkpoint("one", 2))
    faulty.plan(fault, nth=nth)
    try:
        await storage.delete("one")
    except StateUnavailable:
        await storage.delete("one")
    faulty.clear()
    assert await seen(storage, "one") == (False,) * 3
    assert await latest_id(storage) == "before"


@pytest.mark.parametrize("fault", [lost_answer, lost_request, away, twice])
async def test_a_repair_with_a_fault_changes_no_answer(store: StateStore, fault: Fault) -> None:
    faulty = FaultStore(store)
    storage = StateCheckpointStorage(faulty)
    for second in range(3):
        await storage.save(checkpoint(f"{second}", second))
    await storage.delete("2")
    faulty.plan(fault, kind="put")
    for _ in range(3):
        assert await latest_id(storage) == "1"
    await storage.save(checkpoint("next", 1.5))
    assert await latest_id(storage) == "next"


async def test_a_repair_does_not_hide_what_is_saved_meanwhile(store: StateStore) -> None:
    """A slow saver is overtaken by a later checkpoint, which is deleted, before its own is stored."""
    gate, slow = Gate(), FaultStore(store)
    slow.plan(gate.before, kind="put", name="/c/")
    storage = StateCheckpointStorage(store)
    await storage.save(checkpoint("first", 1))
    saving = asyncio.ensure_future(StateCheckpointStorage(slow).save(checkpoint("slow", 2)))
    await gate.reached()
    await storage.save(checkpoint("later", 3))
    await storage.delete("later")
    assert await latest_id(storage) == "first"
    gate.open()
    await saving
    assert await latest_id(storage) == "slow"


async def test_a_repair_gives_way_to_a_save(store: StateStore) -> None:
    gate, slow = Gate(), FaultStore(store)
    storage = StateCheckpointStorage(store)
    for second in range(3):
        await storage.save(checkpoint(f"{second}", second))
    await storage.delete("2")
    slow.plan(gate.before, kind="put", name="/latest/")
    searching = asyncio.ensure_future(latest_id(StateCheckpointStorage(slow)))
    await gate.reached()
    await storage.save(checkpoint("new", 9))
    gate.open()
    assert await searching == "1"
    assert await latest_id(storage) == "new"


async def test_notes_of_savers_that_died_do_not_pile_up(store: StateStore) -> None:
    faulty = FaultStore(store)
    await StateCheckpointStorage(store).save(checkpoint("first", 1))
    faulty.plan(away, kind="put", name="/c/", times=None)
    for number in range(80):
        with pytest.raises(StateUnavailable):
            await patient(faulty).save(checkpoint(f"dead{number}", 1000 + number))
    faulty.clear()
    counting = CountingStore(store)
    assert await latest_id(StateCheckpointStorage(counting)) == "first"
    assert counting.rounds == 2 and counting.operations <= 67
    await StateCheckpointStorage(store).save(checkpoint("second", 2))
    assert await latest_id(StateCheckpointStorage(counting)) == "second"


async def test_notes_of_savers_that_died_after_the_write_lead_to_it_however_many_follow(store: StateStore) -> None:
    """All die before they settle, the first of them with a clock that is ahead."""
    faulty = FaultStore(store)
    await StateCheckpointStorage(store).save(checkpoint("first", 0))
    for number in range(150):
        faulty.clear()
        faulty.plan(away, kind="put", name="/latest/", nth=2, times=None)
        await patient(faulty).save(checkpoint(f"{number}", 1000 if number == 0 else number))
        if number % 30 == 0:
            assert await latest_id(StateCheckpointStorage(store)) == "0"
    assert await latest_id(StateCheckpointStorage(store)) == "0"
    counting = CountingStore(store)
    assert await latest_id(StateCheckpointStorage(counting)) == "0"
    assert counting.rounds == 2


async def test_a_note_that_others_have_dropped_is_written_again(store: StateStore) -> None:
    """A save fails, its note goes with those of many others, and when it is tried again it is never settled."""
    faulty = FaultStore(store)
    storage = patient(faulty)
    await storage.save(checkpoint("first", 1))

    async def fail(storage: StateCheckpointStorage, name: str, second: float) -> None:
        with pytest.raises(StateUnavailable):
            await storage.save(checkpoint(name, second))

    def go_away() -> None:
        faulty.plan(away, name="/latest/", times=None)

    faulty.plan(away, kind="put", name="/c/", times=None)
    await fail(storage, "again", 2)
    for number in range(65):
        await fail(patient(faulty), f"dead{number}", 3)
    faulty.clear()
    faulty.plan(calling(after=go_away), kind="put", name="/c/")
    await storage.save(checkpoint("again", 2))
    assert await seen(StateCheckpointStorage(store), "again") == (True,) * 3


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
async def test_a_save_that_is_killed_is_there_wholly_or_not_at_all(tmp_path: Path, shared: Shared) -> None:
    path = str(tmp_path / "state")
    store = shared(path)
    storage = StateCheckpointStorage(store)
    second = 0
    await storage.save(checkpoint("before", second))
    for nth in range(1, SAVE + 2):
        for fault in (kill_before, kill_after):
            second += 1
            name = f"{nth} {fault.__name__}"
            with Worker(SPAWNING, save_one, shared, path, name, second, (fault, {"nth": nth})) as worker:
                code, said = await worker.end(), worker.said()
            assert code == (0 if nth > SAVE else -signal.SIGKILL)
            assert said == (["saved"] if nth > SAVE else [])
            stored = nth > 3 or (nth == 3 and fault is kill_after)
            for reader in (StateCheckpointStorage(store), storage):
                assert await seen(reader, name) == (stored,) * 3, (nth, fault)
    second += 1
    await storage.save(checkpoint("after", second))
    assert await seen(storage, "after") == (True,) * 3


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
async def test_of_savers_in_several_processes_none_is_lost(tmp_path: Path, shared: Shared) -> None:
    path = str(tmp_path / "state")
    workers = [Worker(SPAWNING, save_many, shared, path, name, 25) for name in "abcd"]
    try:
        for worker in workers:
            assert await worker.heard() == "ready"
        for worker in workers:
            worker.tell("go")
        for worker in workers:
            assert await worker.heard() == "saved"
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)
    counting = CountingStore(shared(path))
    storage = StateCheckpointStorage(counting)
    found = await storage.list_checkpoint_ids(workflow_name="w")
    assert sorted(found) == sorted(f"{name}{number}" for name in "abcd" for number in range(25))
    counting.reset()
    assert await latest_id(storage) == found[-1]
    assert counting.rounds == 2


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
async def test_what_was_saved_before_a_kill_is_found_while_others_save(tmp_path: Path, shared: Shared) -> None:
    path = str(tmp_path / "state")
    storage = StateCheckpointStorage(shared(path))
    saved: list[str] = []
    for begun in range(4):
        workers = [Worker(SPAWNING, save_on, shared, path, f"{begun}{name}", 100 * begun) for name in "abc"]
        try:
            saved += [await worker.heard() for worker in workers]
            workers[0].kill()
            saved += [await workers[1].heard() for _ in range(begun)]
            for worker in workers:
                worker.kill()
                await worker.end()
                saved += worker.said()
        finally:
            for worker in workers:
                worker.__exit__(None, None, None)
        found = await storage.list_checkpoint_ids(workflow_name="w")
        assert {*saved} <= {*found}
        assert await latest_id(StateCheckpointStorage(shared(path))) == found[-1]
