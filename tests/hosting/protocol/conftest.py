"""The stores that the protocol is proved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.memory import MemoryStore
from tests.support.places import OBJECT_PLACES, PLACES, StatePlace, make_place
from tests.support.stores import FaultStore


@pytest.fixture(params=["memory", "directory", *OBJECT_PLACES])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FaultStore:
    if request.param == "memory":
        return FaultStore(MemoryStore())
    if request.param == "directory":
        return FaultStore(DirectoryStore(tmp_path / "state"))
    return FaultStore(make_place(request.param, request).store())


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> StatePlace:
    """Where several processes share a state."""
    return make_place(request.param, request)


@pytest.fixture(params=[0, 140_000], ids=["inline", "large"])
def padding(request: pytest.FixtureRequest) -> int:
    """How large the sessions are: within the head, or documents of their own."""
    return request.param
