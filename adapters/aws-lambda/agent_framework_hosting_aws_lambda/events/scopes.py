"""The ASGI scope of a request (ASGI specification, HTTP Connection Scope)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from .http import Context, Event, Scope
from .targets import Target

HeaderLines = list[tuple[bytes, bytes]]


def http_scope(
    event: Event,
    context: Context,
    *,
    method: str,
    target: Target,
    query: bytes,
    headers: HeaderLines,
    client: str | None,
) -> Scope:
    """Make the scope.

    Raises:
        TypeError: The event has something else than a text as method, or as the client's address.
    """
    if not isinstance(cast(object, method), str) or not isinstance(cast(object, client), str | None):
        raise TypeError("Method and address are texts.")
    last = dict(headers)
    scheme = "http" if last.get(b"x-forwarded-proto") == b"http" else "https"
    root_path, path, raw_path = target
    return {
        "type": "http",
        # 2.4: `send` would raise OSError once the client is gone, so that streaming apps need not listen for it.
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": scheme,
        "path": path,
        "raw_path": raw_path,
        "root_path": root_path,
        "query_string": query,
        "headers": headers,
        "server": server_address(last.get(b"host", b"").decode(errors="replace"), scheme),
        "client": (client, 0) if client else None,
        "aws.event": event,
        "aws.context": context,
    }


def header_lines(single: Mapping[str, str], multiple: Mapping[str, list[str]]) -> HeaderLines:
    """Give one line per header value. Where there is `multiple`, it holds them all.

    Cookies are one line: a `Cookie` may be split on its way (RFC 9113, section 8.2.3) and apps look at one only.
    """
    if not multiple:
        return [(name.lower().encode(), value.encode()) for name, value in single.items()]
    lines: HeaderLines = []
    for name, values in multiple.items():
        key = name.lower().encode()
        lines += [(key, value.encode()) for value in (["; ".join(values)] if key == b"cookie" else values)]
    return lines


def server_address(host: str, scheme: str) -> tuple[str, int] | None:
    """Split a `Host` header, which is the caller's: anything may stand in it."""
    if not host:
        return None
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdecimal() and len(port) <= 5 and (":" not in name or name[-1:] == "]"):
        return name.strip("[]"), int(port)
    return host.strip("[]"), 80 if scheme == "http" else 443


def query_parameters(event: Event) -> Mapping[str, str | list[str]]:
    """Give the event's parameters, the map with all their values if it has one."""
    return event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
