"""What is kept with a stored response, and with a conversation: attachments of the host's own conversations."""

from __future__ import annotations

from typing import Literal

import msgspec

from agent_framework_hosting import StateDamaged

from .problems import unfinished_previous, unknown_previous, unknown_response
from .schema import Object, Response, encode

FORMAT = 1


class ResponseRecord(msgspec.Struct, frozen=True, tag="response", forbid_unknown_fields=True):
    """A response as it was answered, the items that it was asked with, and a digest of the request."""

    response: Response
    items: list[Object]
    request: str = ""
    format: int = FORMAT


class Job(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The update that a response in the background is: its id, the conversation it belongs to, and its order there."""

    id: str
    key: str
    order: str


class QueuedRecord(msgspec.Struct, frozen=True, tag="queued", forbid_unknown_fields=True):
    """A response that is still to be made, with all that is needed for it.

    `conversation` or `parent` is the isolation key of what it goes on from; `caller` is who asked, and `known` what
    else is known of it; `user` and `chat` are Foundry's keys.
    """

    response: Response
    items: list[Object]
    request: str
    job: Job
    body: msgspec.Raw
    conversation: str | None = None
    existing: bool = False
    parent: str | None = None
    caller: str | None = None
    known: dict[str, object] = {}
    user: str | None = None
    chat: str | None = None
    format: int = FORMAT


class BrokenRecord(msgspec.Struct, frozen=True, tag="broken", forbid_unknown_fields=True):
    """A response without a turn: it was cancelled, or failed, in the background."""

    response: Response
    items: list[Object]
    request: str
    job: Job
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


OfResponse = ResponseRecord | QueuedRecord | BrokenRecord
Record = OfResponse | ConversationRecord
_decoder = msgspec.json.Decoder(Record)
_CONTINUABLE = b'{"type":"response",'


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


def of_response(found: bytes | None) -> OfResponse:
    """Read the record of a response.

    Raises:
        UnknownId: There is none.
        StateDamaged: It cannot be read.
    """
    record = None if found is None else decode_record("a response", found)
    if record is None or isinstance(record, ConversationRecord):
        raise unknown_response()
    return record


def check_continuable(record: bytes | None) -> None:
    """Make sure that what is kept is a response that another one can go on from.

    Raises:
        UnknownId: It is none, or has not come to its end.
    """
    if record is None:
        raise unknown_previous()
    # Every call that goes on from another passes here: most need no decoding.
    if record.startswith(_CONTINUABLE):
        return
    found = decode_record("a response", record)
    if isinstance(found, QueuedRecord | BrokenRecord):
        raise unfinished_previous(found.response.status)
    if not isinstance(found, ResponseRecord):
        raise unknown_previous()
