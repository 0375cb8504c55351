"""Error messages without what may be a secret in them."""

from __future__ import annotations

import re

# From the beginning of a run of letters on, so that a long text takes no longer than its length.
ADDRESS = r"((?<![a-z0-9+.-])[a-z0-9+.-]+://)(?:[^/\s'\"@]*@)?([^/\s'\"?#]+)[^\s'\"]*"
LONGEST = 2000


def redacted(error: BaseException, *secrets: str | None) -> str:
    """Give the type and message of an error; of addresses only the host is left: bot tokens stand in their paths."""
    text = f"{type(error).__name__}: {error}".encode("utf-8", "replace").decode()
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    return re.sub(ADDRESS, r"\1\2/…", text, flags=re.IGNORECASE)[:LONGEST]
