"""The ASGI scope of a request (ASGI specification, HTTP Connection Scope)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .targets import Target

if TYPE_CHECKING:
    from mangum.types import LambdaContext, LambdaEvent, Scope


def http_scope(
    event: LambdaEvent,
    context: LambdaContext,
    *,
    method: str,
    target: Target,
    query: bytes,
    headers: list[tuple[bytes, bytes]],
    host: str | None,
    proto: str | None,
    client: str | None,
) -> Scope:
    scheme = "http" if proto == "http" else "https"
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
        "server": server_address(host, scheme),
        "client": (client, 0) if client else None,
        "aws.event": event,
        "aws.context": context,
    }


def header_lines(
    single: Mapping[str, str], multiple: Mapping[str, list[str]]
) -> tuple[list[tuple[bytes, bytes]], dict[str, str]]:
    """Give one line per header value, and the last value of each name. Where there is `multiple`, it holds them all.

    Cookies are one line: a `Cookie` may be split on its way (RFC 9113, section 8.2.3) and apps look at one only.
    """
    lines: list[tuple[bytes, bytes]] = []
    last: dict[str, str] = {}
    if multiple:
        for name, values in multiple.items():
            lower = name.lower()
            key = lower.encode()
            for value in ["; ".join(values)] if lower == "cookie" else values:
                last[lower] = value
                lines.append((key, value.encode()))
    else:
        for name, value in single.items():
            lower = name.lower()
            last[lower] = value
            lines.append((lower.encode(), value.encode()))
    return lines, last


def server_address(host: str | None, scheme: str) -> tuple[str, int] | None:
    """Split a `Host` header, which is the caller's: anything may stand in it."""
    if not host:
        return None
    name, colon, port = host.rpartition(":")
    if colon and port.isascii() and port.isdecimal() and len(port) <= 5 and (":" not in name or name[-1:] == "]"):
        return name.strip("[]"), int(port)
    return host.strip("[]"), 80 if scheme == "http" else 443


def query_parameters(event: LambdaEvent) -> Mapping[str, str | list[str]]:
    """Give the event's parameters, the map with all their values if it has one."""
    return event.get("multiValueQueryStringParameters") or event.get("queryStringParameters") or {}
