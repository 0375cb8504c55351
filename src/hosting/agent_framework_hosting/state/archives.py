"""Sessions that a reset has put aside."""

from __future__ import annotations

import msgspec

from ..errors import StateDamaged
from .head import FORMAT, NO_JSON, check_format


class Archive(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A session as JSON, and when (POSIX seconds; 0: not known) it was put aside; one that is no JSON is `damaged`."""

    format: int
    key: str
    when: float = 0.0
    snapshot: msgspec.Raw = NO_JSON
    damaged: bytes = b""

    @property
    def content(self) -> bytes:
        """The session as it was."""
        return self.damaged or bytes(self.snapshot)


def encode_archive(key: str, snapshot: bytes, when: float) -> bytes:
    try:
        msgspec.json.decode(snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return msgspec.json.encode(Archive(format=FORMAT, key=key, when=when, damaged=snapshot))
    return msgspec.json.encode(Archive(format=FORMAT, key=key, when=when, snapshot=msgspec.Raw(snapshot)))


def decode_archive(name: str, data: bytes, key: str) -> Archive:
    """Read what `encode_archive` wrote, or the bare session that stood there in the beginning.

    Raises:
        StateDamaged: It cannot be read, or is another conversation's. It is kept as it is.
    """
    try:
        archive = msgspec.json.decode(data, type=Archive)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        archive = None
    if archive is None or archive.format != FORMAT:
        check_format(name, data)
    if archive is None or archive.key != key:
        raise StateDamaged(name, f"The archived session {name!r} is damaged, or of another conversation. It was kept.")
    if not archive.content:
        return Archive(format=FORMAT, key=key, snapshot=msgspec.Raw(data))
    return archive
