"""The stores that the contract suite runs on. A new store is one more entry."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.disk import Disk, rename_new
from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.memory import MemoryStore
from agent_framework_hosting.state.store import ScopedStore, StateStore
from tests.support.places import OBJECT_PLACES, make_place

STORES: dict[str, Callable[[Path], StateStore]] = {
    "memory": lambda folder: MemoryStore(),
    "directory": lambda folder: DirectoryStore(folder / "state"),
    "directory of a single instance": lambda folder: DirectoryStore(folder / "state", single_instance=True),
    "part of memory": lambda folder: ScopedStore(MemoryStore(), "part"),
    "part of a directory": lambda folder: ScopedStore(DirectoryStore(folder / "state"), "part/v1"),
}


@pytest.fixture(params=[*STORES, *OBJECT_PLACES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    if request.param in STORES:
        return STORES[request.param](tmp_path)
    return make_place(request.param, request).store()


@pytest.fixture(params=["memory", "directory", "directory of a single instance", *OBJECT_PLACES])
def make_store(request: pytest.FixtureRequest) -> Callable[[Path], StateStore]:
    """Make stores that need not survive a power cut, for tests that write much."""
    if request.param not in STORES:
        place, numbers = make_place(request.param, request), count()
        return lambda folder: open_store(place.below(str(next(numbers))))
    unsynced: dict[str, Callable[[Path], StateStore]] = {
        "memory": STORES["memory"],
        "directory": lambda folder: DirectoryStore(folder, disk=Disk(fsync=lambda fd: None)),
        "directory of a single instance": lambda folder: DirectoryStore(
            folder, single_instance=True, disk=Disk(fsync=lambda fd: None, commit=rename_new)
        ),
    }
    return unsynced[request.param]
