"""Sessions that a reset has put aside."""

from __future__ import annotations

import msgspec

from .head import FORMAT


class Archive(msgspec.Struct, frozen=True, kw_only=True):
    """The session of a conversation before it began anew; `when` (POSIX seconds) it did, `snapshot` is the session.

    An archive of an earlier release is the bare session document: its `when` is 0, and it stays as long as its
    conversation.
    """

    format: int
    key: str
    when: float = 0.0
    snapshot: msgspec.Raw


class _Bare(msgspec.Struct, frozen=True):
    """What tells an archive of an earlier release."""

    format: int
    key: str
    session: msgspec.Raw


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Archive)
_bare_decoder = msgspec.json.Decoder(_Bare)


def encode_archive(key: str, when: float, snapshot: bytes) -> bytes:
    """Write an archive; `snapshot` is the session as JSON."""
    return _encoder.encode(Archive(format=FORMAT, key=key, when=when, snapshot=msgspec.Raw(snapshot)))


def decode_archive(data: bytes) -> Archive | None:
    """Read an archive, of an earlier release too; None if it cannot be read."""
    try:
        archive = _decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        try:
            bare = _bare_decoder.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return None
        archive = Archive(format=bare.format, key=bare.key, snapshot=msgspec.Raw(data))
    return archive if archive.format == FORMAT else None
