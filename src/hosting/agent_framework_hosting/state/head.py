"""The one mutable document of a conversation."""

from __future__ import annotations

import secrets
from typing import Any

import msgspec

from ..errors import StateDamaged

FORMAT = 1
LOG_LENGTH = 64
INLINE_BYTES = 128 * 1024


NO_JSON = msgspec.Raw(b"")


class Lease(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Who may write, and for which updates. `ttl` in seconds; `attempt` counts take-overs in a row, from 1."""

    token: str
    ttl: float
    attempt: int = 1
    updates: tuple[str, ...] = ()


class Snapshot(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """A conversation's session: as JSON in the head itself, or the name and SHA-256 of its own document."""

    size: int
    inline: msgspec.Raw = NO_JSON
    name: str | None = None
    sha: str | None = None


class Checkpoint(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """Where a workflow's state is, as its keeper names it; `size` in bytes is 0 where the keeper cannot tell."""

    name: str
    size: int = 0


class Ran(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An update whose turns are saved and whose reply may not have been sent: their results, in order.

    A result is JSON in the head itself, or the name of a document of its own. Where a turn is to be saved under
    another key as well, `snapshot` and `checkpoint` are the conversation as it left it.
    """

    update: str
    results: tuple[Snapshot, ...] = ()
    snapshot: Snapshot | None = None
    checkpoint: Checkpoint | None = None

    @property
    def texts(self) -> tuple[Snapshot, ...]:
        return self.results if self.snapshot is None else (*self.results, self.snapshot)


class Hold(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An update that was begun `attempts` times and is not done.

    `error` is why the last attempt failed, where that is known; the next one is not before `not_before` (POSIX
    seconds).
    """

    attempts: int
    error: str | None = None
    not_before: float = 0.0


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """`rev` differs in every write; `epoch` grows with every acquired lease; `log` holds the last turns' entries.

    `attachment` is what the channel keeps with the conversation. `when` (POSIX seconds) is when the last turn was
    saved, and `people` are the hashed identities of those whose turns the conversation holds. `hold` and `done` are
    about updates, by their uids; `done` says when. `garbage` names documents that an earlier head named. Where
    `deleted` (POSIX seconds) is set the conversation was removed, and all that is left is the epoch: the key is empty.

    What a later release adds is refused here, not lost: this one would write the head back without it.
    """

    key: str
    rev: str
    epoch: int
    session: str
    generation: str = "0"
    snapshot: Snapshot | None = None
    checkpoint: Checkpoint | None = None
    attachment: Snapshot | None = None
    lease: Lease | None = None
    ran: Ran | None = None
    hold: dict[str, Hold] = {}
    log: tuple[str, ...] = ()
    done: dict[str, int] = {}
    garbage: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    when: float = 0.0
    deleted: float | None = None
    format: int

    def next(self, **changes: Any) -> Head:
        """Copy with changes and a fresh `rev`."""
        return msgspec.structs.replace(self, rev=random_id(), **changes)

    @property
    def texts(self) -> tuple[Snapshot, ...]:
        """All JSON that it holds, or names the document of."""
        parts = (self.snapshot, self.attachment, *(() if self.ran is None else self.ran.texts))
        return tuple(part for part in parts if part is not None)

    @property
    def checkpoints(self) -> tuple[Checkpoint, ...]:
        """All checkpoints that it names."""
        parts = (self.checkpoint, None if self.ran is None else self.ran.checkpoint)
        return tuple(part for part in parts if part is not None)

    @property
    def size(self) -> int:
        """How much a next turn would have to read, in bytes."""
        return sum(part.size for part in (self.snapshot, self.checkpoint) if part is not None)

    def knows(self, turn_id: str) -> bool:
        """Whether a turn with this id is among the last that were saved."""
        return any(entry.rpartition(":")[0] == turn_id for entry in self.log)


class _Format(msgspec.Struct):
    format: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Head)
_format_decoder = msgspec.json.Decoder(_Format)


def freed(head: Head) -> Head:
    """Give a head that nobody has: the attempts at the updates that were being worked on do not count."""
    if head.lease is None:
        return head
    hold = {uid: uncounted(hold) if uid in head.lease.updates else hold for uid, hold in head.hold.items()}
    return head.next(lease=None, hold={uid: hold for uid, hold in hold.items() if hold is not None})


def uncounted(hold: Hold) -> Hold | None:
    """Give what is known of an update without its last attempt."""
    return Hold(hold.attempts - 1, hold.error) if hold.attempts > 1 else None


def random_id() -> str:
    """Give 128 fresh random bits, as 32 hex digits."""
    return secrets.token_hex(16)


def next_session(key: str) -> tuple[str, str]:
    """Give the generation and the session id of a conversation that begins anew."""
    generation = random_id()[:8]
    return generation, f"{key}#{generation}"


def checkpoint_place(path: str, generation: str, epoch: int) -> str:
    """Give the beginning of a checkpoint's name."""
    return f"k/{path}/c/{generation}/{epoch:012}"


def log_entry(turn_id: str) -> str:
    """Name one run of a turn: a repeat of it elsewhere has the same id, and must not be taken for this run."""
    return f"{turn_id}:{random_id()[:16]}"


def encode_head(head: Head) -> bytes:
    return _encoder.encode(head)


def decode_head(name: str, data: bytes, key: str) -> Head:
    """Read a head.

    Raises:
        StateDamaged: It is not a head of this format, or another conversation's.
    """
    try:
        head = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        check_format(name, data)
        message = (
            f"The stored document {name!r} is damaged, or of a later release. It was kept: restore it, or update the "
            "package everywhere that shares this state."
        )
        raise StateDamaged(name, message) from None
    if head.format != FORMAT:
        check_format(name, data)
    if head.key != key and head.deleted is None:
        raise StateDamaged(name, f"The stored document {name!r} belongs to another conversation. It was kept.")
    return head


def check_format(name: str, data: bytes) -> None:
    """Refuse a document of another format version by name.

    Raises:
        StateDamaged: The document says that it has another format.
    """
    try:
        found = _format_decoder.decode(data).format
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return
    if found != FORMAT:
        raise StateDamaged(
            name,
            f"The stored document {name!r} has format {found}; this version reads format {FORMAT}. "
            "It was kept; update the package everywhere that shares this state.",
        )
