"""The end of the process, also where something in it does not: a task that swallows its cancellation, or a thread."""

from __future__ import annotations

import os
import threading

LAST_WORDS = 0.1
"""Seconds for what is done at exit."""


def end_within(seconds: float, code: int) -> None:
    """Let the process end by itself, with all that is done at exit, for so many seconds; then end it with a code."""
    timer = threading.Timer(seconds, os._exit, (code,))
    timer.daemon = True
    timer.start()
