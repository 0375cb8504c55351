"""Prunes and deletions, one operation at a time, between live turns and updates; against a simple model."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from agent_framework_hosting import HostLimits
from agent_framework_hosting.errors import InvalidRequest, TurnConflict
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.belonging import Finder
from agent_framework_hosting.state.deletion import Deleter
from agent_framework_hosting.state.documents import all_names, find_head, uid_of
from agent_framework_hosting.state.head import INLINE_BYTES, Head
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.retention import SETTLE, Pruner
from agent_framework_hosting.state.stored import StoredConversations
from agent_framework_hosting.state.turn import StoredTurn
from tests.hosting.retention.written import DAY, NOW, RETENTION, change_head, document
from tests.support.examples import examples
from tests.support.faults import ManualClock
from tests.support.stores import Apply, Fault, FaultStore, Operation, away, lost_answer, twice

KEYS = ("a", "b")
FAULTS = st.sampled_from([None] * 10 + [lost_answer, away, twice])


@dataclass
class Kept:
    """A conversation as it must be: its words, the turn that holds it and may still save, and the waiting updates."""

    words: list[str] = field(default_factory=list)
    turn: StoredTurn | None = None
    alive: bool = False
    waiting: set[str] = field(default_factory=set)


@dataclass
class Waiting:
    """An operation that somebody is about to do, or a time that it is about to wait."""

    go: asyncio.Future[Fault | None]
    seconds: float = 0.0


class Stepped:
    """What prunes and deletes: each of its operations waits until it is allowed."""

    def __init__(self, work: Coroutine[Any, Any, Any], waiting: list[Waiting], *, prunes: bool = False) -> None:
        self.prunes = prunes
        self.task = asyncio.ensure_future(work)
        self.waiting = waiting

    async def quiet(self) -> None:
        """Run until it waits or has ended."""
        for _ in range(10_000):
            if self.task.done() or self.waiting:
                break
            await asyncio.sleep(0.0005)  # It tries again after a pause, in real time.
        for _ in range(20):
            await asyncio.sleep(0)


class Retention(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.now = NOW
        self.store = MemoryStore()
        self.host = StoredConversations(
            self.store, HostLimits(), clock=self.clock, sleep=self.clock.sleep, jitter=random.Random(1).random
        )
        self.kept = {key: Kept() for key in KEYS}
        self.working: Stepped | None = None
        self.updates = 0

    def run(self, work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return self.runner.run(awaited())

    def teardown(self) -> None:
        self.kill()
        self.run(self.host.close())
        self.runner.close()

    @rule(key=st.sampled_from(KEYS))
    def begin(self, key: str) -> None:
        kept = self.kept[key]
        if kept.turn is None:
            turn: StoredTurn = self.run(self.host.begin(key))
            kept.turn, kept.alive = turn, True
            assert words_of(turn.snapshot) == kept.words

    @rule(key=st.sampled_from(KEYS), large=st.booleans())
    def commit(self, key: str, large: bool) -> None:
        """Save the turn, which works unless it lost its lease, or its conversation was deleted."""
        kept = self.kept[key]
        if kept.turn is None:
            return
        words = [*kept.words, f"{len(kept.words)}"]
        snapshot = json.dumps(words).encode().ljust(INLINE_BYTES + 1 if large else 0)
        if kept.alive:
            self.run(kept.turn.commit(snapshot=snapshot, checkpoint=None))
            self.run(change_head(self.store, key, when=self.now))
            kept.words = words
        else:
            with pytest.raises(TurnConflict):
                self.run(kept.turn.commit(snapshot=snapshot, checkpoint=None))
        self.end(key)

    @rule(key=st.sampled_from(KEYS))
    def end(self, key: str) -> None:
        kept = self.kept[key]
        if kept.turn is not None:
            self.run(kept.turn.end())
            kept.turn, kept.alive = None, False

    @rule(key=st.sampled_from(KEYS))
    def accept(self, key: str) -> None:
        self.updates += 1
        name = f"in/{conversation_path(key)}/{self.updates:04}.u{self.updates}"
        self.run(self.store.put(name, document(key=key)))
        self.kept[key].waiting.add(name)

    @rule(key=st.sampled_from(KEYS))
    def finish_update(self, key: str) -> None:
        if self.kept[key].waiting:
            self.run(self.store.delete(self.kept[key].waiting.pop()))

    @rule(days=st.sampled_from([1, 20, 40]))
    def pass_time(self, days: int) -> None:
        self.now += days * DAY
        self.clock.advance(days * DAY)
        self.nobody_renewed()

    def nobody_renewed(self) -> None:
        for kept in self.kept.values():
            kept.alive = False

    @precondition(lambda self: self.working is None)
    @rule(batch=st.sampled_from([1, 2, 100]))
    def start_prune(self, batch: int) -> None:
        async def start() -> Stepped:
            waiting: list[Waiting] = []
            sleep = sleeping(waiting)
            store = gated(self.store, waiting)
            pruner = Pruner([store], retention=RETENTION, batch=batch, clock=lambda: self.now, sleep=sleep)
            return Stepped(pruner.run(), waiting, prunes=True)

        self.working = self.run(start())

    @precondition(lambda self: self.working is None)
    @rule(key=st.sampled_from(KEYS))
    def start_deletion(self, key: str) -> None:
        async def start() -> Stepped:
            waiting: list[Waiting] = []
            store = gated(self.store, waiting)
            deleter = Deleter([store], clock=lambda: self.now, sleep=sleeping(waiting))

            async def delete() -> None:
                found = await Finder([store]).find(conversation_path(key), key)
                if found is not None:
                    await deleter.delete_rest(await deleter.delete([found]))

            return Stepped(delete(), waiting)

        self.working = self.run(start())

    @precondition(lambda self: self.working is not None)
    @rule(steps=st.lists(st.tuples(st.integers(0, 7), FAULTS), min_size=1, max_size=12))
    def step(self, steps: Sequence[tuple[int, Fault | None]]) -> None:
        for which, fault in steps:
            if self.working is None:
                return
            before = self.heads()
            self.run(self.working.quiet())
            if waiting := self.working.waiting:
                chosen = waiting.pop(which % len(waiting))
                if chosen.seconds >= SETTLE:
                    self.clock.advance(chosen.seconds)
                    self.nobody_renewed()
                chosen.go.set_result(fault)
                self.run(self.working.quiet())
            self.look_for_tombstones(before)
            if self.working.task.done():
                error = self.working.task.exception()
                assert error is None or isinstance(error, TurnConflict)
                self.working = None

    def heads(self) -> dict[str, Head | None]:
        found = {key: self.run(find_head(self.store, conversation_path(key))) for key in KEYS}
        return {key: None if at is None else at[0] for key, at in found.items()}

    def look_for_tombstones(self, before: dict[str, Head | None]) -> None:
        """A conversation may have been removed: idle ones by a prune, any by a deletion, with updates of before."""
        pruning = self.working is not None and self.working.prunes
        for key, head in self.heads().items():
            known = before[key]
            if head is None or head.deleted is None or (known is not None and known.rev == head.rev):
                continue
            if pruning and known is not None and known.deleted is None:
                assert known.when and self.now - known.when > RETENTION.total_seconds()
                assert known.ran is None
            kept = self.kept[key]
            if known is None or head.epoch > known.epoch:
                kept.words, kept.alive = [], False
            if not pruning:
                kept.waiting -= {name for name in kept.waiting if uid_of(name) in head.done}

    @rule()
    def kill(self) -> None:
        """The process of the pruner or deleter dies."""
        if self.working is not None:
            self.working.task.cancel()
            self.run(asyncio.wait([self.working.task]))
            self.working = None

    @invariant()
    def what_is_live_is_whole(self) -> None:
        for key, kept in self.kept.items():
            try:
                snapshot, _ = self.run(self.host.peek(key))
            except InvalidRequest:
                snapshot = None
            assert words_of(snapshot) == kept.words
            names = set(self.run(all_names(self.store, f"in/{conversation_path(key)}/")))
            # What a deletion has counted as done is on its way out.
            assert names >= kept.waiting


def gated(store: MemoryStore, waiting: list[Waiting]) -> FaultStore:
    async def gate(operation: Operation, apply: Apply) -> Any:
        step = Waiting(asyncio.get_running_loop().create_future())
        waiting.append(step)
        fault = await step.go
        return await (apply() if fault is None else fault(operation, apply))

    gated = FaultStore(store)
    gated.plan(gate, times=None)
    return gated


def sleeping(waiting: list[Waiting]) -> Any:
    async def sleep(seconds: float) -> None:
        step = Waiting(asyncio.get_running_loop().create_future(), seconds)
        waiting.append(step)
        await step.go

    return sleep


def words_of(snapshot: bytes | None) -> list[str]:
    return [] if snapshot is None else json.loads(snapshot)


TestRetention = Retention.TestCase
TestRetention.settings = settings(max_examples=examples(80), stateful_step_count=30, deadline=None)
