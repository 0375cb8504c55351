"""The latest of many workflow checkpoints, against the latest of few.

Each store is filled twice, with as many checkpoints as the figure says, and the two are read in turns. Beside it stands
the framework's file storage, which reads all there are.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

from agent_framework import CheckpointStorage, FileCheckpointStorage, WorkflowCheckpoint

from agent_framework_hosting import StateStore
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.disk import Disk
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.storage import StateCheckpointStorage

from .measure import Block, Ratio, interleave
from .places import PLACES, Place, folder
from .table import Row, compared

FEW, MANY, MANY_FILES = 10, 10_000, 1_000
AT_ONCE = 200
READS = 5
ROUNDS = 60
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def measure() -> list[Row]:
    with asyncio.Runner() as runner:
        rows = [row("memory", runner, MemoryStore(), MemoryStore())]
    for place in PLACES:
        with place() as state, asyncio.Runner() as runner:
            rows.append(row(state.name, runner, store(state, "few"), store(state, "many")))
    with folder() as path, asyncio.Runner() as runner:
        few, many = FileCheckpointStorage(f"{path}/few"), FileCheckpointStorage(f"{path}/many")
        ratio = compare(runner, few, many, MANY_FILES, rounds=5)
    rows.append(compared(f"the framework's file storage, latest of {MANY_FILES:,}", ratio, to=f"with {FEW} stored"))
    return rows


def store(state: Place, part: str) -> StateStore:
    if state.name == "directory":  # What is only filled need not survive a power cut.
        return DirectoryStore(state.below(part), disk=Disk(fsync=lambda fd: None))
    return open_store(state.below(part))


def row(name: str, runner: asyncio.Runner, few: StateStore, many: StateStore) -> Row:
    ratio = compare(runner, StateCheckpointStorage(few), StateCheckpointStorage(many), MANY, rounds=ROUNDS)
    return compared(f"latest of {MANY:,} checkpoints, {name}", ratio, to=f"with {FEW} stored", target=1.5)


def compare(
    runner: asyncio.Runner, few: CheckpointStorage, many: CheckpointStorage, count: int, *, rounds: int
) -> Ratio:
    runner.run(fill(few, FEW))
    runner.run(fill(many, count))
    variants = {"few": latest(runner, few, FEW), "many": latest(runner, many, count)}
    samples = interleave(variants, rounds=rounds)
    return Ratio.of(samples["many"], samples["few"])


async def fill(storage: CheckpointStorage, count: int) -> None:
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        await asyncio.gather(*(storage.save(checkpoint(number)) for number in numbers))


def checkpoint(number: int) -> WorkflowCheckpoint:
    return WorkflowCheckpoint(
        "orders",
        "hash",
        checkpoint_id=f"{number}",
        previous_checkpoint_id=f"{number - 1}" if number else None,
        timestamp=(BEGIN + timedelta(seconds=number)).isoformat(),
        state={"text": "x" * 2000},
    )


def latest(runner: asyncio.Runner, storage: CheckpointStorage, count: int) -> Block:
    async def block() -> float:
        began = time.perf_counter()
        for _ in range(READS):
            found = await storage.get_latest(workflow_name="orders")
            if found is None or found.checkpoint_id != f"{count - 1}":
                raise RuntimeError("That is not the latest checkpoint.")
        return (time.perf_counter() - began) / READS

    return lambda: runner.run(block())
