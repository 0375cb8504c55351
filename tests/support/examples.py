"""How many examples a property is tried with."""

from __future__ import annotations

import sys


def examples(count: int) -> int:
    """Give `count` on the newest Python, and a quarter on older ones: those only repeat what it has shown."""
    return count if sys.version_info >= (3, 13) else max(1, count // 4)
