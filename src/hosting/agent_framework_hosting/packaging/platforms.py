"""What the builder has to know of a platform, and what an artefact is made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

MACHINES = {"arm64": "aarch64", "x86_64": "x86_64"}
OLDEST_GLIBC = 17
# Of glibc's releases, those that uv knows a platform by.
UV_GLIBC = (17, 28, *range(31, 41))


@dataclass(frozen=True)
class Limit:
    """A size that an artefact may not pass, in bytes, and what to do about one that does."""

    measured: Literal["zipped", "unzipped"]
    size: int
    advice: str
    # A folder is zipped and uploaded by another tool, which has ways of its own.
    of_folders: bool = True


@dataclass(frozen=True)
class Platform:
    """What is particular about a platform."""

    name: str
    # Where an artefact lies when it runs.
    root: str
    # The Pythons it has, each with the release of glibc (2.x) that its image brings.
    pythons: Mapping[str, int]
    # Distributions that its runtime has, and those that come with them.
    supplied: frozenset[str]
    supplied_beside: frozenset[str]
    # Files that it executes, whatever their permissions were where they came from.
    executables: frozenset[str]
    limits: Sequence[Limit]


@dataclass(frozen=True)
class Target:
    """What an artefact is made for; `glibc` is the 34 of 2.34."""

    python: str
    architecture: str
    glibc: int

    @property
    def machine(self) -> str:
        """The architecture as Linux names it."""
        return MACHINES[self.architecture]

    @property
    def tags(self) -> list[str]:
        """The platform tags of wheels that it runs, best first (PEP 600)."""
        newer = [f"manylinux_2_{minor}_{self.machine}" for minor in range(self.glibc, OLDEST_GLIBC - 1, -1)]
        return [*newer, f"manylinux2014_{self.machine}"]

    @property
    def uv_platform(self) -> str:
        """The newest of those platforms that uv has a name for; it takes the older ones too."""
        return f"{self.machine}-manylinux_2_{max(minor for minor in UV_GLIBC if minor <= self.glibc)}"

    def __str__(self) -> str:
        return f"{self.architecture}, Python {self.python}"
