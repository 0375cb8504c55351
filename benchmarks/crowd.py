"""Many processes at once on one state: nothing may be lost, doubled or out of order, and leases may cost little."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import random
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from agent_framework_hosting.keys import conversation_path
from agent_framework_hosting.state.content import load_text
from agent_framework_hosting.state.head import decode_head
from agent_framework_hosting.state.sessions import decode_session
from agent_framework_hosting.state.store import StateStore, read

from . import crowd_worker
from .measure import Ratio
from .places import PLACES, Place
from .table import Row, compared, counted

PROCESSES = 8
TURNS = 25
CONVERSATIONS = 64
SECONDS = 1.0
ROUNDS = 7
UPDATES = 10_000
MAILBOXES = 500
DRAINS = 4
REPEATED = 0.05
AT_ONCE = 32
PATIENCE = 900.0


def measure() -> list[Row]:
    rows: list[Row] = []
    for place in PLACES:
        with place() as state:
            rows += [one_conversation(state), many_conversations(state)]
    with PLACES[0]() as state:
        rows.append(killed_drains(state))
    return rows


def one_conversation(state: Place) -> Row:
    """Several processes take turns of one conversation."""
    where, key = state.below("one"), "shared"
    with Crew(crowd_worker.take_turns, [(where, key, name, TURNS) for name in "abcdefgh"[:PROCESSES]]) as crew:
        crew.heard()
        crew.tell("go")
        times = crew.heard()
    found = asyncio.run(words(state.sessions(where), key))
    wanted = [f"{name}{number}" for name in "abcdefgh"[:PROCESSES] for number in range(TURNS)]
    in_order = all(
        [word for word in found if word[0] == name] == [f"{name}{number}" for number in range(TURNS)]
        for name in "abcdefgh"[:PROCESSES]
    )
    figure = f"{PROCESSES} processes × {TURNS} turns of one conversation, {state.name}"
    kept = f"{len(found)} kept, each once and in order" if in_order else f"{len(found)} kept, out of order"
    return counted(figure, kept, took(times), f"{len(wanted)} kept", sorted(found) == sorted(wanted) and in_order)


def many_conversations(state: Place) -> Row:
    """Conversations side by side, with leases and without."""
    each = CONVERSATIONS // PROCESSES
    samples: dict[bool, list[float]] = {True: [], False: []}
    with Crew(crowd_worker.converse, [(state.below("many"), each, SECONDS)] * PROCESSES) as crew:
        crew.heard()
        for number in range(ROUNDS + 1):
            for leased in (True, False) if number % 2 else (False, True):
                crew.tell((f"{number}", leased))
                times = crew.heard()
                if number:  # The first round is a warm-up.
                    samples[leased].append(max(end for _, end in times) - min(began for began, _ in times))
        crew.tell(None)
    figure = f"{CONVERSATIONS} conversations at once from {PROCESSES} processes, {SECONDS:.0f} s agent, {state.name}"
    return compared(figure, Ratio.of(samples[True], samples[False]), to="without leases", target=1.15)


def killed_drains(state: Place) -> Row:
    """Drains work on accepted updates, one of them killed every second, while more are accepted."""
    where, chance = state.below("killed"), random.Random(1)
    updates = [(f"u{n}", f"chat {n % MAILBOXES}", n // MAILBOXES) for n in range(UPDATES)]
    repeats = [update for update in updates if chance.random() < REPEATED]
    replies = Path(state.folder, "replies")
    spawning = context()
    began = time.monotonic()
    kills = 0
    with contextlib.ExitStack() as stack:
        acceptor = Worker(spawning, crowd_worker.accept, where, in_waves([*updates, *repeats]), AT_ONCE)
        stack.callback(acceptor.end)
        drains = [Worker(spawning, crowd_worker.drain, where, str(replies)) for _ in range(DRAINS)]
        stack.callback(lambda: [drain.end() for drain in drains])
        store = state.sessions(where)
        accepted: Any = None
        while time.monotonic() - began < PATIENCE:
            time.sleep(1.0)  # Between two kills.
            if accepted is None and acceptor.connection.poll():
                accepted = acceptor.connection.recv()
            if accepted is not None and not asyncio.run(waiting(store)):
                break
            victim = chance.randrange(DRAINS)
            drains[victim].end()
            drains[victim] = Worker(spawning, crowd_worker.drain, where, str(replies))
            kills += 1
    seconds = time.monotonic() - began
    right = sum(asyncio.run(all_words(store, UPDATES // MAILBOXES)))
    replied = set(replies.read_text().split())
    verdict = (
        f"{right} of {MAILBOXES} histories whole and in order, {len(replied)} updates replied to; "
        f"{kills} kills in {seconds:.0f} s"
    )
    figure = (
        f"{UPDATES:,} updates over {MAILBOXES} conversations, {DRAINS} drains, {REPEATED:.0%} repeated, a kill a second"
    )
    reached = right == MAILBOXES and len(replied) == UPDATES
    return counted(f"{figure}, {state.name}", verdict, "", "all once, in order", reached)


def in_waves(updates: Sequence[tuple[str, str, int]]) -> list[tuple[str, str, int]]:
    """A repeat comes right after the update, or much later."""
    chance = random.Random(2)
    firsts, repeats = updates[:UPDATES], updates[UPDATES:]
    place = {update: number for number, update in enumerate(firsts)}
    late = [(place[update] + chance.choice((0.5, 3000.5)), update) for update in repeats]
    return [update for _, update in sorted([*((float(n), update) for update, n in place.items()), *late])]


async def waiting(store: StateStore) -> bool:
    return bool(await store.list("in/", limit=1))


async def all_words(store: StateStore, count: int) -> list[bool]:
    wanted = [str(number) for number in range(count)]
    return [await words(store, f"chat {n}") == wanted for n in range(MAILBOXES)]


async def words(store: StateStore, key: str) -> list[str]:
    """Read a conversation's history."""
    name = f"k/{conversation_path(key)}/head"
    found = await read(store, name)
    if found is None:
        return []
    text = await load_text(store, decode_head(name, found[0], key).snapshot)
    return [] if text is None else decode_session(name, text, key).session.state["words"]


def took(times: Sequence[tuple[float, float]]) -> str:
    return f"{max(end for _, end in times) - min(began for began, _ in times):.1f} s"


def context() -> ForkServerContext:
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(["benchmarks.crowd_worker"])
    return made


class Worker:
    """A process that runs `work(connection, *arguments)`."""

    def __init__(self, spawning: ForkServerContext, work: Callable[..., None], *arguments: Any) -> None:
        self.connection: Connection
        self.connection, other = spawning.Pipe()
        self.process = spawning.Process(target=crowd_worker.begin, args=(dict(os.environ), work, other, *arguments))
        self.process.start()
        other.close()

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.connection.close()


class Crew:
    """Processes that are told the same and answer each."""

    def __init__(self, work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
        spawning = context()
        self.workers = [Worker(spawning, work, *each) for each in arguments]

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *failure: object) -> None:
        for worker in self.workers:
            worker.end()

    def tell(self, message: Any) -> None:
        for worker in self.workers:
            worker.connection.send(message)

    def heard(self) -> list[Any]:
        """Wait for a message of each."""
        answers: list[Any] = []
        for worker in self.workers:
            if not worker.connection.poll(PATIENCE):
                raise TimeoutError("A process says nothing.")
            answers.append(worker.connection.recv())
        return answers
