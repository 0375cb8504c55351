"""Random interleavings of everything that happens to updates, on two instances, against a simple model."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from agent_framework_hosting import InboundUpdate
from agent_framework_hosting.errors import InvalidRequest, TurnConflict
from agent_framework_hosting.state.conversations import reset
from agent_framework_hosting.state.held import StoredHeld
from agent_framework_hosting.state.mail import Letter
from agent_framework_hosting.state.mailbox import StoredMailboxes
from agent_framework_hosting.state.mailboxes import HeldUpdate
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.renewal_thread import RenewalThread, Schedule
from agent_framework_hosting.state.stored import StoredConversations
from tests.hosting.mailbox.desk import BORN, dead, post
from tests.hosting.protocol.diary import LONG
from tests.support.examples import examples
from tests.support.faults import ManualClock
from tests.support.stores import Fault, FaultStore, away, lost_answer, lost_request, twice

LIMITS = replace(LONG, update_attempts=3)
LEASE = LIMITS.lease.total_seconds()
HOLDS = (5.0, 20.0)
"""Seconds for which an update is on hold after each attempt but the last."""
KEYS = st.sampled_from(["a", "a", "a", "b"])
INSTANCES = st.sampled_from([0, 1])
FAULTS = st.sampled_from([None] * 8 + [lost_answer, lost_request, away, twice])


class NeverDue(Schedule):
    def add(self, call: Callable[[], None], delay: float) -> None:
        """Leave it: that delay is in real time, of which a busy machine may need any amount between two steps."""


class Unrenewed(RenewalThread):
    """Keeps no lease alive: when one is lost is told by the clock that only the steps move."""

    def schedule(self) -> Schedule:
        return NeverDue(asyncio.get_running_loop())


@dataclass
class Instance:
    conversations: StoredConversations
    mailboxes: StoredMailboxes
    open: set[str] = field(default_factory=set[str])


@dataclass
class Held:
    """An update as the model sees it; `alive` until it is concluded or somebody takes over."""

    held: HeldUpdate
    instance: Instance
    key: str
    id: str
    written: float
    alive: bool = True


@dataclass
class Box:
    """A conversation as it must be. `ran` is the update that has its turn and is not done."""

    waiting: dict[str, int] = field(default_factory=dict[str, int])
    attempts: dict[str, int] = field(default_factory=dict[str, int])
    not_before: dict[str, float] = field(default_factory=dict[str, float])
    known: set[str] = field(default_factory=set[str])
    dead: set[str] = field(default_factory=set[str])
    words: list[str] = field(default_factory=list[str])
    ever: list[str] = field(default_factory=list[str])
    ran: str | None = None
    holder: Held | None = None

    def next(self) -> str | None:
        if self.ran is not None:
            return self.ran
        return min(self.waiting, key=lambda uid: (self.waiting[uid], place_of(uid, self.waiting[uid])), default=None)

    def spent(self, uid: str) -> bool:
        """Whether it was begun too often; one that has its turn is begun once more, for its reply."""
        return self.attempts.get(uid, 0) >= LIMITS.update_attempts + (self.ran == uid)

    def conclude(self, uid: str) -> None:
        del self.waiting[uid]
        self.attempts.pop(uid, None)
        self.not_before.pop(uid, None)
        self.known.add(uid)
        if self.ran == uid:
            self.ran = None

    def end(self, held: Held) -> None:
        held.alive = False
        if self.holder is held:
            self.holder = None


def place_of(uid: str, order: int) -> str:
    return Letter.of(update_of("", uid, order)).uid


def update_of(key: str, uid: str, order: int) -> InboundUpdate:
    return post(uid, key=key, id=uid, order=str(order))


class Updates(RuleBasedStateMachine):
    held: Bundle[Held] = Bundle("held")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.store = FaultStore(MemoryStore())
        self.instances = [self.instance() for _ in range(2)]
        self.crashed: list[Instance] = []
        self.boxes = {"a": Box(), "b": Box()}
        self.count = 0

    def instance(self) -> Instance:
        conversations = StoredConversations(
            self.store,
            LIMITS,
            clock=self.clock,
            sleep=self.clock.sleep,
            wall=lambda: BORN + self.clock.time,
            jitter=lambda: 0.5,
            thread=Unrenewed(),
        )
        return Instance(conversations, StoredMailboxes(conversations))

    def teardown(self) -> None:
        try:
            for key in self.boxes:
                self.finish(key)
        finally:
            for instance in [*self.instances, *self.crashed]:
                self.runner.run(instance.mailboxes.close())
                self.runner.run(instance.conversations.close())
            self.runner.close()

    def finish(self, key: str) -> None:
        """Let a third instance do what is left: then each update was in the history once."""
        box, instance = self.boxes[key], self.instance()
        self.crashed.append(instance)
        for _ in range(200):
            taken = self.runner.run(instance.mailboxes.take(key))
            self.note_taken(key, taken)
            if taken is None:
                break
            if isinstance(taken, int | float):
                self.clock.advance(taken + 0.001)
                continue
            held: Held | None = Held(taken, instance, key, taken.update.id, self.clock.time)
            self.expect(box, held)
            while held is not None:
                self.run_turn(held, None)
                following: Any = self.runner.run(held.held.done())
                box.conclude(held.id)
                box.end(held)
                held = None
                if following is not None:
                    held = Held(following, instance, key, following.update.id, self.clock.time)
                    self.expect(box, held)
        assert box.waiting == {}
        assert self.dead(key) == box.dead
        assert len(box.ever) == len(set(box.ever))
        assert self.runner.run(self.store.list(f"in/{Letter.of(update_of(key, 'x', 1)).path}/")) == []

    @rule(key=KEYS, order=st.integers(0, 30), fault=FAULTS)
    def accept(self, key: str, order: int, fault: Fault | None) -> None:
        box = self.boxes[key]
        self.count += 1
        uid = f"u{self.count}"
        assert self.do(fault, self.instances[0].mailboxes.accept(update_of(key, uid, order), {})) is True
        box.waiting[uid] = order

    @rule(key=KEYS, instance=INSTANCES, number=st.integers(0, 40), fault=FAULTS)
    def accept_again(self, key: str, instance: int, number: int, fault: Fault | None) -> None:
        box = self.boxes[key]
        ids = [*box.waiting, *sorted(box.known)]
        if ids:
            uid = ids[number % len(ids)]
            # The order of a repeat is the same, as everything else of it is.
            order = box.waiting.get(uid, 0)
            new = self.do(fault, self.instances[instance].mailboxes.accept(update_of(key, uid, order), {}))
            assert new is (uid in box.waiting and box.ran != uid)

    @rule(target=held, instance=INSTANCES, key=KEYS, fault=FAULTS)
    def take(self, instance: int, key: str, fault: Fault | None) -> Held | MultipleResults[Held]:
        box, at = self.boxes[key], self.instances[instance]
        taken = self.do(fault, at.mailboxes.take(key))
        if self.note_taken(key, taken):
            assert key not in at.open
        if taken is None:
            assert box.waiting == {}
            return multiple()
        if isinstance(taken, int | float):
            uid = box.next()
            on_hold = uid is not None and box.not_before.get(uid, 0) > BORN + self.clock.time
            assert key in at.open or box.holder is not None or on_hold, "it was free"
            assert taken > 0
            return multiple()
        held = Held(taken, at, key, taken.update.id, self.clock.time)
        self.expect(box, held)
        at.open.add(key)
        return held

    def note_taken(self, key: str, taken: HeldUpdate | float | None) -> bool:
        """Note whether somebody had the lease, who may have given up first what was begun too often."""
        box, dead, found = self.boxes[key], self.dead(key), isinstance(taken, StoredHeld)
        while (uid := box.next()) is not None and uid in dead:
            assert box.spent(uid)
            box.dead.add(uid)
            box.conclude(uid)
            found = True
        if found and box.holder is not None:
            assert self.clock.time - box.holder.written >= LEASE
            box.end(box.holder)
        return found

    def expect(self, box: Box, held: Held) -> None:
        """The update that was taken must be the one whose turn it is."""
        assert held.id == box.next()
        assert not box.spent(held.id)
        assert box.not_before.get(held.id, 0) <= BORN + self.clock.time
        box.attempts[held.id] = box.attempts.get(held.id, 0) + 1
        assert held.held.attempt == box.attempts[held.id]
        box.holder = held

    @rule(held=held, fault=FAULTS, anew=st.booleans(), large=st.booleans())
    def run(self, held: Held, fault: Fault | None, anew: bool, large: bool) -> None:
        if held.held.active:
            self.run_turn(held, fault, anew=anew, large=large)

    def run_turn(self, held: Held, fault: Fault | None, *, anew: bool = False, large: bool = False) -> None:
        box = self.boxes[held.key]
        late = self.late(held)
        try:
            turn = self.runner.run(held.held.turn())
        except TurnConflict:
            assert late or not held.alive
            return
        try:
            if turn.remembered is not None:
                assert box.ran == held.id or not held.alive or held.id in box.known
                return
            if box.ran == held.id:
                return  # A second turn of this attempt, which this test does not take.
            assert words_of(turn.snapshot) == box.words or not held.alive
            turn.reset_requested = anew
            text = held.id + ("x" * 140_000 if large else "")
            snapshot = json.dumps([*words_of(turn.snapshot), text]).encode()
            self.do(fault, turn.commit(snapshot=snapshot, checkpoint=None, result=b'"r"'))
        except TurnConflict:
            assert late or not held.alive
        else:
            assert held.alive
            assert not late
            box.words = [] if anew else [*box.words, text]
            box.ever.append(held.id)
            box.ran, held.written = held.id, self.clock.time
        finally:
            self.runner.run(turn.end())

    @rule(target=held, held=consumes(held), fault=FAULTS)
    def done(self, held: Held, fault: Fault | None) -> Held | MultipleResults[Held]:
        """Conclude what has had its turn; what has not is released."""
        box = self.boxes[held.key]
        if not held.held.active:
            return multiple()
        if box.ran != held.id and held.alive:
            self.release(held)
            return multiple()
        try:
            following: Any = self.do(fault, held.held.done())
        except TurnConflict:
            assert not held.alive
            following = None
        else:
            assert held.alive or held.id in box.known
        self.close(held)
        if not held.alive:
            assert following is None
            return multiple()
        box.conclude(held.id)
        box.end(held)
        if following is None:
            return multiple()
        taken = Held(following, held.instance, held.key, following.update.id, self.clock.time)
        self.expect(box, taken)
        held.instance.open.add(held.key)
        return taken

    @rule(held=consumes(held), fault=FAULTS, ran=st.booleans(), seconds=st.sampled_from([0.0, 30.0]))
    def fail(self, held: Held, fault: Fault | None, ran: bool, seconds: float) -> None:
        """Fail before the turn or after it, and perhaps wait for the next attempt to be due."""
        box = self.boxes[held.key]
        if not held.held.active:
            return
        if ran:
            self.run_turn(held, None)
        last = held.held.attempt >= LIMITS.update_attempts
        # What is set aside has a name that any holder may write: one whose lease may be another's by now must not.
        refused = last and self.late(held)
        try:
            self.do(fault, held.held.fail("no"))
        except TurnConflict:
            assert refused or not held.alive
        else:
            assert not refused
            assert held.alive or held.id in box.known
        self.close(held)
        if not held.alive:
            return
        if last and not refused:
            box.dead.add(held.id)
            box.conclude(held.id)
        elif not last:
            box.not_before[held.id] = BORN + self.clock.time + HOLDS[held.held.attempt - 1]
        box.end(held)
        self.clock.advance(seconds)

    @rule(held=consumes(held))
    def give_up(self, held: Held) -> None:
        if held.held.active:
            self.release(held)

    def release(self, held: Held) -> None:
        box = self.boxes[held.key]
        self.runner.run(held.held.release())
        self.close(held)
        if held.alive:
            box.attempts[held.id] -= 1
            box.not_before.pop(held.id, None)
            box.end(held)

    def late(self, held: Held) -> bool:
        """Whether a holder must have stopped itself."""
        return self.clock.time - held.written > LEASE * 2 / 3

    def close(self, held: Held) -> None:
        held.instance.open.discard(held.key)

    @rule(instance=INSTANCES)
    def crash(self, instance: int) -> None:
        """The process is gone, or frozen: what it held may come back to life too late."""
        self.crashed.append(self.instances[instance])
        self.instances[instance] = self.instance()
        self.clock.advance(LEASE)

    @rule(instance=INSTANCES, key=KEYS, anew=st.booleans())
    def turn_over_http(self, instance: int, key: str, anew: bool) -> None:
        at, box = self.instances[instance], self.boxes[key]
        if key in at.open:
            return
        self.count += 1
        if anew:
            self.runner.run(reset(at.conversations, key))
            box.words = []
        else:
            turn = self.runner.run(at.conversations.begin(key))
            assert words_of(turn.snapshot) == box.words
            box.words = [*box.words, f"h{self.count}"]
            self.runner.run(turn.commit(snapshot=json.dumps(box.words).encode(), checkpoint=None))
            self.runner.run(turn.end())
        if box.holder is not None:
            box.end(box.holder)

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE, 30.0]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @invariant()
    def what_is_stored_is_what_must_be(self) -> None:
        for key, box in self.boxes.items():
            try:
                snapshot, _ = self.runner.run(self.instances[0].conversations.peek(key))
            except InvalidRequest:
                snapshot = None
            assert words_of(snapshot) == box.words
            assert self.dead(key) == box.dead

    def dead(self, key: str) -> set[str]:
        return {update.id for update in self.runner.run(dead(self.store, key))}

    def do(self, fault: Fault | None, work: Any) -> Any:
        if fault is not None:
            self.store.plan(fault, kind="put")
        try:
            return self.runner.run(work)
        finally:
            self.store.clear()


def words_of(snapshot: bytes | None) -> list[str]:
    return [] if snapshot is None else json.loads(snapshot)


TestUpdates = Updates.TestCase
TestUpdates.settings = settings(max_examples=examples(80), stateful_step_count=30, deadline=None)


@contextmanager
def playing() -> Generator[Updates]:
    """Take steps by hand. At the end what is left is finished, as always."""
    updates = Updates()
    try:
        yield updates
        updates.what_is_stored_is_what_must_be()
    finally:
        updates.teardown()


def begin_last(updates: Updates) -> Held:
    """Accept an update, and begin its last attempt."""
    updates.accept("a", 0, None)
    for _ in range(LIMITS.update_attempts - 1):
        updates.fail(take(updates), None, ran=False, seconds=30.0)
    return take(updates)


def take(updates: Updates) -> Held:
    held = updates.take(0, "a", None)
    assert isinstance(held, Held)
    return held


def test_an_update_is_on_hold_until_its_time_has_come() -> None:
    with playing() as updates:
        updates.accept("a", 0, None)
        updates.fail(take(updates), None, ran=False, seconds=0.0)
        updates.pass_time(4.5)
        assert not isinstance(updates.take(0, "a", None), Held)
        updates.pass_time(1.0)
        take(updates)


@pytest.mark.parametrize("ran", [False, True])
def test_who_is_late_sets_nothing_aside(*, ran: bool) -> None:
    with playing() as updates:
        held = begin_last(updates)
        if ran:
            updates.run(held, None, anew=False, large=False)
        updates.pass_time(LEASE)
        updates.fail(held, None, ran=False, seconds=0.0)
        assert updates.dead("a") == set()


@pytest.mark.parametrize("found", [False, True])
@pytest.mark.parametrize("ran", [False, True])
def test_the_next_one_finds_what_became_of_the_last_attempt(*, ran: bool, found: bool) -> None:
    with playing() as updates:
        held = begin_last(updates)
        if ran:
            updates.run(held, None, anew=False, large=False)
        updates.turn_over_http(1, "a", anew=False)
        if found:
            updates.take(1, "a", None)
            assert updates.boxes["a"].dead == (set() if ran else {"u1"})
