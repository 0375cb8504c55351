"""The documents of a state, as their names and the heads tell."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple

import msgspec

from ..errors import ConfigurationError, StateDamaged
from ..keys import conversation_path
from .head import Head, decode_head
from .locations import StateLocations
from .store import StateStore, Version, read

CONVERSATIONS, WAITING, SET_ASIDE, CHANNELS = "k/", "in/", "dead/", "d/"
BATCH = 1000

# A name of another form is of a later release, or somebody's own: nothing here touches it.
_PATH = re.compile(r"(?:k|in|dead)/([0-9a-f]{2}/[0-9a-f]{64})/")
_PART = re.compile(r"(?:(b)/([0-9]{12})-[^/]+|(c)/[^/]+/([0-9]{12})-[^/]+|(s)/[^/]+/([0-9]{12}))")


class Part(NamedTuple):
    """An immutable document of a conversation, made in its `epoch`: a snapshot (b), checkpoint (c) or archive (s)."""

    name: str
    kind: str
    epoch: int


class _Dated(msgspec.Struct):
    when: float | None = None


_dated_decoder = msgspec.json.Decoder(_Dated)


class _Keyed(msgspec.Struct):
    key: str = ""


_keyed_decoder = msgspec.json.Decoder(_Keyed)


def stores_of(locations: StateLocations) -> Sequence[StateStore]:
    """Give the store of the sessions and, if it is another one, that of the checkpoints.

    Raises:
        ConfigurationError: The sessions are in memory: what is in use only their process knows.
    """
    if not locations.durable:
        raise ConfigurationError(
            "Conversations are in memory here, so nobody else can tell what of this state is in use. Name the place "
            "that the host has as its state_dir."
        )
    if locations.checkpoints is locations.sessions:
        return (locations.sessions,)
    return (locations.sessions, locations.checkpoints)


def head_name(path: str) -> str:
    return f"{CONVERSATIONS}{path}/head"


def path_of(name: str) -> str | None:
    """Give the path of the conversation that a document belongs to."""
    found = _PATH.match(name)
    return None if found is None else found[1]


def part_of(name: str) -> Part | None:
    """Tell what a document of a conversation is; None for its head and for what is not known."""
    path = _PATH.match(name)
    found = None if path is None else _PART.fullmatch(name, path.end())
    if found is None:
        return None
    kind, epoch = (group for group in found.groups() if group is not None)
    return Part(name, kind, int(epoch))


def uid_of(name: str) -> str:
    """Give what a head knows an update by: the beginning of the uid in `<order>.<uid>`, the end of its name."""
    return name.rpartition(".")[2][:32]


def named_by(head: Head) -> set[str]:
    """The documents that a head names."""
    return {part.name for part in (*head.texts, *head.checkpoints) if part.name is not None}


def is_tombstone(head: Head) -> bool:
    """Whether the conversation was removed and nobody has begun it anew."""
    return head.deleted is not None and head.lease is None


async def pages(store: StateStore, prefix: str, size: int = BATCH) -> AsyncGenerator[Sequence[str]]:
    """All names below a prefix, in order."""
    after = ""
    while True:
        names = await store.list(prefix, after=after, limit=size)
        if names:
            yield names
        if len(names) < size:
            return
        after = names[-1]


async def all_names(store: StateStore, prefix: str) -> list[str]:
    return [name async for page in pages(store, prefix) for name in page]


async def find_head(store: StateStore, path: str) -> tuple[Head, Version] | None:
    """Read the head of a conversation whose key is not known.

    Raises:
        StateDamaged: It cannot be read, or is not that conversation's.
    """
    name = head_name(path)
    found = await read(store, name)
    if found is None:
        return None
    try:
        key = _keyed_decoder.decode(found[0]).key
    except (msgspec.MsgspecError, UnicodeDecodeError):
        key = ""  # What is wrong with it is said better there.
    head = decode_head(name, found[0], key)
    if head.deleted is None and conversation_path(head.key) != path:
        raise StateDamaged(name, f"The stored document {name!r} belongs to another conversation. It was kept.")
    return head, found[1]


def when_of(data: bytes) -> float | None:
    """Give the top-level `when` (POSIX seconds) of a JSON document; None if it has none."""
    try:
        when = _dated_decoder.decode(data).when
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return when if when is not None and when > 0 else None


def is_superseded(part: Part, head: Head) -> bool:
    """Whether no head can name a snapshot or checkpoint any more; archives are superseded by a tombstone only."""
    if part.name in named_by(head):
        return False
    over = part.epoch < head.epoch or (part.epoch == head.epoch and head.lease is None)
    if part.kind == "s":
        return part.name in head.garbage or (over and is_tombstone(head))
    return over
