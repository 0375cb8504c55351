"""Random interleavings of turns, take-overs and resets on two instances, against a list of words for each key."""

from __future__ import annotations

import asyncio
import json
import random
from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, MultipleResults, RuleBasedStateMachine, consumes, invariant, multiple, rule

from agent_framework_hosting import HostLimits
from agent_framework_hosting.errors import InvalidRequest, StateUnavailable, TurnBusy, TurnConflict, TurnRepeated
from agent_framework_hosting.state.conversations import reset
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting.state.turn import StoredTurn
from tests.support.examples import examples
from tests.support.faults import ManualClock
from tests.support.stores import Fault, FaultStore, away, lost_answer, lost_request, twice

LIMITS = HostLimits()
LEASE = LIMITS.lease.total_seconds()
KEYS = st.sampled_from(["a", "b"])
INSTANCES = st.sampled_from([0, 1])
IDS = st.sampled_from([None, None, "t1", "t2", "t3"])
FAULTS = st.sampled_from([None] * 8 + [lost_answer, lost_request, away, twice])


@dataclass
class Held:
    """A turn as the model sees it; `alive` until it ends or somebody takes over."""

    turn: StoredTurn
    instance: int
    key: str
    turn_id: str | None
    before: list[str]
    began: float
    alive: bool = True


@dataclass
class Kept:
    """A conversation as it must be: its words, its turns' ids, and who holds it."""

    words: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    holder: Held | None = None


class Protocol(RuleBasedStateMachine):
    turns: Bundle[Held] = Bundle("turns")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.store = FaultStore(MemoryStore())
        self.instances = [
            StoredConversations(
                self.store, LIMITS, clock=self.clock, sleep=self.clock.sleep, jitter=random.Random(1).random
            )
            for _ in range(2)
        ]
        self.kept = {"a": Kept(), "b": Kept()}
        self.open: set[tuple[int, str]] = set()
        self.count = 0

    def teardown(self) -> None:
        for instance in self.instances:
            self.runner.run(instance.close())
        self.runner.close()

    @rule(target=turns, instance=INSTANCES, key=KEYS, turn_id=IDS, fault=FAULTS)
    def begin(self, instance: int, key: str, turn_id: str | None, fault: Fault | None) -> Held | MultipleResults[Held]:
        """Take a conversation, from a dead holder too: the clock goes on while this one waits."""
        kept = self.kept[key]
        holder = kept.holder
        if (instance, key) in self.open:
            return multiple()  # It would wait in the instance's own queue, for real.
        self.plan(fault, 1)
        waits_from = self.clock.time
        try:
            turn = self.runner.run(self.instances[instance].begin(key, turn_id))
        except TurnRepeated:
            assert turn_id in kept.ids
            return multiple()
        except TurnBusy:
            pytest.fail("nobody renews in this clock's time: a lease must have aged out")
        finally:
            self.store.clear()
        assert turn_id is None or turn_id not in kept.ids
        if holder is not None:
            assert self.clock.time - holder.began >= LEASE
            holder.alive = False
        else:
            assert self.clock.time == waits_from
        assert words_of(turn.snapshot) == kept.words
        self.open.add((instance, key))
        held = kept.holder = Held(turn, instance, key, turn_id, list(kept.words), self.clock.time)
        return held

    @rule(held=consumes(turns), fault=FAULTS, reset=st.booleans(), large=st.booleans())
    def commit(self, held: Held, fault: Fault | None, reset: bool, large: bool) -> None:
        """Save a turn, which works for the holder that is not late, and for nobody else."""
        kept = self.kept[held.key]
        self.count += 1
        words = [*held.before, ("large" * 40_000 if large else "w") + str(self.count)]
        late = self.clock.time - held.began > LEASE * 2 / 3
        held.turn.reset_requested = reset
        self.plan(fault, 1)
        try:
            self.runner.run(held.turn.commit(snapshot=json.dumps(words).encode(), checkpoint=None))
        except TurnConflict:
            assert late or not held.alive
        else:
            assert held.alive
            assert not late
            kept.words = [] if reset else words
            if held.turn_id is not None:
                kept.ids.add(held.turn_id)
        self.end(held)

    @rule(held=consumes(turns), fault=FAULTS)
    def release(self, held: Held, fault: Fault | None) -> None:
        self.plan(fault, 1)
        self.end(held)

    def end(self, held: Held) -> None:
        self.runner.run(held.turn.end())
        self.store.clear()
        self.open.remove((held.instance, held.key))
        if self.kept[held.key].holder is held:
            self.kept[held.key].holder = None

    @rule(instance=INSTANCES, key=KEYS)
    def reset(self, instance: int, key: str) -> None:
        kept = self.kept[key]
        if (instance, key) in self.open:
            return
        self.runner.run(reset(self.instances[instance], key))
        if kept.holder is not None:
            kept.holder.alive = False
            kept.holder = None
        kept.words = []

    @rule(seconds=st.sampled_from([1.0, LEASE / 2, LEASE]))
    def pass_time(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(instance=INSTANCES, key=KEYS)
    def fail(self, instance: int, key: str) -> None:
        """Try to begin while the store is away: that changes nothing."""
        if (instance, key) not in self.open:
            self.plan(away, None)
            with pytest.raises(StateUnavailable):
                self.runner.run(self.instances[instance].begin(key))
            self.store.clear()

    @invariant()
    def everybody_reads_the_same(self) -> None:
        for key, kept in self.kept.items():
            for instance in self.instances:
                try:
                    snapshot, _ = self.runner.run(instance.peek(key))
                except InvalidRequest:
                    snapshot = None
                assert words_of(snapshot) == kept.words

    def plan(self, fault: Fault | None, times: int | None) -> None:
        if fault is away and times is None:
            self.store.plan(away, kind="get", times=None)
        elif fault is not None:
            self.store.plan(fault, kind="put", times=times)


def words_of(snapshot: bytes | None) -> list[str]:
    return [] if snapshot is None else json.loads(snapshot)


TestProtocol = Protocol.TestCase
TestProtocol.settings = settings(max_examples=examples(60), stateful_step_count=20, deadline=None)
