"""Sessions as plain JSON documents."""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from agent_framework import AgentSession

from ..errors import ConfigurationError, StateDamaged
from ..internals import is_taken, types_with_codec
from ..surrogates import utf8
from .head import FORMAT, check_format

MAX_DEPTH = 200


@dataclass(slots=True)
class StoredSession:
    """A session and the contents (framework `Content` dictionaries) that it waits for an answer to."""

    session: AgentSession
    pending: list[dict[str, Any]]


def encode_session(key: str, session: AgentSession, pending: Sequence[Mapping[str, Any]] = ()) -> bytes:
    """Write a session as JSON.

    Raises:
        ConfigurationError: A value has no JSON form; the message names its place and type.
    """
    # Before the framework makes dictionaries of everything, and text of their keys.
    if bad := _find_unstorable(session.state, "session.state", types_with_codec()):
        raise _refused(*bad)
    document = {"format": FORMAT, "key": key, "session": session.to_dict(), "pending": list(pending)}
    try:
        # JSON would take an enumeration or a subclass of text and give back something else: marshal refuses those.
        marshal.dumps(document)
        text = _encoder.encode(document)
    except (TypeError, ValueError) as error:
        bad = _find_unstorable(document["session"], "session") or _find_unstorable(document["pending"], "pending")
        raise _refused(*(bad or ("session", str(error)))) from None
    return utf8(text)


def decode_session(name: str, data: bytes, key: str) -> StoredSession:
    """Read what `encode_session` wrote; `name` is for the error.

    Raises:
        StateDamaged: It cannot be read. It is kept as it is.
    """
    try:
        document = cast("dict[str, Any]", _decoder.decode(data))
        if document["format"] != FORMAT:
            check_format(name, data)
        if document["key"] != key:
            raise StateDamaged(name, f"The stored session in {name!r} belongs to another conversation. It was kept.")
        session = AgentSession.from_dict(document["session"])
        pending = cast("list[dict[str, Any]]", document["pending"])
    except StateDamaged:
        raise
    except Exception as error:
        raise StateDamaged(
            name,
            f"The stored session in {name!r} cannot be read ({type(error).__name__}). It was kept; if it holds "
            "values of your own types, call register_state_type() at import time.",
        ) from error
    return StoredSession(session, pending)


def rekeyed(snapshot: bytes, key: str) -> bytes:
    """Give a stored session as it is stored under another key."""
    document = cast("dict[str, Any]", _decoder.decode(snapshot))
    return utf8(_encoder.encode({**document, "key": key}))


def _refused(path: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"The value at {path} cannot be stored ({kind}). Keep plain JSON values in the session, or give its type a "
        "codec with agent_framework.register_state_type(), at import time."
    )


def _refuse(value: object) -> object:
    raise TypeError(type(value).__name__)


# Not msgspec: it would write numbers that are none, dates and bytes as if they could be read back.
_encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_refuse)
_decoder = msgspec.json.Decoder()


def _find_unstorable(
    value: object, path: str, codecs: Container[type[object]] = (), depth: int = 0
) -> tuple[str, str] | None:
    """Find the first value that would not come back as it is: its path and what is wrong with it.

    A tuple comes back as a list, and any dictionary as a plain one: they are let pass.
    """
    kind = type(value)
    if kind is str or kind is int or value is None or kind is bool or kind in codecs:
        return None
    if kind is float:
        return None if math.isfinite(cast("float", value)) else (path, f"the number {value!r}")
    if depth == MAX_DEPTH:
        return path, f"more than {MAX_DEPTH} levels deep"
    depth += 1
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        for key, item in items.items():
            if type(key) is not str:
                return f"{path}.{key!r}", f"a key of type {type(key).__name__}"
            if bad := _find_unstorable(item, f"{path}.{key}", codecs, depth):
                return bad
        if "type" in items and is_taken(items["type"]) and not _is_restorable(items):
            return path, f"a dictionary whose 'type' is {items['type']!r}, but which is none of that type"
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("Sequence[object]", value)):
            if bad := _find_unstorable(item, f"{path}[{index}]", codecs, depth):
                return bad
        return None
    return path, f"type {kind.__name__}"


def _is_restorable(value: object) -> bool:
    try:
        AgentSession.from_dict({"type": "session", "session_id": "", "state": {"value": value}})
    except Exception:
        # An application's own decoder may raise anything, and would again when the session is read.
        return False
    return True
