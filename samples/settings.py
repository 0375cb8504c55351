"""Numbers among the environment variables that set up the samples."""

from __future__ import annotations

import os
from typing import TypeVar

from agent_framework_hosting import ConfigurationError

N = TypeVar("N", int, float)


def number(name: str, default: N, *, most: N) -> N:
    """Read the number in a variable, of the type of its default; from 0 to `most`.

    Raises:
        ConfigurationError: It is none; the message names the variable.
    """
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        value = type(default)(text)
    except ValueError:
        value = None
    if value is None or not 0 <= value <= most:
        kind = "a whole number" if isinstance(default, int) else "a number"
        raise ConfigurationError(f"{name} is {text!r}: set it to {kind} from 0 to {most:g}.")
    return value
