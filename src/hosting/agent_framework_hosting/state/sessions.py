"""Sessions as plain JSON documents."""

from __future__ import annotations

import json
import marshal
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from agent_framework import AgentSession

from ..errors import ConfigurationError, StateDamaged
from .head import FORMAT, check_format


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
    if bad := _find_key(session.state, "session.state"):
        raise _refused(*bad)
    document = {"format": FORMAT, "key": key, "session": session.to_dict(), "pending": list(pending)}
    try:
        # JSON would take an enumeration or a subclass of text and give back something else: marshal refuses those.
        marshal.dumps(document)
        text = _encoder.encode(document)
    except (TypeError, ValueError) as error:
        bad = _find_bad(document["session"], "session") or _find_bad(document["pending"], "pending")
        raise _refused(*(bad or ("session", str(error)))) from None
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Halves of a surrogate pair have no UTF-8 form: join those that fit, replace the others.
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()


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


def _refused(path: str, kind: str) -> ConfigurationError:
    return ConfigurationError(
        f"The value at {path} cannot be stored ({kind}). Keep plain JSON values in the session, or give its type a "
        "codec with agent_framework.register_state_type(), at import time."
    )


def _find_key(value: object, path: str) -> tuple[str, str] | None:
    """Find a key that is no text: the framework would make text of it, and two keys might become one."""
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                return f"{path}.{key!r}", f"a key of type {type(key).__name__}"
            if isinstance(item, (dict, list, tuple)) and (bad := _find_key(cast("object", item), f"{path}.{key}")):
                return bad
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("Sequence[object]", value)):
            if isinstance(item, (dict, list, tuple)) and (bad := _find_key(cast("object", item), f"{path}[{index}]")):
                return bad
    return None


def _refuse(value: object) -> object:
    raise TypeError(type(value).__name__)


# Not msgspec: it would write numbers that are none, dates and bytes as if they could be read back.
_encoder = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), default=_refuse)
_decoder = msgspec.json.Decoder()


def _find_bad(value: object, path: str) -> tuple[str, str] | None:
    """Find the first value that JSON has no form for: its path and what is wrong with it."""
    if isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            if not isinstance(key, str):
                return f"{path}.{key!r}", f"a key of type {type(key).__name__}"
            if bad := _find_bad(item, f"{path}.{key}"):
                return bad
        return None
    if isinstance(value, (list, tuple)):
        for index, item in enumerate(cast("Sequence[object]", value)):
            if bad := _find_bad(item, f"{path}[{index}]"):
                return bad
        return None
    if value is not None and type(value) not in (str, int, float, bool):
        return path, f"type {type(value).__name__}"
    if isinstance(value, float) and not math.isfinite(value):
        return path, f"the number {value!r}"
    return None
