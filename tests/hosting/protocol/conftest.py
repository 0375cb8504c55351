"""The stores that the protocol is proved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.memory import MemoryStore
from tests.support.stores import FaultStore


@pytest.fixture(params=["memory", "directory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FaultStore:
    return FaultStore(MemoryStore() if request.param == "memory" else DirectoryStore(tmp_path / "state"))


@pytest.fixture(params=[0, 140_000], ids=["inline", "large"])
def padding(request: pytest.FixtureRequest) -> int:
    """How large the sessions are: within the head, or documents of their own."""
    return request.param
