"""Error messages without what may be a secret in them."""

from __future__ import annotations

import re

ADDRESS = r"([a-z][a-z0-9+.-]*://)(?:[^/\s'\"@]*@)?([^/\s'\"?#]+)[^\s'\"]*"


def redacted(error: BaseException, *secrets: str | None) -> str:
    """Give the type and message of an error; of addresses only the host is left: bot tokens stand in their paths."""
    text = f"{type(error).__name__}: {error}"
    for secret in secrets:
        if secret:
            text = text.replace(secret, "…")
    return re.sub(ADDRESS, r"\1\2/…", text, flags=re.IGNORECASE)
