"""Accepted updates as documents: `in/K/<order>.<uid>` while they are unfinished, `dead/K/…` once set aside."""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeVar, cast

import msgspec

from ..errors import InvalidRequest, StateDamaged
from ..keys import check_key, conversation_path
from ..updates import InboundUpdate
from .head import FORMAT, check_format

WAITING, DEAD = "in", "dead"
LONGEST = 64
DIGITS = 20
ERROR_LENGTH = 2000


_WAITING = re.compile(r"in/[0-9a-f]{2}/[0-9a-f]{64}/[^/.]+\.[0-9a-f]{64}", re.ASCII)


class Letter(NamedTuple):
    """Where an update stands: the conversation's path, and what the update's names end with."""

    path: str
    order: str
    uid: str

    @property
    def waiting(self) -> str:
        return f"{WAITING}/{self.path}/{self.order}.{self.uid}"

    @property
    def dead(self) -> str:
        return f"{DEAD}/{self.path}/{self.order}.{self.uid}"

    @classmethod
    def of(cls, update: InboundUpdate) -> Letter:
        """Give an update its place: the same for a repeat.

        Raises:
            InvalidRequest: Something in it cannot be stored; the message says what, and why.
        """
        check_rest(update)
        return cls(conversation_path(check_key(update.isolation_key)), ordered(update.order), uid_of(update))

    @classmethod
    def named(cls, name: str) -> Letter:
        """Read the place from a document's name."""
        path, _, rest = name.partition("/")[2].rpartition("/")
        order, _, uid = rest.rpartition(".")
        return cls(path, order, uid)

    @classmethod
    def all(cls, names: Iterable[str]) -> list[Letter]:
        """Read the places from the names of a mailbox; what is named otherwise is no update, and left alone."""
        return [cls.named(name) for name in names if _WAITING.fullmatch(name)]


def uid_of(update: InboundUpdate) -> str:
    """Give what makes a repeat of an update a repeat: 64 hex digits of its channel and id.

    Raises:
        InvalidRequest: The id is no text, or holds a lone surrogate.
    """
    channel, given = check_text("channel", update.channel), check_text("id", update.id)
    return hashlib.sha256(f"{len(channel)}:{channel}:{given}".encode()).hexdigest()


def check_text(field: str, value: object) -> str:
    """Return `value` if it can be stored as text.

    Raises:
        InvalidRequest: It is something else, or holds a lone surrogate.
    """
    if isinstance(value, str):
        with contextlib.suppress(UnicodeEncodeError):
            value.encode()
            return value
    raise InvalidRequest(field, f"An update's {field} is text without lone surrogates.")


def check_rest(update: InboundUpdate) -> None:
    """Refuse what could be written and not be read back.

    Raises:
        InvalidRequest: The payload is not bytes, the reply token no text, or `expires` no number.
    """
    if not isinstance(cast("object", update.payload), bytes):
        raise InvalidRequest("payload", "An update's payload is bytes.")
    if update.reply_token is not None:
        check_text("reply_token", update.reply_token)
    expires = cast("object", update.expires)
    if expires is not None and not (isinstance(expires, (int, float)) and math.isfinite(expires)):
        raise InvalidRequest("expires", "An update's expires is a number of POSIX seconds, or None.")


def ordered(order: str) -> str:
    """Give an order the form in which names sort like it: numbers padded, any other text in hex.

    Longer numbers than `DIGITS` are taken as text.

    Raises:
        InvalidRequest: It is empty, too long, or no text.
    """
    if re.fullmatch(rf"[0-9]{{1,{DIGITS}}}", check_text("order", order), re.ASCII):
        return order.rjust(DIGITS, "0")
    # All of it, not only what a name cannot hold: "b-1" must come after "b".
    text = order.encode()
    if not 0 < len(text) <= LONGEST:
        raise InvalidRequest("order", f"An update's order is a number, or 1 to {LONGEST} bytes of text in UTF-8.")
    return text.hex()


class Waiting(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An accepted update. `accepted` in POSIX seconds; `trace` continues the trace of whoever accepted it."""

    format: int
    key: str
    channel: str
    id: str
    order: str
    payload: bytes
    accepted: float
    expires: float | None = None
    reply_token: str | None = None
    trace: dict[str, str] = {}

    def update(self, now: float, attempt: int) -> InboundUpdate:
        """Give the update as it was accepted; a worthless reply token is left out."""
        token = None if self.expires is not None and self.expires <= now else self.reply_token
        return InboundUpdate(
            self.channel,
            self.id,
            self.key,
            self.payload,
            self.order,
            self.expires,
            reply_token=token,
            attempt=attempt,
        )


class SetAside(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """An update that was given up, `when` (POSIX seconds), and why; one that could not be read is kept as `damaged`.

    `saved` tells that a turn of it is in the conversation: only its reply may be missing.
    """

    format: int
    key: str
    when: float
    attempts: int
    error: str
    saved: bool = False
    channel: str = ""
    id: str = ""
    order: str = ""
    payload: bytes = b""
    accepted: float = 0.0
    expires: float | None = None
    damaged: bytes = b""


def encode_waiting(update: InboundUpdate, now: float, trace: Mapping[str, str]) -> bytes:
    return msgspec.json.encode(
        Waiting(
            format=FORMAT,
            key=update.isolation_key,
            channel=update.channel,
            id=update.id,
            order=update.order,
            payload=update.payload,
            accepted=now,
            expires=update.expires,
            reply_token=update.reply_token,
            trace=dict(trace),
        )
    )


def decode_waiting(name: str, data: bytes) -> Waiting:
    """Read an accepted update.

    Raises:
        LaterFormat: A later release wrote it.
        StateDamaged: It cannot be read, or stands in another conversation's mailbox.
    """
    found = decode(name, data, Waiting)
    if conversation_path(found.key) != Letter.named(name).path:
        raise StateDamaged(name, f"The stored update {name!r} belongs to another conversation. It was kept.")
    return found


def decode_dead(name: str, data: bytes) -> SetAside:
    """Read an update that was set aside.

    Raises:
        LaterFormat: A later release wrote it.
        StateDamaged: It cannot be read.
    """
    return decode(name, data, SetAside)


class LaterFormat(StateDamaged):
    """A document of a later release: whoever runs that can read it."""


D = TypeVar("D", Waiting, SetAside)


def decode(name: str, data: bytes, kind: type[D]) -> D:
    try:
        found = msgspec.json.decode(data, type=kind)
        if found.format == FORMAT:
            return found
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        check_format(name, data)
    except StateDamaged as error:
        raise LaterFormat(name, str(error)) from None
    raise StateDamaged(name, f"The stored update {name!r} is damaged. It was kept.")


def set_aside(waiting: Waiting, *, attempts: int, error: str, now: float, saved: bool = False) -> bytes:
    """Write an update that is given up; its reply token is forgotten."""
    return msgspec.json.encode(
        SetAside(
            format=FORMAT,
            key=waiting.key,
            when=now,
            attempts=attempts,
            error=error[:ERROR_LENGTH],
            saved=saved,
            channel=waiting.channel,
            id=waiting.id,
            order=waiting.order,
            payload=waiting.payload,
            accepted=waiting.accepted,
            expires=waiting.expires,
        )
    )


def set_damaged_aside(key: str, data: bytes, *, attempts: int, error: str, now: float) -> bytes:
    """Write an update that cannot be read, and so not be worked on, as it is."""
    return msgspec.json.encode(
        SetAside(format=FORMAT, key=key, when=now, attempts=attempts, error=error[:ERROR_LENGTH], damaged=data)
    )


def sent_again(dead: SetAside, now: float) -> bytes:
    """Write an update that was set aside as one that was accepted now."""
    return msgspec.json.encode(
        Waiting(
            format=FORMAT,
            key=dead.key,
            channel=dead.channel,
            id=dead.id,
            order=dead.order,
            payload=dead.payload,
            accepted=now,
            expires=dead.expires,
        )
    )
