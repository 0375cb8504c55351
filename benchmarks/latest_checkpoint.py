"""The latest of many workflow checkpoints, against the latest of few.

Each store is filled twice, with as many checkpoints as the figure says, and the two are read in turns. Beside it stands
the framework's file storage, which reads all there are.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from agent_framework import CheckpointStorage, FileCheckpointStorage, WorkflowCheckpoint

from agent_framework_hosting import StateStore
from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.disk import Disk
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.storage import StateCheckpointStorage

from .measure import Block, Ratio, interleave
from .table import Row, compared

FEW, MANY, MANY_FILES = 10, 10_000, 1_000
AT_ONCE = 200
READS = 5
ROUNDS = 60
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
PLACE = Path(__file__).parents[1] / ".state"

STORES: dict[str, Callable[[str], StateStore]] = {
    "memory": lambda place: MemoryStore(),
    # What is only filled need not survive a power cut.
    "directory": lambda place: DirectoryStore(place, disk=Disk(fsync=lambda fd: None)),
}
"""Makes a store for each figure, from a path that nothing else uses."""


def measure() -> list[Row]:
    PLACE.mkdir(exist_ok=True)
    rows: list[Row] = []
    for name, make in STORES.items():
        with tempfile.TemporaryDirectory(dir=PLACE, prefix="benchmark-") as folder, asyncio.Runner() as runner:
            few = StateCheckpointStorage(make(f"{folder}/few"))
            many = StateCheckpointStorage(make(f"{folder}/many"))
            ratio = compare(runner, few, many, MANY, rounds=ROUNDS)
        rows.append(compared(f"latest of {MANY:,} checkpoints, {name}", ratio, to=f"with {FEW} stored", target=1.5))
    with tempfile.TemporaryDirectory(dir=PLACE, prefix="benchmark-") as folder, asyncio.Runner() as runner:
        few, many = FileCheckpointStorage(f"{folder}/few"), FileCheckpointStorage(f"{folder}/many")
        ratio = compare(runner, few, many, MANY_FILES, rounds=5)
    rows.append(compared(f"the framework's file storage, latest of {MANY_FILES:,}", ratio, to=f"with {FEW} stored"))
    return rows


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
