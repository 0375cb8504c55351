"""Where `state_dir` puts things."""

from __future__ import annotations

import asyncio
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias, TypedDict, cast, runtime_checkable
from urllib.parse import parse_qsl, unquote, urlsplit

from ..errors import ConfigurationError
from .memory import MemoryStore
from .store import StateStore

if TYPE_CHECKING:
    from .directory import DirectoryStore
    from .object_places import BlobPlace, S3Place

    Located: TypeAlias = "Directory | S3Place | BlobPlace"

logger = logging.getLogger("agent_framework.hosting.state")

Place = str | os.PathLike[str]

LAYOUT = "v1"
URL = r"[A-Za-z][A-Za-z0-9+.-]+:/"
OBJECT_STORES = {"s3", "az"}
BLOB_HOST = ".blob.core.windows.net"


class UnknownPlaces(ConfigurationError, ValueError):
    """A mapping of places has a key that names none."""


class HostStatePaths(TypedDict, total=False):
    """Places of their own for the parts of the state. `sessions` also holds leases, mailboxes, channel documents."""

    sessions: Place
    checkpoints: Place


@runtime_checkable
class Probed(Protocol):
    """A store whose place can be found wanting at start-up."""

    async def probe(self) -> None:
        """Make sure that the place works. Idempotent.

        Raises:
            ConfigurationError: It never will, as it is set up.
            StateUnavailable: It cannot be reached or written.
        """
        ...


@dataclass(frozen=True)
class StateLocations:
    """The stores of a host. Making them touches nothing; `probe` does, at start-up.

    `checkpoints` may be the same store as `sessions`, which holds all the rest. `durable` and `checkpoints_durable`
    tell whether what is in them outlives the process. `description` is for the start-up line and holds no secrets.
    With `single_instance` only one process at a time may use them. `roots` are the directories that were named.
    """

    sessions: StateStore
    checkpoints: StateStore
    description: str
    durable: bool
    checkpoints_durable: bool
    single_instance: bool
    roots: tuple[str, ...] = ()

    async def probe(self, *, checkpoints: bool) -> None:
        """Make sure that the stores work; `checkpoints` tells whether the target makes any. Idempotent.

        Raises:
            ConfigurationError: A place is not there, or cannot do what conditional writes need.
            StateUnavailable: A place cannot be reached or written.
        """
        for root in self.roots:
            if not await asyncio.to_thread(os.path.isdir, os.path.dirname(root)):
                logger.warning(
                    "Neither %s nor the directory above it was there: they are made now. If a file system should be "
                    "mounted there, it is not.",
                    root,
                )
        for store in (self.sessions, self.checkpoints) if checkpoints else (self.sessions,):
            if isinstance(store, Probed):
                await store.probe()


class Directory(NamedTuple):
    """A place on a file system, as an absolute path."""

    path: str
    single_instance: bool = False

    @property
    def description(self) -> str:
        return f"directory {self.path}" + (" (single instance)" if self.single_instance else "")

    def below(self, segment: str) -> Directory:
        return self._replace(path=os.path.join(self.path, segment))

    def store(self) -> DirectoryStore:
        from .directory import DirectoryStore

        return DirectoryStore(os.path.join(self.path, LAYOUT), single_instance=self.single_instance)


def open_state(
    state_dir: Place | HostStatePaths | Mapping[str, Place] | None,
    *,
    memory_sessions: int,
    checkpoint_location: Place | None = None,
) -> StateLocations:
    """Find the stores that `state_dir` names: None for memory, a path, a URL, or a mapping of those.

    A single place is divided into `sessions/` and `checkpoints/`; those of a mapping are used as they are. A mapping
    without `checkpoints` has them beside the sessions; without `sessions` everything else is in memory.
    `checkpoint_location` wins over both. `memory_sessions` bounds what is in memory.

    Raises:
        ConfigurationError: A place makes no sense, or is of a kind that this release does not have.
        ValueError: The mapping has an unknown key.
    """
    if isinstance(state_dir, Mapping):
        places = {key: locate(place, f"state_dir[{key!r}]") for key, place in checked(state_dir).items()}
        sessions = places.get("sessions")
        checkpoints = places.get("checkpoints", sessions)
        named = [sessions, checkpoints]
        description = describe(sessions, checkpoints, memory_sessions)
    else:
        place = None if state_dir is None else locate(state_dir, "state_dir")
        sessions = place and place.below("sessions")
        checkpoints = place and place.below("checkpoints")
        named = [place]
        description = describe(place, place, memory_sessions)
    if checkpoint_location is not None:
        checkpoints = locate(checkpoint_location, "checkpoint_location")
        named.append(checkpoints)
        description = describe(sessions, checkpoints, memory_sessions)

    if sessions is not None and checkpoints is None:
        raise ConfigurationError(
            "Checkpoints in memory beside stored sessions would be lost without a trace. Leave out "
            "state_dir['checkpoints'], which puts them beside the sessions, or give it a directory."
        )
    memory = MemoryStore(max_documents=memory_sessions)
    sessions_store = memory if sessions is None else sessions.store()
    if checkpoints == sessions:
        checkpoints_store = sessions_store
    else:
        checkpoints_store = memory if checkpoints is None else checkpoints.store()
    return StateLocations(
        sessions=sessions_store,
        checkpoints=checkpoints_store,
        description=description,
        durable=sessions is not None,
        checkpoints_durable=checkpoints is not None,
        single_instance=any(place is not None and place.single_instance for place in (sessions, checkpoints)),
        roots=tuple(dict.fromkeys(place.path for place in named if isinstance(place, Directory))),
    )


def open_store(place: Place) -> StateStore:
    """Give the store at one place, as a mapping would name it: nothing is put beside or below it by name.

    Raises:
        ConfigurationError: It makes no sense, or is of a kind that there is not.
    """
    located = locate(place, "The place of the store")
    return MemoryStore() if located is None else located.store()


def checked(paths: HostStatePaths | Mapping[str, Place]) -> Mapping[str, Place]:
    known = HostStatePaths.__optional_keys__
    if unknown := sorted(set(paths) - known):
        raise UnknownPlaces(f"state_dir has the unknown keys {unknown}; it knows {sorted(known)}.")
    return cast(Mapping[str, Place], paths)


def locate(place: Place, setting: str) -> Located | None:
    """Give what a path or URL names, or None for memory.

    Raises:
        ConfigurationError: It names something else; `setting` says whose value it is.
    """
    if not isinstance(cast("object", place), str | bytes | os.PathLike):
        raise ConfigurationError(f"{setting} is {type(place).__name__}: name a directory or give a URL.")
    text = os.fsdecode(place)
    if not text:
        raise ConfigurationError(f"{setting} is empty. Name a directory, or leave it out to keep state in memory.")
    if "\0" in text:
        raise ConfigurationError(f"{setting} holds a null character, which no path can.")
    if re.match(URL, text) is None:
        path = os.path.expanduser(text)
        if path.startswith("~"):
            raise ConfigurationError(f"{setting} starts with ~, and no home directory is known: write the whole path.")
        return Directory(os.path.abspath(path))
    return locate_url(text, setting)


def locate_url(text: str, setting: str) -> Located | None:
    url = urlsplit(text)
    host = url.netloc.rpartition("@")[2]  # what stands before it may be a secret, like the query
    shown = f"{url.scheme}://{host}{url.path}"
    if url.scheme == "memory":
        if host or url.path.strip("/") or url.query:
            raise ConfigurationError(f"{setting} is {shown}: memory has no parts, write memory:// alone.")
        return None
    if url.scheme in OBJECT_STORES and not text.startswith(f"{url.scheme}://"):
        raise ConfigurationError(f"{setting} is {text}, a path that was a URL: give it as text, not as a Path.")
    if url.scheme in OBJECT_STORES or (url.scheme == "https" and host.endswith(BLOB_HOST)):
        from .object_places import locate_object

        return locate_object(url, setting)
    if url.scheme != "file":
        raise ConfigurationError(
            f"{setting} is {shown}, which is no known kind of place: use a path, file://, s3://bucket/prefix, "
            f"az://container/prefix, https://<account>{BLOB_HOST}/<container>/<prefix> or memory://."
        )
    if host not in ("", "localhost") or not url.path.startswith("/") or url.fragment:
        raise ConfigurationError(
            f"{setting} is {shown}: a file URL is file:///absolute/path, with # and ? written %23 and %3F."
        )
    options = dict(parse_qsl(url.query, keep_blank_values=True))
    single_instance = options.pop("single_instance", "false")
    if options or single_instance not in ("true", "false"):
        raise ConfigurationError(f"{setting} is {shown} with options; the only one is ?single_instance=true.")
    return Directory(os.path.abspath(unquote(url.path)), single_instance == "true")


def describe(sessions: Located | None, checkpoints: Located | None, memory_sessions: int) -> str:
    memory = f"memory (at most {memory_sessions} conversations, gone when the process ends)"

    def words(place: Located | None) -> str:
        return memory if place is None else place.description

    if sessions == checkpoints:
        return words(sessions)
    return f"sessions in {words(sessions)}, checkpoints in {words(checkpoints)}"
