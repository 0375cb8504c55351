"""Processes that are stopped (SIGSTOP) for longer than their lease, and continued."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from typing import Any

import pytest

from agent_framework_hosting import AgentFrameworkHost, ChannelContext
from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.head import decode_head
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.store import UNCHANGED, StateStore
from tests.hosting.protocol.channel import TurnChannel, post_turn, started
from tests.hosting.protocol.diary import LONG, SHORT, Diary, hosted, read_diary, say
from tests.hosting.protocol.modes import MODES, Mode
from tests.hosting.protocol.questions import asking
from tests.hosting.protocol.worker import post_workflow_turn, take_turn
from tests.support.faults import (
    PATIENCE,
    Worker,
    brief_sleep,
    freeze_after,
    freeze_and_lose_answer,
    freeze_before,
    spawning,
)
from tests.support.places import StatePlace
from tests.support.stores import Fault, FaultStore, calling

SPAWNING = spawning("tests.hosting.protocol.worker")
KEY = "chat:1"
COMMIT = {"kind": "put", "name": "head", "nth": 2}


@pytest.fixture
def path(place: StatePlace) -> str:
    return place.state_dir


@pytest.fixture
def store(place: StatePlace) -> StateStore:
    return place.store()


def serving(store: StateStore, target: Any) -> AbstractAsyncContextManager[ChannelContext]:
    return hosted(store, target, SHORT, sleep=brief_sleep)


async def is_leased(store: StateStore, key: str) -> bool:
    name = f"k/{conversation_path(key)}/head"
    found = await store.get(name)
    return found is not None and found is not UNCHANGED and decode_head(name, found[0], key).lease is not None


class Frozen:
    """A turn whose process was stopped, at one operation of its store, and the conversation as that left it."""

    def __init__(self, worker: Worker, mode: Mode, key: str, *, leased: bool, saved: bool) -> None:
        self.worker = worker
        self.mode = mode
        self.key = key
        self.leased = leased
        self.saved = saved
        self.words = mode.after([*mode.before]) if saved else [*mode.before]

    async def resumed(self) -> list[Any]:
        """Let it go on to its end; give what it says from then on."""
        self.worker.resume()
        assert await self.worker.end() == 0
        return self.worker.said()

    async def say(self, context: ChannelContext, word: str) -> None:
        """Take another turn in the conversation, which must be as it is known here."""
        answer = await self.mode.say(context, self.key, word)
        self.words.append(word)
        assert answer == f"{len(self.words)}: {word}"


@asynccontextmanager
async def frozen(
    context: ChannelContext, gate: asyncio.Semaphore, path: str, mode: Mode, fault: Fault, nth: int, **how: Any
) -> AsyncGenerator[Frozen]:
    """A turn that is frozen at its nth operation. Not all run up to that at once: their leases are short."""
    key = f"{fault.__name__} {nth}"
    how |= await mode.begin(context, key)
    with ExitStack() as stack:
        async with gate:
            begun = Worker(SPAWNING, take_turn, path, key, mode.word, how, (fault, {"nth": nth}))
            worker = stack.enter_context(begun)
            await worker.frozen()
        at_the_end = nth == mode.operations
        updates = mode.answer([*mode.before])[:-1]
        assert worker.said() == (updates if at_the_end else [])
        store = open_store(path)
        leased = await is_leased(store, key)
        frozen = Frozen(worker, mode, key, leased=leased, saved=at_the_end and fault is freeze_after)
        assert await mode.read(store, key) == frozen.words
        yield frozen


def cases(mode: Mode) -> list[tuple[Fault, int]]:
    return [(fault, nth) for nth in range(1, mode.operations + 1) for fault in (freeze_before, freeze_after)]


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_a_turn_that_is_frozen_anywhere_and_taken_over_is_whole_or_has_never_been(path: str, mode: Mode) -> None:
    store, gate = open_store(path), asyncio.Semaphore(4)
    ends: set[str] = set()

    async def check(fault: Fault, nth: int) -> None:
        async with frozen(context, gate, path, mode, fault, nth) as turn:
            await turn.say(context, "other")
            said, saved = await turn.resumed(), turn.saved
            if saved:
                ends.add("saved")
                answered = mode.answer([*mode.before])[-1:]
            elif turn.leased or mode.how.get("fresh"):
                ends.add("lost")
                answered = ["TurnConflict"]
            else:
                ends.add("later")  # It had not begun, and does now.
                saved = True
                answered = mode.answer(turn.words)
                turn.words = mode.after(turn.words)
            told = said[len(answered) :]
            assert said[: len(answered)] == answered
            assert bool(told) == (saved and mode.asks)
            assert await mode.read(store, turn.key) == turn.words
            await turn.say(context, "next")
            await mode.check_questions(context, store, turn.key, saved=saved, told=told)

    async with serving(store, mode.target()) as context:
        await asyncio.gather(*[check(*case) for case in cases(mode)])
    assert ends == {"saved", "lost"} | ({"later"} if mode.operations > 1 else set())


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
async def test_a_turn_that_is_frozen_anywhere_and_resumed_in_time_goes_on(path: str, mode: Mode) -> None:
    """Whoever waits for it by then comes after it."""
    store, gate = FaultStore(open_store(path)), asyncio.Semaphore(4)

    async def check(fault: Fault, nth: int) -> None:
        async with frozen(context, gate, path, mode, fault, nth, limits=LONG) as turn, asyncio.TaskGroup() as others:
            turn.words = mode.after([*mode.before])
            if turn.leased:
                looked = asyncio.Event()
                store.plan(calling(after=looked.set), kind="get", name=conversation_path(turn.key), nth=2)
                others.create_task(turn.say(context, "other"))
                async with asyncio.timeout(PATIENCE):
                    await looked.wait()
            answered = mode.answer([*mode.before])[-1 if nth == mode.operations else 0 :]
            said = await turn.resumed()
            told = said[len(answered) :]
            assert said[: len(answered)] == answered
            assert bool(told) == mode.asks
        await turn.say(context, "next")
        assert await mode.read(store, turn.key) == turn.words
        await mode.check_questions(context, store, turn.key, saved=True, told=told)

    async with hosted(store, mode.target(), LONG) as context:
        await asyncio.gather(*[check(*case) for case in cases(mode)])


@pytest.mark.parametrize("how", [{}, {"stream": True}], ids=["once", "stream"])
async def test_a_frozen_run_neither_saves_nor_sends_once_it_was_taken_over(
    store: StateStore, path: str, how: dict[str, Any]
) -> None:
    async with serving(store, Diary()) as context:
        await say(context, KEY, "one")
        with Worker(SPAWNING, take_turn, path, KEY, "hold", how) as worker:
            if how:
                assert await worker.heard() == "2:"
            assert await worker.heard() == "holding"
            await worker.freeze()
            assert await say(context, KEY, "two") == "2: two"
            worker.tell("go on")
            worker.resume()
            assert await worker.heard() == "TurnConflict"
            assert await worker.end() == 0
            assert await say(context, KEY, "three") == "3: three"
    assert await read_diary(store, KEY) == ["one", "two", "three"]


async def test_a_run_that_was_frozen_stops_itself_although_nobody_came(store: StateStore, path: str) -> None:
    with Worker(SPAWNING, take_turn, path, KEY, "hold", {"stream": True}) as worker:
        assert [await worker.heard() for _ in range(2)] == ["1:", "holding"]
        await worker.freeze()
        # Somebody looks at the lease for longer than it lasts; what is taken over is another conversation's.
        async with serving(store, Diary()) as context:
            with Worker(SPAWNING, take_turn, path, "other", "hold", {}) as other:
                assert await other.heard() == "holding"
                await other.freeze()
                await say(context, "other", "one")
        worker.tell("go on")
        worker.resume()
        assert await worker.heard() == "TurnConflict"
        assert await worker.end() == 0
    assert await read_diary(store, KEY) == []


async def test_a_commit_that_was_frozen_while_its_turn_was_repeated_does_not_count(
    store: StateStore, path: str
) -> None:
    """The client's retry, with the same idempotency key, ran elsewhere: that answer is the saved one."""
    async with serving(store, Diary()) as context:
        with Worker(SPAWNING, take_turn, path, KEY, "frozen", {"turn": "t1"}, (freeze_before, COMMIT)) as worker:
            await worker.frozen()
            assert await say(context, KEY, "one", turn="t1") == "1: one"
            worker.resume()
            assert await worker.heard() == "TurnConflict"
            assert await worker.end() == 0
    assert await read_diary(store, KEY) == ["one"]


@pytest.mark.parametrize("fault", [freeze_after, freeze_and_lose_answer])
async def test_a_commit_whose_answer_came_late_is_saved(store: StateStore, path: str, fault: Fault) -> None:
    async with serving(store, Diary()) as context:
        with Worker(SPAWNING, take_turn, path, KEY, "frozen", {"turn": "t1"}, (fault, COMMIT)) as worker:
            await worker.frozen()
            assert await say(context, KEY, "two") == "2: two"
            assert await say(context, KEY, "three") == "3: three"
            worker.resume()
            assert await worker.heard() == "1: frozen"
            assert await worker.end() == 0
    assert await read_diary(store, KEY) == ["frozen", "two", "three"]


async def test_the_checkpoint_of_a_frozen_workflow_does_not_count(path: str) -> None:
    host = AgentFrameworkHost(asking(), channels=[TurnChannel()], state_dir=path, limits=SHORT)
    async with started(host) as app:

        async def count(word: str) -> Any:
            return (await post_turn(app, KEY, word)).json

        assert await count("one") == "1: one"
        with Worker(SPAWNING, post_workflow_turn, path, KEY) as worker:
            assert await worker.heard() == "holding"
            await worker.freeze()
            assert await count("two") == "2: two"
            worker.tell("go on")
            worker.resume()
            assert await worker.heard() == 409
            assert await worker.end() == 0
        assert await count("three") == "3: three"
