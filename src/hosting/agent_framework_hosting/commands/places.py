"""Where the state is that a command is about."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..limits import DEFAULT_LIMITS
from .hosts import load

if TYPE_CHECKING:
    from ..limits import HostLimits
    from ..state.locations import StateLocations
    from ..state.store import StateStore


def add_place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("--state-dir", metavar="PLACE", help="a path or URL, as the host's state_dir")
    place.add_argument("--host", metavar="module:host", help="or the host, which knows its places")


def find_place(arguments: argparse.Namespace) -> tuple[Sequence[StateStore], HostLimits | None]:
    """Give the stores that the arguments name (see `documents.stores_of`), and the limits of the host if one is named.

    Raises:
        HostingError: There is no such host, or no state there.
    """
    from ..state.documents import stores_of
    from ..state.locations import open_state

    if arguments.host is not None:
        host = load(arguments.host)
        return existing(stores_of(host.state), host.state), host.limits
    locations = open_state(arguments.state_dir, memory_sessions=DEFAULT_LIMITS.memory_sessions)
    return existing(stores_of(locations), locations), None


def existing(stores: Sequence[StateStore], locations: StateLocations) -> Sequence[StateStore]:
    """Leave out directories that are not there: a store would make them, and a misspelt one would look empty.

    Raises:
        ConfigurationError: That of the sessions is not there.
    """
    from ..state.directory import DirectoryStore

    there = [store for store in stores if not isinstance(store, DirectoryStore) or Path(store.path).is_dir()]
    if stores[0] not in there:
        raise ConfigurationError(f"There is no state in {locations.description}. Is the name right, and is it mounted?")
    return there
