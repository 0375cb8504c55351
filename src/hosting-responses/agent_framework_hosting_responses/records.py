"""What is kept with a stored response, and with a conversation: attachments of the host's own conversations."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent_framework_hosting import StateDamaged

from .schema import Object, Response, encode

FORMAT = 1


class ResponseRecord(msgspec.Struct, frozen=True, tag="response", forbid_unknown_fields=True):
    """A response as it was answered, the items that it was asked with, and a digest of the request."""

    response: Response
    items: list[Object]
    request: str = ""
    format: int = FORMAT


class AnsweredRecord(msgspec.Struct, frozen=True, tag="response"):
    """A `ResponseRecord` as it is written: the response is encoded already, for the answer."""

    response: msgspec.Raw
    items: msgspec.Raw
    request: str = ""
    format: int = FORMAT


class ConversationRecord(msgspec.Struct, frozen=True, tag="conversation", forbid_unknown_fields=True):
    """A growing conversation; `created_at` is in seconds since 1970."""

    id: str
    created_at: int
    metadata: dict[str, str]
    format: int = FORMAT


class ConversationObject(msgspec.Struct, frozen=True):
    """A conversation as it is shown."""

    id: str
    created_at: int
    metadata: dict[str, str]
    object: Literal["conversation"] = "conversation"


Record = ResponseRecord | ConversationRecord
_decoder = msgspec.json.Decoder(Record)


def encode_record(record: Record | AnsweredRecord) -> bytes:
    return encode(record)


def decode_record(name: str, data: bytes) -> Record:
    """Read what is kept; `name` is for the error.

    Raises:
        StateDamaged: It is something else.
    """
    try:
        record = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateDamaged(name, f"What is stored of {name} cannot be read; it is kept.") from error
    if record.format != FORMAT:
        raise StateDamaged(name, f"What is stored of {name} has format {record.format}; update this package.")
    return record
