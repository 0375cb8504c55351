"""What every `StateStore` promises."""

from __future__ import annotations

import asyncio
import string
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from agent_framework_hosting.state.store import ABSENT, UNCHANGED, Lost, StateStore, Version
from tests.support.examples import examples

HEAD = "k/aa/" + "a" * 64 + "/head"


async def read(store: StateStore, name: str) -> tuple[bytes, Version]:
    found = await store.get(name)
    assert found is not None
    assert found is not UNCHANGED
    return found


def test_is_a_state_store(store: StateStore) -> None:
    assert isinstance(store, StateStore)


async def test_what_was_never_written_is_absent(store: StateStore) -> None:
    assert await store.get(HEAD) is None
    assert await store.get(HEAD, unless="1") is None
    assert await store.list("k/") == []
    await store.delete(HEAD)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\xff\r\n", bytes(range(256)) * 4096, b"x" * 20_000_000, b'\n"%b"\n' % (b"0" * 32)],
    ids=["empty", "binary", "large", "20 MB", "like the mark of an object"],
)
async def test_keeps_bytes(store: StateStore, data: bytes) -> None:
    version = await store.put(HEAD, data)
    assert await store.get(HEAD) == (data, version)


async def test_says_when_nothing_has_changed(store: StateStore) -> None:
    version = await store.put(HEAD, b"1")
    assert await store.get(HEAD, unless=version) is UNCHANGED
    changed = await store.put(HEAD, b"2")
    assert await store.get(HEAD, unless=version) == (b"2", changed)


async def test_equal_bytes_written_twice_are_two_versions(store: StateStore) -> None:
    versions = [await store.put(HEAD, b"same") for _ in range(10)]
    assert len(set(versions)) == 10
    assert await store.get(HEAD, unless=versions[0]) == (b"same", versions[-1])


async def test_create_only_once(store: StateStore) -> None:
    version = await store.put(HEAD, b"first", if_version=ABSENT)
    with pytest.raises(Lost):
        await store.put(HEAD, b"second", if_version=ABSENT)
    assert await read(store, HEAD) == (b"first", version)


async def test_a_stale_writer_loses_and_leaves_no_trace(store: StateStore) -> None:
    stale = await store.put(HEAD, b"1")
    current = await store.put(HEAD, b"2", if_version=stale)
    for _ in range(5):
        with pytest.raises(Lost):
            await store.put(HEAD, b"stale", if_version=stale)
        current = await store.put(HEAD, b"next", if_version=current)
    assert await read(store, HEAD) == (b"next", current)


async def test_a_writer_who_expects_a_document_loses_where_there_is_none(store: StateStore) -> None:
    for version in ("1", "7", "0", "anything else"):
        with pytest.raises(Lost):
            await store.put(HEAD, b"x", if_version=version)
    version = await store.put(HEAD, b"x")
    await store.delete(HEAD)
    with pytest.raises(Lost):
        await store.put(HEAD, b"x", if_version=version)
    assert await store.get(HEAD) is None


async def test_delete_removes_one_document(store: StateStore) -> None:
    for name in ("b/1", "b/1/2", "b/10"):
        await store.put(name, b"x")
        await store.put(name, b"y")
    await store.delete("b/1")
    await store.delete("b/1")
    assert await store.get("b/1") is None
    assert await store.list("b/") == ["b/1/2", "b/10"]
    await store.delete("b/1/2")
    await store.delete("b/10")
    assert await store.list("b/") == []


async def test_names_that_resemble_each_other_share_nothing(store: StateStore) -> None:
    names = ["a", "a-b", "a.b", "a/b", "a/v1", "a/v1/v2", "a/v2", "a/v", "a0", "v1", "v1/v1", "v01", ".a", "..a", "_"]
    for name in names:
        await store.put(name, b"old")
        await store.put(name, name.encode())
    for name in names:
        assert (await read(store, name))[0] == name.encode()
    assert await store.list("") == sorted(names)


async def test_lists_in_name_order_and_in_pages(store: StateStore) -> None:
    names = sorted(
        f"in/{group}/{order}{end}" for group in ("aa", "ab", "b") for order in range(12) for end in ("", ".x")
    )
    for name in reversed(names):
        await store.put(name, b"")
    await store.put("in-other/x", b"")
    await store.put("i", b"")
    assert await store.list("in/") == names
    assert await store.list("in/a") == [name for name in names if name.startswith("in/a")]
    assert await store.list("in/aa/1") == [name for name in names if name.startswith("in/aa/1")]
    assert await store.list("in/aa/1/") == []
    assert await store.list("in/zz/") == []
    pages: list[str] = []
    while page := await store.list("in/", after=pages[-1] if pages else "", limit=7):
        assert len(page) <= 7
        pages += page
    assert pages == names
    assert await store.list("in/", after="in/ab/") == [name for name in names if name > "in/ab/"]
    assert await store.list("in/ab/", after="in/b") == []
    assert await store.list("in/ab/", after="a", limit=2) == ["in/ab/0", "in/ab/0.x"]


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a/.",
        "ä",
        "a b",
        "a\n",
        "a\\b",
        "a~",
        "v1=",
        "a:b",
        "x" * 201,
    ],
)
async def test_refuses_other_names(store: StateStore, name: str) -> None:
    with pytest.raises(ValueError, match="document name"):
        await store.get(name)
    with pytest.raises(ValueError, match="document name"):
        await store.put(name, b"")
    with pytest.raises(ValueError, match="document name"):
        await store.delete(name)


@pytest.mark.parametrize("prefix", ["/", "a//", "../", "a/../", "a/..//", "ä", "a b", "~"])
async def test_refuses_prefixes_that_no_name_has(store: StateStore, prefix: str) -> None:
    with pytest.raises(ValueError, match="document name"):
        await store.list(prefix)


async def test_takes_the_longest_names(store: StateStore) -> None:
    alphabet = string.ascii_letters + string.digits + "._-"
    name = "/".join([(alphabet * 4)[:200]] * 4)
    await store.put(name, b"x")
    assert (await read(store, name))[0] == b"x"
    assert await store.list(name[:300]) == [name]


async def test_of_many_writers_with_one_expectation_one_wins(store: StateStore) -> None:
    expected = await store.put(HEAD, b"start")
    for number in range(5):
        written = await asyncio.gather(
            *(store.put(HEAD, f"{number} {writer}".encode(), if_version=expected) for writer in range(8)),
            return_exceptions=True,
        )
        won = {index: version for index, version in enumerate(written) if isinstance(version, str)}
        assert len(won) == 1
        assert all(isinstance(answer, Lost) for answer in written if not isinstance(answer, str))
        [(writer, expected)] = won.items()
        assert await read(store, HEAD) == (f"{number} {writer}".encode(), expected)


async def test_of_many_creators_one_wins(store: StateStore) -> None:
    written = await asyncio.gather(
        *(store.put(HEAD, f"{writer}".encode(), if_version=ABSENT) for writer in range(8)), return_exceptions=True
    )
    [(writer, version)] = [(index, answer) for index, answer in enumerate(written) if isinstance(answer, str)]
    assert await read(store, HEAD) == (f"{writer}".encode(), version)


async def test_writers_without_expectations_all_succeed(store: StateStore) -> None:
    versions = await asyncio.gather(*(store.put(HEAD, f"{writer}".encode()) for writer in range(12)))
    assert len(set(versions)) == 12
    assert (await read(store, HEAD))[0] in {f"{writer}".encode() for writer in range(12)}


def test_serves_several_loops_at_once(store: StateStore) -> None:
    async def increment() -> None:
        for _ in range(10):
            while True:
                data, version = await read(store, HEAD)
                try:
                    await store.put(HEAD, b"%d" % (int(data) + 1), if_version=version)
                except Lost:
                    continue
                break

    asyncio.run(store.put(HEAD, b"0"))
    threads = [threading.Thread(target=lambda: asyncio.run(increment())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert asyncio.run(read(store, HEAD))[0] == b"40"


async def test_a_cancelled_write_leaves_the_old_or_the_new(store: StateStore) -> None:
    for number in range(10):
        old = f"{number}".encode() * 1000
        await store.put(HEAD, old)
        task = asyncio.ensure_future(store.put(HEAD, b"new" * 1000))
        for _ in range(number):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert (await read(store, HEAD))[0] in (old, b"new" * 1000)


SEGMENTS = st.sampled_from(["a", "b", "a-b", "a.b", "k", "v1", "v2"])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join)
PREFIXES = st.one_of(NAMES, NAMES.map(lambda name: name + "/"), st.just(""))


class StoreMachine(RuleBasedStateMachine):
    """A store next to a dictionary that says what it must hold."""

    make: Callable[[Path], StateStore]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        self.store = type(self).make(Path(self.folder.name))
        self.model: dict[str, tuple[bytes, Version]] = {}
        self.versions: dict[str, list[Version]] = {}
        self.gone: set[str] = set()

    def teardown(self) -> None:
        self.runner.close()
        self.folder.cleanup()

    def written(self, name: str, data: bytes, version: Version) -> None:
        assert version not in self.versions.setdefault(name, [])
        self.versions[name].append(version)
        self.model[name] = (data, version)

    @rule(name=NAMES, data=st.binary(max_size=8))
    def put(self, name: str, data: bytes) -> None:
        if name not in self.gone:
            self.written(name, data, self.runner.run(self.store.put(name, data)))

    @rule(name=NAMES, data=st.binary(max_size=8))
    def create(self, name: str, data: bytes) -> None:
        if name in self.gone:
            return
        if name in self.model:
            with pytest.raises(Lost):
                self.runner.run(self.store.put(name, data, if_version=ABSENT))
        else:
            version = self.runner.run(self.store.put(name, data, if_version=ABSENT))
            self.written(name, data, version)

    @precondition(lambda self: self.versions)
    @rule(choice=st.data(), data=st.binary(max_size=8))
    def compare_and_swap(self, choice: st.DataObject, data: bytes) -> None:
        name = choice.draw(st.sampled_from(sorted(self.versions)))
        # By its number: a store may give other versions when the same is done again.
        expected = self.versions[name][choice.draw(st.integers(0, len(self.versions[name]) - 1))]
        if name in self.model and self.model[name][1] == expected:
            version = self.runner.run(self.store.put(name, data, if_version=expected))
            self.written(name, data, version)
        else:
            with pytest.raises(Lost):
                self.runner.run(self.store.put(name, data, if_version=expected))

    @precondition(lambda self: self.model)
    @rule(choice=st.data())
    def delete(self, choice: st.DataObject) -> None:
        name = choice.draw(st.sampled_from(sorted(self.model)))
        self.runner.run(self.store.delete(name))
        del self.model[name]
        self.gone.add(name)

    @rule(name=NAMES)
    def get(self, name: str) -> None:
        assert self.runner.run(self.store.get(name)) == self.model.get(name)

    @rule(prefix=PREFIXES, after=st.one_of(st.just(""), PREFIXES), limit=st.integers(1, 5))
    def list(self, prefix: str, after: str, limit: int) -> None:
        expected = sorted(name for name in self.model if name.startswith(prefix) and name > after)[:limit]
        assert self.runner.run(self.store.list(prefix, after=after, limit=limit)) == expected

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        assert self.runner.run(self.store.list("")) == sorted(self.model)


def test_behaves_like_a_dictionary(make_store: Callable[[Path], StateStore]) -> None:
    machine = type("Machine", (StoreMachine,), {"make": staticmethod(make_store)})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples(20),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
