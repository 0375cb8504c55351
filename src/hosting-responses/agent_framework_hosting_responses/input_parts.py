"""Content parts of the input: text, images and files, as the framework's contents and as parts that are stored."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urlsplit

from agent_framework_hosting import InvalidRequest
from agent_framework_hosting.body import Json

from .checks import check_choice, check_fields, check_list, check_object, check_text, join, shown
from .rules import Rules

if TYPE_CHECKING:
    from agent_framework import Content

    Part = tuple[Content, dict[str, Json]]

DETAILS = frozenset({"auto", "high", "low"})
MAX_URL = 8192
MAX_FILENAME = 255
MAX_DATA_HEADER = 256
DATA_HEADER = re.compile(r"data:([A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+)(?:;[A-Za-z0-9_.-]+=[^;,]*)*;base64")
UNPRINTABLE = re.compile(r"[^\x21-\x7e]")
TEXT_FIELDS = frozenset({"text", "type"})
IMAGE_FIELDS = frozenset({"detail", "file_id", "image_url", "type"})
FILE_FIELDS = frozenset({"file_data", "file_id", "file_url", "filename", "type"})
UNKNOWN_MEDIA_TYPE = "application/octet-stream"


def read_parts(value: Json, field: str, rules: Rules) -> list[Part]:
    """Read what a user or a function says: a text, or a list of `input_text`, `input_image` and `input_file`.

    Raises:
        InvalidRequest: It is something else, or a part is refused.
    """
    if isinstance(value, str):
        return [text_part(value)]
    return [read_part(part, f"{field}[{index}]", rules) for index, part in enumerate(check_list(value, field))]


def text_part(text: str) -> Part:
    from agent_framework import Content

    return Content.from_text(text), shown_text(text)


def shown_text(text: str) -> dict[str, Json]:
    return {"type": "input_text", "text": text}


def read_part(value: Json, field: str, rules: Rules) -> Part:
    part = check_object(value, field)
    kind = check_text(part.get("type"), join(field, "type"))
    read = READERS.get(kind)
    if read is None:
        raise InvalidRequest(
            join(field, "type"), f"Content of type {shown(kind)} is not taken here: use {', '.join(READERS)}."
        )
    return read(part, field, rules)


def read_text(part: dict[str, Json], field: str, rules: Rules) -> Part:
    check_fields(part, field, TEXT_FIELDS)
    return text_part(check_text(part.get("text"), join(field, "text")))


def read_image(part: dict[str, Json], field: str, rules: Rules) -> Part:
    from agent_framework import Content

    check_fields(part, field, IMAGE_FIELDS)
    refuse_file_id(part, field)
    given = part.get("detail")
    detail = "auto" if given is None else check_choice(given, join(field, "detail"), DETAILS)
    where = join(field, "image_url")
    url = check_text(part.get("image_url"), where, least=1)
    if is_data_url(url):
        media_type = check_data_url(url, where)
        if not media_type.startswith("image/"):
            raise InvalidRequest(where, f"{where} must hold an image, such as image/png; send others as input_file.")
    else:
        check_https(url, where, rules)
        guessed = guess_media_type(urlsplit(url).path)
        media_type = guessed if guessed.startswith("image/") else "image/*"
    content = Content.from_uri(url, media_type=media_type, additional_properties={"detail": detail})
    return content, {"type": "input_image", "image_url": url, "detail": detail}


def read_file(part: dict[str, Json], field: str, rules: Rules) -> Part:
    check_fields(part, field, FILE_FIELDS)
    refuse_file_id(part, field)
    given = part.get("filename")
    name = None if given is None else check_text(given, join(field, "filename"), least=1, most=MAX_FILENAME)
    data, url = part.get("file_data"), part.get("file_url")
    if (data is None) is (url is None):
        raise InvalidRequest(join(field, "file_data"), f"Send exactly one of file_data and file_url in {field}.")
    if data is not None:
        return read_file_data(check_text(data, join(field, "file_data"), least=1), name, field)
    where = join(field, "file_url")
    text = check_text(url, where, least=1)
    check_https(text, where, rules)
    guessed = guess_media_type(urlsplit(text).path if name is None else name)
    return file_part(text, guessed, name, {"file_url": text})


def read_file_data(data: str, name: str | None, field: str) -> Part:
    where = join(field, "file_data")
    if is_data_url(data):
        return file_part(data, check_data_url(data, where), name, {"file_data": data})
    if name is None:
        raise InvalidRequest(
            join(field, "filename"), f"Send a filename, or file_data as a data URL: {where} does not say what it is."
        )
    check_base64(data, where)
    media_type = guess_media_type(name)
    return file_part(f"data:{media_type};base64,{data}", media_type, name, {"file_data": data})


def file_part(uri: str, media_type: str, name: str | None, stored: dict[str, Json]) -> Part:
    from agent_framework import Content

    # Without the mark the framework's OpenAI client drops files of most types.
    marks = {"openai": {"content_type": "input_file"}}
    content = Content.from_uri(uri, media_type=media_type, name=name, additional_properties=marks)
    named: dict[str, Json] = {} if name is None else {"filename": name}
    return content, {"type": "input_file", **named, **stored}


def refuse_file_id(part: dict[str, Json], field: str) -> None:
    if part.get("file_id") is not None:
        raise InvalidRequest(join(field, "file_id"), "Nothing is uploaded here: send the data itself, not a file_id.")


def is_data_url(text: str) -> bool:
    return text[:5].lower() == "data:"


def check_data_url(url: str, field: str) -> str:
    """Check `data:<media type>;base64,<data>` and give the media type in lower case."""
    end = url.find(",", 0, MAX_DATA_HEADER)
    header = None if end < 0 else DATA_HEADER.fullmatch(url, 0, end)
    if header is None:
        raise InvalidRequest(field, f"{field} must be of the form data:<media type>;base64,<data>.")
    check_base64(url[end + 1 :], field)
    return header[1].lower()


def check_base64(data: str, field: str) -> None:
    try:
        decoded = binascii.a2b_base64(data, strict_mode=True)
    except ValueError:  # Also what is not ASCII.
        decoded = b""
    if not decoded:
        raise InvalidRequest(field, f"{field} must hold base64 (padded, without line breaks), and not nothing.")


def check_https(url: str, field: str, rules: Rules) -> None:
    """Check a URL that is passed on and never fetched here."""
    if url[:8].lower() != "https://" or len(url) > MAX_URL or UNPRINTABLE.search(url):
        refuse_url(field, rules)
    try:
        parts = urlsplit(url)
        named = parts.hostname is not None and parts.username is None and parts.port != 0
    except ValueError:
        named = False
    if not named or not rules.allow_urls:
        refuse_url(field, rules)


def refuse_url(field: str, rules: Rules) -> NoReturn:
    kinds = "a data or https URL without credentials" if rules.allow_urls else "a data URL: no other is taken here"
    raise InvalidRequest(field, f"{field} must be {kinds}.")


def guess_media_type(name: str) -> str:
    from mimetypes import guess_type

    # Only the ending counts: guess_type() would read a whole URL out of some names.
    return guess_type("x" + ending(name))[0] or UNKNOWN_MEDIA_TYPE


def ending(name: str) -> str:
    _, dot, last = name.rpartition(".")
    return dot + last if last.isalnum() and last.isascii() else ""


READERS: dict[str, Callable[[dict[str, Json], str, Rules], Part]] = {
    "input_text": read_text,
    "input_image": read_image,
    "input_file": read_file,
}
