"""The three methods of the framework's session store over the stores."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agent_framework import Agent, AgentSession, Content, FileSessionStore, Message, register_state_type
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from agent_framework_hosting import ConfigurationError, StateDamaged, StateUnavailable
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import StateStore, read
from agent_framework_hosting.storage import StateSessionStore
from tests.hosting.state.savers import SHARED, Shared, change_session
from tests.support.examples import examples
from tests.support.faults import ManualClock, Worker, spawning
from tests.support.stores import (
    CountingStore,
    Fault,
    FaultStore,
    away,
    kill_after,
    kill_before,
    lost_answer,
    lost_request,
    twice,
)
from tests.support.targets import ScriptedClient

SPAWNING = spawning("tests.hosting.state.savers")
LARGE = 20 * 2**20


@dataclass
class Ticket:
    """A value with a codec of its own."""

    number: int

    def to_dict(self) -> dict[str, Any]:
        return {"number": self.number}

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Ticket:
        return cls(given["number"])


register_state_type(Ticket, type_id="tests.session_store.ticket")


@pytest.fixture
def sessions(store: StateStore) -> StateSessionStore:
    return StateSessionStore(store)


def session(text: object = "text", id: str = "s") -> AgentSession:
    made = AgentSession(session_id=id, service_session_id="service")
    made.state["text"] = text
    return made


async def text_of(sessions: StateSessionStore, id: str) -> Any:
    found = await sessions.get(id)
    return None if found is None else found.state["text"]


async def test_a_session_comes_back_as_it_was(sessions: StateSessionStore) -> None:
    kept = session(
        {"messages": [Message("user", [Content.from_text("é🦊")])], "ticket": Ticket(7), "n": [1, 1.5, None]}
    )
    await sessions.set("one", kept)
    found = await sessions.get("one")
    assert found is not None and type(found) is AgentSession
    assert found.to_dict() == kept.to_dict()
    assert found.state["text"]["ticket"] == Ticket(7)
    assert isinstance(found.state["text"]["messages"][0], Message)


async def test_what_is_kept_and_given_is_a_copy(sessions: StateSessionStore) -> None:
    kept = session([1])
    await sessions.set("one", kept)
    kept.state["text"].append(2)
    for _ in range(2):
        assert await text_of(sessions, "one") == [1]
        found = await sessions.get("one")
        assert found is not None
        found.state["text"].append(3)


async def test_what_is_absent_is_none(sessions: StateSessionStore, store: StateStore) -> None:
    assert await sessions.get("nobody") is None
    await sessions.delete("nobody")
    assert await sessions.get("nobody") is None
    assert await store.list("") == []


async def test_a_deleted_session_leaves_an_empty_document(sessions: StateSessionStore, store: StateStore) -> None:
    await sessions.set("ada@example.org", session("secret"))
    await sessions.delete("ada@example.org")
    assert await sessions.get("ada@example.org") is None
    (name,) = await store.list("")
    found = await read(store, name)
    assert found is not None and json.loads(found[0]) == {"format": 1, "session": None}
    await sessions.delete("ada@example.org")
    assert await read(store, name) == found
    await sessions.set("ada@example.org", session("again"))
    assert await text_of(sessions, "ada@example.org") == "again"


async def test_the_last_one_wins(store: StateStore) -> None:
    one, other = StateSessionStore(store), StateSessionStore(store)
    await one.set("s", session("one"))
    await other.set("s", session("other"))
    assert await text_of(one, "s") == "other"
    await one.set("s", session("one"))
    assert await text_of(other, "s") == "one"


@pytest.mark.parametrize("wrong", ["", None, 7, b"a", "\ud800"])
async def test_an_id_that_is_none_is_refused(sessions: StateSessionStore, wrong: Any) -> None:
    with pytest.raises(ValueError, match="session_id must be"):
        await sessions.get(wrong)
    with pytest.raises(ValueError, match="session_id must be"):
        await sessions.set(wrong, session())
    with pytest.raises(ValueError, match="session_id must be"):
        await sessions.delete(wrong)


async def test_any_text_is_an_id(sessions: StateSessionStore, store: StateStore) -> None:
    ids = ["a", "A", "../../a", "/etc/passwd", "a\0b", "é", "🦊", "x" * 2000, "a/b", "a.json", "v1", "~session-a"]
    for one in ids:
        await sessions.set(one, session(one))
    for one in ids:
        assert await text_of(sessions, one) == one
    assert all(set(name) <= set("0123456789abcdef/sessions") for name in await store.list(""))


class Special(AgentSession):
    """One that no store would give back."""


async def test_only_a_plain_session_is_taken(sessions: StateSessionStore) -> None:
    with pytest.raises(TypeError, match="AgentSession, not Special"):
        await sessions.set("s", Special(session_id="s"))
    assert await sessions.get("s") is None


@pytest.mark.parametrize("value", [object(), float("nan"), b"bytes", {1, 2}, {1: 2}])
async def test_a_value_that_would_not_come_back_is_refused(sessions: StateSessionStore, value: Any) -> None:
    await sessions.set("s", session("before"))
    for kind in (ConfigurationError, TypeError, ValueError):
        with pytest.raises(kind, match=r"session\.state\.text"):
            await sessions.set("s", session(value))
    assert await text_of(sessions, "s") == "before"


async def test_a_large_session_works(sessions: StateSessionStore) -> None:
    await sessions.set("s", session("x" * LARGE))
    assert len(await text_of(sessions, "s")) == LARGE


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "cut off": lambda data: data[:-10],
    "no text": lambda data: b"\xff" + data,
    "of a later release": lambda data: json.dumps({**json.loads(data), "format": 2}).encode(),
    "of another session": lambda data: json.dumps({**json.loads(data), "key": "other"}).encode(),
    "of another kind": lambda data: b"[1, 2]",
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_session_is_an_error_that_names_it(
    sessions: StateSessionStore, store: StateStore, damage: str
) -> None:
    await sessions.set("s", session())
    (name,) = await store.list("")
    found = await read(store, name)
    assert found is not None
    damaged = DAMAGES[damage](found[0])
    await store.put(name, damaged)
    with pytest.raises(StateDamaged) as raised:
        await sessions.get("s")
    assert name.endswith(raised.value.name) and raised.value.name in str(raised.value)
    assert isinstance(raised.value, ValueError)
    standing = await read(store, name)
    assert standing is not None and standing[0] == damaged


async def test_prefixes_share_nothing(store: StateStore) -> None:
    one, other = StateSessionStore(store, prefix="one"), StateSessionStore(store, prefix="one/other")
    await one.set("s", session("one"))
    await other.set("s", session("other"))
    assert (await text_of(one, "s"), await text_of(other, "s")) == ("one", "other")


@pytest.mark.parametrize("prefix", ["", "/", "a/", "../a", "a b"])
def test_a_prefix_that_no_name_has_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="document name"):
        StateSessionStore(MemoryStore(), prefix=prefix)


async def test_every_call_costs_one_or_two_operations() -> None:
    counting = CountingStore(MemoryStore())
    sessions = StateSessionStore(counting)
    for number in range(1000):
        await sessions.set(f"{number}", session())
    costs: list[list[str]] = []
    for call in (sessions.set("7", session("x")), sessions.get("7"), sessions.delete("7"), sessions.get("7")):
        counting.reset()
        await call
        costs.append([operation.kind for operation in counting.log])
    assert costs == [["put"], ["get"], ["get", "put"], ["get"]]


async def test_an_agent_goes_on_from_it(sessions: StateSessionStore) -> None:
    heard: list[int] = []

    def answer(messages: Any) -> list[Content]:
        heard.append(len(messages))
        return [Content.from_text("yes")]

    for number in range(3):
        agent = Agent(client=ScriptedClient(answer), name="a")
        going = await sessions.get("s") or agent.create_session(session_id="s")
        await agent.run(f"{number}?", session=going)
        await sessions.set("s", going)
    assert heard == [1, 3, 5]


def test_using_it_warns_of_nothing_experimental() -> None:
    script = "from agent_framework_hosting.storage import StateCheckpointStorage, StateSessionStore"
    ran = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60)
    assert (ran.returncode, ran.stderr) == (0, "")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


class Comparison(RuleBasedStateMachine):
    """Two instances of ours beside the framework's file store: the same calls, the same answers."""

    make: Callable[[Path], StateStore]

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.runner = asyncio.Runner()
        store = type(self).make(Path(self.folder.name) / "ours")
        self.ours = [StateSessionStore(store), StateSessionStore(store)]
        with warnings.catch_warnings(action="ignore"):  # it is experimental
            self.theirs = FileSessionStore(Path(self.folder.name) / "theirs")

    def teardown(self) -> None:
        self.runner.close()
        self.folder.cleanup()

    @rule(
        id=st.sampled_from(["", "a", "A", "a/b", ".."]),
        value=VALUES | st.just(b"bytes") | st.builds(Ticket, st.integers(0, 9)),
        who=st.integers(0, 1),
    )
    def set(self, id: str, value: Any, who: int) -> None:
        given = session(value)
        assert self.outcome(self.ours[who].set(id, given)) == self.outcome(self.theirs.set(id, given))

    @rule(id=st.sampled_from(["", "a", "A", "a/b", ".."]), who=st.integers(0, 1))
    def get(self, id: str, who: int) -> None:
        assert self.outcome(self.ours[who].get(id)) == self.outcome(self.theirs.get(id))

    @rule(id=st.sampled_from(["", "a", "A", "a/b", ".."]), who=st.integers(0, 1))
    def delete(self, id: str, who: int) -> None:
        assert self.outcome(self.ours[who].delete(id)) == self.outcome(self.theirs.delete(id))

    def outcome(self, call: Any) -> Any:
        """Give what a call gives, or how it fails in the words that both have."""
        try:
            with warnings.catch_warnings(action="ignore"):  # the framework warns of what it then refuses
                answer = self.runner.run(call)
        except TypeError:
            return "a TypeError"
        except ValueError:
            return "a ValueError"
        return answer if answer is None else (answer.session_id, answer.service_session_id, answer.state)


def test_answers_as_the_frameworks_file_store_does(make_store: Callable[[Path], StateStore]) -> None:
    run_state_machine_as_test(
        type("Machine", (Comparison,), {"make": staticmethod(make_store)}),
        settings=settings(
            max_examples=examples(30),
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )


def patient(store: StateStore) -> StateSessionStore:
    """A session store on which time passes only while it sleeps."""
    clock = ManualClock()
    return StateSessionStore(store, clock=lambda: clock.time, sleep=clock.sleep)


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request, twice])
@pytest.mark.parametrize("before", [None, "old"])
async def test_a_write_with_a_fault_is_done(store: StateStore, fault: Fault, before: str | None) -> None:
    faulty = FaultStore(store)
    sessions = patient(faulty)
    if before is not None:
        await sessions.set("s", session(before))
    faulty.plan(fault, kind="put")
    await sessions.set("s", session("new"))
    assert await text_of(sessions, "s") == "new"
    faulty.plan(fault, kind="put")
    await sessions.delete("s")
    assert await sessions.get("s") is None


@pytest.mark.parametrize("fault", [away, lost_answer, lost_request])
async def test_a_write_to_a_store_that_stays_away_is_the_old_or_the_new(store: StateStore, fault: Fault) -> None:
    faulty = FaultStore(store)
    sessions = patient(faulty)
    await sessions.set("s", session("old"))
    faulty.plan(fault, kind="put")
    faulty.plan(away, times=None)
    with pytest.raises(StateUnavailable):
        await sessions.set("s", session("new"))
    faulty.clear()
    assert await text_of(sessions, "s") == ("new" if fault is lost_answer else "old")


@pytest.mark.parametrize("call", ["get", "delete"])
async def test_what_reads_says_that_the_store_is_away(store: StateStore, call: str) -> None:
    faulty = FaultStore(store)
    sessions = StateSessionStore(faulty)
    await sessions.set("s", session())
    faulty.plan(away, kind="get")
    with pytest.raises(StateUnavailable):
        await getattr(sessions, call)("s")
    assert await text_of(sessions, "s") == "text"


async def test_of_many_writers_at_once_one_is_whole(store: StateStore) -> None:
    stores = [StateSessionStore(store) for _ in range(4)]
    texts = [f"{number}" * 50_000 for number in range(8)]
    await asyncio.gather(*(stores[n % 4].set("s", session(text)) for n, text in enumerate(texts)))
    assert await text_of(stores[0], "s") in texts


@pytest.mark.parametrize("shared", SHARED.values(), ids=SHARED)
@pytest.mark.parametrize("text", ["new" * 20_000, None])
async def test_a_write_that_is_killed_leaves_the_old_or_the_new(
    tmp_path: Path, shared: Shared, text: str | None
) -> None:
    path = str(tmp_path / "state")
    sessions = StateSessionStore(shared(path))
    for fault in (kill_before, kill_after):
        await sessions.set("s", session("old"))
        with Worker(SPAWNING, change_session, shared, path, "s", text, (fault, {"kind": "put"})) as worker:
            assert await worker.end() == -signal.SIGKILL
        assert await text_of(sessions, "s") == ("old" if fault is kill_before else text)
