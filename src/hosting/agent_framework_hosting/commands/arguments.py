"""Arguments that several commands take."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from typing import TYPE_CHECKING

from ..errors import ConfigurationError
from ..keys import check_key, conversation_path

if TYPE_CHECKING:
    from ..state.inspection import Inspection

SETTLE = 60.0
HASH = re.compile(r"[0-9a-f]{4,64}", re.ASCII)
TIME = re.compile(r"([0-9]+(?:\.[0-9]+)?)([dh])", re.ASCII)


def add_key(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", nargs="?", help="the isolation key; after -- if it begins with a dash")
    parser.add_argument("--hash", metavar="HEX", help="or the beginning of its hash, as lists and logs show it")


def add_settle(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settle",
        type=seconds,
        default=SETTLE,
        metavar="SECONDS",
        help="when to look again at what may be in use: longer than any lease (default: %(default)s)",
    )


async def find_path(inspection: Inspection, key: str | None, beginning: str | None) -> str:
    """Give the path of the conversation with this key, or with this beginning of its hash.

    Raises:
        InvalidRequest: The key is no text.
        ConfigurationError: There is no such conversation, or there are several.
    """
    if key is not None:
        return conversation_path(check_key(key))
    digits = (beginning or "").lower()
    if HASH.fullmatch(digits) is None:
        raise ConfigurationError(f"{beginning!r} is no beginning of a hash: give 4 to 64 hexadecimal digits.")
    paths = await inspection.resolve(digits)
    if not paths:
        raise unknown()
    if len(paths) > 1:
        raise ConfigurationError(f"Several conversations have a hash that begins with {digits}: give more digits.")
    return paths[0]


def unknown() -> ConfigurationError:
    return ConfigurationError("Nothing is stored of this conversation here.")


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def seconds(text: str) -> float:
    if not 0 <= float(text) <= 86_400:
        raise ValueError
    return float(text)


def retention(text: str) -> timedelta | None:
    """Read `30d`, `12h` or `never` (None)."""
    if text == "never":
        return None
    found = TIME.fullmatch(text)
    if found is None or float(found[1]) == 0:
        raise ValueError
    number = float(found[1])
    return timedelta(hours=number) if found[2] == "h" else timedelta(days=number)
