"""What every trigger's response is made of: text or base64, and header values by name."""

from __future__ import annotations

from base64 import b64encode
from functools import lru_cache

from .http import Answer, Headers, Settings

TEXT = frozenset(
    {
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/vnd.oai.openapi",
        "application/x-ndjson",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/yaml",
    }
)

# RFC 9110, section 7.6.1.
HOP_BY_HOP = ("connection", "content-length", "keep-alive", "transfer-encoding")


def header_values(given: Headers, settings: Settings) -> dict[str, list[str]]:
    """Collect the values of each header by its lower-case name, without the excluded ones."""
    headers: dict[str, list[str]] = {}
    excluded = settings.exclude_headers
    for name, value in given:
        key = name.decode("latin-1").lower()
        if key in excluded:
            continue
        try:
            text = value.decode()
        except UnicodeDecodeError:
            text = value.decode("latin-1")
        headers.setdefault(key, []).append(text)
    return headers


def streamed_headers(given: Headers, settings: Settings) -> dict[str, list[str]]:
    """Collect the values of each header of a response whose end is not known: how it is framed is the platform's."""
    headers = header_values(given, settings)
    for name in HOP_BY_HOP:
        headers.pop(name, None)
    return headers


def encoded_body(answer: Answer, method: str, content_type: list[str] | None) -> tuple[str, bool]:
    """Give the body and whether it is base64.

    Text that is UTF-8 goes as it is: a REST API without `BinaryMediaTypes` hands base64 through undecoded. HEAD, 204
    and 304 have no body (RFC 9110, sections 9.3.2, 15.3.5 and 15.4.5), whatever the app sent.
    """
    content = answer.body
    if not content or method == "HEAD" or answer.status in (204, 304):
        return "", False
    if content_type is None or is_text(content_type[-1]):
        try:
            return content.decode(), False
        except UnicodeDecodeError:
            pass
    return b64encode(content).decode(), True


@lru_cache(maxsize=64)
def is_text(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media.startswith("text/") or media in TEXT or media.endswith(("+json", "+xml", "+yaml"))
