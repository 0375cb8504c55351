"""The grammar of document names, shared by the stores."""

from __future__ import annotations

import re

# Compiled at first use: importing must be quick.
SEGMENT = r"(?!\.{1,2}(?:/|\Z))[A-Za-z0-9._-]{1,200}"
NAME = rf"{SEGMENT}(?:/{SEGMENT})*"
PREFIX = rf"(?:{SEGMENT}/)*[A-Za-z0-9._-]{{0,200}}"


def check_name(name: str) -> str:
    """Return `name` if a document can have it.

    Raises:
        ValueError: It is not made of `/`-separated segments of 1 to 200 characters out of `A-Za-z0-9._-`, or a
            segment is `.` or `..`.
    """
    if re.fullmatch(NAME, name) is None:
        raise ValueError(
            f"{name!r} is not a document name: segments of A-Za-z0-9._- joined by '/', none of them . or .."
        )
    return name


def check_prefix(prefix: str) -> str:
    """Return `prefix` if a document name can start with it; the empty prefix is one.

    Raises:
        ValueError: No document name starts like that.
    """
    if re.fullmatch(PREFIX, prefix) is None:
        raise ValueError(f"{prefix!r} is not the start of a document name: A-Za-z0-9._- joined by '/'.")
    return prefix
