"""The places that a state can be in, for figures that hold on every one of them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_framework_hosting.state.directory import DirectoryStore
from agent_framework_hosting.state.store import StateStore

ROOT = Path(__file__).parents[1] / ".state"


@dataclass(frozen=True)
class Place:
    """A `state_dir` that nothing is in; `folder` is for what is beside it."""

    name: str
    start: str
    folder: str

    def below(self, part: str) -> str:
        return f"{self.start}/{part}"

    def store(self, place: str) -> StateStore:
        """The sessions of a `state_dir`."""
        return DirectoryStore(f"{place}/sessions/v1")


@contextmanager
def directory() -> Generator[Place]:
    """On the disk that this repository is on."""
    ROOT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT, prefix="benchmark-") as folder:
        yield Place("directory", f"{folder}/state", folder)


PLACES: list[Callable[[], AbstractContextManager[Place]]] = [directory]
