"""Where a request goes: the path as ASGI wants it, from the path as a trigger tells it."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

ENCODED_SLASH = re.compile("%2f", re.IGNORECASE)
# RFC 3986, section 3.3: what a path may hold as it is.
PATH_CHARACTERS = "/:@!$&'()*+,;=~"


class Target(NamedTuple):
    """`path` and `raw_path` both begin with `root`, the part that belongs to the platform and not to the app."""

    root: str
    path: str
    raw_path: bytes


def encoded_target(root: str, rest: str) -> Target:
    """Take a path that is still percent-encoded: REST API, function URL, ALB.

    It is decoded once. An encoded slash stays encoded in `path` (as `%2F`), so that it never separates segments:
    whatever the platform has authorised by its own view of the segments is what the app sees.
    """
    raw = root + (rest or "/")
    path = "%2F".join(map(unquote, ENCODED_SLASH.split(raw))) if "%" in raw else raw
    if not raw.isascii():
        raw = quote(raw, safe=PATH_CHARACTERS + "%")
    return Target(root, path, raw.encode())


def decoded_target(root: str, rest: str) -> Target:
    """Take a path that the platform has decoded: HTTP API. `raw_path` is then one that gives this path."""
    path = root + (rest or "/")
    return Target(root, path, quote(path, safe=PATH_CHARACTERS).encode())


def below(path: str, prefix: str) -> str | None:
    """Give what of `path` follows `prefix`, or None: `/production` is not below `/prod`, nothing is below ""."""
    if not prefix or not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    return rest if not rest or rest[0] == "/" else None
