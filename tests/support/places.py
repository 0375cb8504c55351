"""Where state can be: of each kind a fresh `state_dir`, for this process and for others."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import pytest

from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.store import StateStore

T = TypeVar("T")


@dataclass(frozen=True)
class StatePlace:
    """A `state_dir` that nothing is in yet, and the `environment` that a process needs to get there.

    `kind` is directory, s3 or blob. In the test that it was made for, this process and those that it starts have the
    environment already.
    """

    kind: str
    state_dir: str
    environment: Mapping[str, str] = field(default_factory=dict[str, str])

    def below(self, name: str) -> str:
        """A place of its own beside others below this one."""
        return f"{self.state_dir}/{name}"

    def thinned(self, cases: Sequence[T], step: int) -> Sequence[T]:
        """All cases in a directory; every `step`th on an object store, whose operations are round trips."""
        return cases if self.kind == "directory" else cases[::step]

    def store(self) -> StateStore:
        """The store at just this place. One in another process is `open_store(state_dir)`."""
        return open_store(self.state_dir)


PLACES = [
    "directory",
    pytest.param("s3", marks=pytest.mark.needs("moto")),
    pytest.param("blob", marks=pytest.mark.needs("azurite")),
]
"""For the parameters of a fixture or a test; `make_place` makes them."""

OBJECT_PLACES = PLACES[1:]


def make_place(kind: str, request: pytest.FixtureRequest) -> StatePlace:
    """Make a place for the test that asks, starting the emulator with the first."""
    if kind == "directory":
        folder: Path = request.getfixturevalue("tmp_path")
        return StatePlace(kind, str(folder / "state"))
    if kind == "s3":
        server, start = request.getfixturevalue("moto"), "s3://bucket"
    else:
        server, start = request.getfixturevalue("azurite"), "az://container"
    monkeypatch: pytest.MonkeyPatch = request.getfixturevalue("monkeypatch")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return StatePlace(kind, f"{start}/{uuid.uuid4().hex}", server.environment)
