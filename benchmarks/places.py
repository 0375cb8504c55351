"""The places that a state can be in, for figures that hold on every one of them.

S3 and Azure Blob Storage are moto and Azurite on this machine, whose times say nothing about AWS or Azure: there a
request takes several times as long, and what the host adds weighs less.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent_framework_hosting.state.locations import open_store
from agent_framework_hosting.state.store import StateStore
from emulators.object_stores import Azurite, Moto
from scripts import toolchain

ROOT = Path(__file__).parents[1] / ".state"


@dataclass(frozen=True)
class Place:
    """Where nothing is yet; `folder` is one of this machine, for what is beside it."""

    name: str
    start: str
    folder: str

    def below(self, part: str) -> str:
        return f"{self.start}/{part}"

    def sessions(self, state_dir: str) -> StateStore:
        """The sessions of a `state_dir`."""
        return open_store(f"{state_dir}/sessions")


@contextmanager
def directory() -> Generator[Place]:
    """On the disk that this repository is on."""
    with folder() as path:
        yield Place("directory", f"{path}/state", path)


@contextmanager
def moto() -> Generator[Place]:
    with folder() as path, Moto() as server, variables(server.environment):
        server.make_bucket("bucket")
        yield Place("moto", "s3://bucket", path)


@contextmanager
def azurite() -> Generator[Place]:
    with (
        folder() as path,
        Azurite(toolchain.azurite(), node=toolchain.node()) as server,
        variables(server.environment),
    ):
        server.make_container("container")
        yield Place("Azurite", "az://container", path)


OBJECT_PLACES: list[Callable[[], AbstractContextManager[Place]]] = [moto, azurite]
PLACES = [directory, *OBJECT_PLACES]


@contextmanager
def folder() -> Generator[str]:
    ROOT.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT, prefix="benchmark-") as path:
        yield path


@contextmanager
def variables(environment: dict[str, str]) -> Generator[None]:
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
