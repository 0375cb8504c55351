"""Sessions that a reset has put aside."""

from __future__ import annotations

import msgspec

from .head import FORMAT, NO_JSON


class Archive(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The session of a conversation before it began anew; `when` (POSIX seconds) it did, `snapshot` is the session.

    A session that was no JSON is kept as it was, `damaged`. An archive of an earlier release is the bare session
    document: its `when` is 0, and it stays as long as its conversation.
    """

    format: int
    key: str
    when: float = 0.0
    snapshot: msgspec.Raw = NO_JSON
    damaged: bytes = b""

    @property
    def content(self) -> bytes:
        """The session as it was."""
        return self.damaged or bytes(self.snapshot)


class _Bare(msgspec.Struct, frozen=True):
    """What tells an archive of an earlier release."""

    format: int
    key: str
    session: msgspec.Raw


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Archive)
_bare_decoder = msgspec.json.Decoder(_Bare)


def encode_archive(key: str, when: float, snapshot: bytes) -> bytes:
    """Write an archive; `snapshot` is the session as JSON, or what is left of it."""
    try:
        msgspec.json.decode(snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _encoder.encode(Archive(format=FORMAT, key=key, when=when, damaged=snapshot))
    return _encoder.encode(Archive(format=FORMAT, key=key, when=when, snapshot=msgspec.Raw(snapshot)))


def decode_archive(data: bytes) -> Archive | None:
    """Read an archive, of an earlier release too; None if it cannot be read."""
    try:
        archive = _decoder.decode(data)
        if not archive.content:
            bare = _bare_decoder.decode(data)
            archive = Archive(format=bare.format, key=bare.key, snapshot=msgspec.Raw(data))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return archive if archive.format == FORMAT else None
