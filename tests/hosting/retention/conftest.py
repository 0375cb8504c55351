"""The stores that pruning and deleting are proved on."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.disk import Disk
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import ScopedStore, StateStore
from tests.support.places import OBJECT_PLACES, PLACES, StatePlace, make_place
from tests.support.stores import FaultStore

# They need not survive a power cut.
STORES: dict[str, Callable[[Path], StateStore]] = {
    "memory": lambda folder: MemoryStore(),
    "directory": lambda folder: DirectoryStore(folder / "state", disk=Disk(fsync=lambda fd: None)),
}


@pytest.fixture(params=STORES)
def new_store(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], FaultStore]:
    """Make stores that are empty and of one kind, for tests that need many or large ones."""
    inner = STORES[request.param](tmp_path)
    numbers = count(1)
    return lambda: FaultStore(ScopedStore(inner, f"part-{next(numbers)}"))


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> StatePlace:
    """Where several processes share a state."""
    return make_place(request.param, request)


@pytest.fixture(params=[*STORES, *OBJECT_PLACES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FaultStore:
    if request.param in STORES:
        return FaultStore(STORES[request.param](tmp_path))
    return FaultStore(make_place(request.param, request).store())
