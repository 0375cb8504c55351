"""Where a request goes: the path as ASGI wants it, from the path as a trigger tells it."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote, unquote

Target = tuple[str, str, bytes]
"""`root_path`, `path`, `raw_path`: the latter two begin with the first, which is the platform's and not the app's."""

# RFC 3986, section 3.3: what a path may hold as it is.
PATH_CHARACTERS = "/:@!$&'()*+,;=~"


def encoded_target(root: str, rest: str) -> Target:
    """Take a path that is still percent-encoded: REST API, function URL, ALB.

    It is decoded once. An encoded slash stays encoded in `path` (as `%2F`), so that it never separates segments:
    whatever the platform has authorised by its own view of the segments is what the app sees.
    """
    raw = root + (rest or "/")
    path = "%2F".join(map(unquote, raw.replace("%2f", "%2F").split("%2F"))) if "%" in raw else raw
    if not raw.isascii():
        raw = quote(raw, safe=PATH_CHARACTERS + "%")
    return root, path, raw.encode()


@lru_cache(maxsize=64)
def decoded_target(root: str, rest: str) -> Target:
    """Take a path that the platform has decoded: HTTP API. `raw_path` is then one that gives this path."""
    path = root + (rest or "/")
    return root, path, quote(path, safe=PATH_CHARACTERS).encode()


def below(path: str, prefix: str) -> str | None:
    """Give what of `path` follows `prefix`, or None: `/production` is not below `/prod`, nothing is below ""."""
    if not prefix or not path.startswith(prefix):
        return None
    rest = path[len(prefix) :]
    return rest if not rest or rest[0] == "/" else None
