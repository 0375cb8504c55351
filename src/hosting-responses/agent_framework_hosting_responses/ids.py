"""Ids of responses, conversations and items: a prefix and 192 random bits."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

MAX_ID = 256
DIGITS = re.compile(r"[0-9a-f]{48}")


def mint(prefix: str, *, random: Callable[[int], bytes] = os.urandom) -> str:
    """Give `<prefix>_` and 48 hex digits; `random` gives as many bytes as it is asked for."""
    return f"{prefix}_{random(24).hex()}"


def is_minted(prefix: str, text: str) -> bool:
    """Tell whether `text` could have come from `mint(prefix)`."""
    return text.startswith(f"{prefix}_") and DIGITS.fullmatch(text, len(prefix) + 1) is not None
