"""Request bodies: bounded in bytes and in nesting, and JSON or refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import msgspec
from starlette.requests import ClientDisconnect

from .errors import HostingError

if TYPE_CHECKING:
    from starlette.requests import Request

__all__ = ["BodyTooLarge", "InvalidBody", "Json", "UnsupportedBody", "decode_json", "read_body", "read_json"]

MAX_NESTING = 64
Json: TypeAlias = bool | int | float | str | list["Json"] | dict[str, "Json"] | None
decoder = msgspec.json.Decoder()


class BodyTooLarge(HostingError):
    """The body has more bytes than the host takes. HTTP 413."""


class InvalidBody(HostingError):
    """The body is not JSON that the host reads. HTTP 400."""


class UnsupportedBody(HostingError):
    """The body is not declared to be plain JSON. HTTP 415."""


async def read_json(request: Request, limit: int) -> Json:
    """Read a body of at most `limit` bytes as JSON, without the form and text types that a browser sends unasked.

    Raises:
        UnsupportedBody, BodyTooLarge, InvalidBody: As the functions below.
        ClientDisconnect: The client went away before the body was complete.
    """
    check_json_type(request)
    return decode_json(await read_body(request, limit))


def check_json_type(request: Request) -> None:
    """Accept `application/json` and `application/*+json` in UTF-8, not compressed.

    A missing type is refused too: a browser may send one across origins without a preflight.

    Raises:
        UnsupportedBody: The type, charset or encoding is another one.
    """
    media_type = b""
    for name, value in request.scope["headers"]:
        if name == b"content-type":
            media_type = value
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise UnsupportedBody("Send the body without Content-Encoding.")
    if media_type == b"application/json":
        return
    essence, *parameters = media_type.decode("latin-1").lower().split(";")
    essence = essence.strip()
    if essence != "application/json" and not (essence.startswith("application/") and essence.endswith("+json")):
        raise UnsupportedBody("Send JSON, with the header Content-Type: application/json.")
    for parameter in parameters:
        key, _, charset = parameter.partition("=")
        if key.strip() == "charset" and charset.strip().strip('"') not in ("utf-8", "utf8", "us-ascii"):
            raise UnsupportedBody("Send JSON in UTF-8: RFC 8259 knows no other charset.")


async def read_body(request: Request, limit: int) -> bytes:
    """Read a whole body, and never hold more than `limit` bytes and one chunk of it.

    Raises:
        BodyTooLarge: It is declared or found to be larger; the rest is not read.
        ClientDisconnect: The client went away before the body was complete.
    """
    for name, value in request.scope["headers"]:
        # A length of more than 18 digits is larger than any limit, and may be larger than `int` converts.
        if name == b"content-length" and value.isdigit() and (len(value) > 18 or int(value) > limit):
            raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] != "http.request":
            raise ClientDisconnect
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise too_large(limit)
        if not message.get("more_body", False):
            return b"".join([*chunks, chunk]) if chunks else chunk
        if chunk:
            chunks.append(chunk)


def too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body is larger than the {limit} bytes taken here: send less in one request.")


def decode_json(data: bytes, *, max_nesting: int = MAX_NESTING) -> Json:
    """Decode one JSON text (RFC 8259) in UTF-8. Of equal names in one object the last counts.

    Raises:
        InvalidBody: It is something else, or lists and objects stand in one another more than `max_nesting` deep.
    """
    try:
        value: Json = decoder.decode(data)
    except UnicodeDecodeError:
        raise InvalidBody("The body is not UTF-8.") from None
    except RecursionError:
        raise too_deep(max_nesting) from None
    except msgspec.DecodeError as error:
        why = str(error).removeprefix("JSON is malformed: ")
        raise InvalidBody(f"The body is not valid JSON: {why}." if data else "The body is empty: send JSON.") from None
    # Nearly every body is settled by counting at the speed of memory.
    if data.count(b"[") + data.count(b"{") > max_nesting and nests_beyond(value, max_nesting):
        raise too_deep(max_nesting)
    return value


def too_deep(limit: int) -> InvalidBody:
    return InvalidBody(f"The JSON is nested more than {limit} levels deep: send a flatter one.")


def nests_beyond(value: Json, limit: int) -> bool:
    """Tell whether containers stand in one another more than `limit` deep, level by level, without recursion."""
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(limit):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return False
    return bool(level)
