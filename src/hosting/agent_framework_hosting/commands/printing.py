"""How commands show what is stored: one line for each thing, and nothing in it that a terminal would obey."""

from __future__ import annotations

import json
from datetime import UTC, datetime

LONGEST_KEY = 60


def shown_key(key: str | None, *, longest: int | None = LONGEST_KEY) -> str:
    """Give a key as it is where that is safe, and as a JSON string otherwise; shortened to `longest`."""
    if key is None:
        return "(unknown)"
    text = key if key.isprintable() and key.strip() == key and key else json.dumps(key)
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def shown_time(when: float | None) -> str:
    """Give POSIX seconds as UTC."""
    if not when:
        return "unknown"
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def shown_size(size: int) -> str:
    if size < 1024:
        return f"{size} B"
    return f"{size / 1024:.1f} KB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MB"


def counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
