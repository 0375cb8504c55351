"""Whose mailboxes hold unfinished updates: what a sweep finds."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

import msgspec

from ..errors import StateDamaged, StateUnavailable
from ..keys import conversation_path
from .mail import WAITING, Letter, decode_waiting
from .store import StateStore, read

logger = logging.getLogger("agent_framework.hosting.state")

PAGE = 1000
AT_ONCE = 16


class Keyed(msgspec.Struct, frozen=True):
    key: str


async def waiting_keys(store: StateStore) -> AsyncIterator[str]:
    """Give the keys of all conversations with unfinished updates; a mailbox that cannot be read is passed over.

    Raises:
        StateUnavailable: The store did not answer.
    """
    after = ""
    while names := await store.list(f"{WAITING}/", after=after, limit=PAGE):
        boxes: dict[str, list[str]] = {}
        for letter in Letter.all(names):
            boxes.setdefault(letter.path, []).append(letter.waiting)
        waiting = [*boxes.items()]
        for first in range(0, len(waiting), AT_ONCE):
            found = await asyncio.gather(*(key_of(store, *box) for box in waiting[first : first + AT_ONCE]))
            for key in found:
                if key is not None:
                    yield key
        # The last one's further updates are skipped: "0" sorts after "/".
        last = names[-1]
        after = f"{WAITING}/{waiting[-1][0]}0" if waiting and last.startswith(f"{WAITING}/{waiting[-1][0]}/") else last


async def key_of(store: StateStore, path: str, names: Sequence[str]) -> str | None:
    """Tell whose mailbox it is, by the first of its documents that can be read, or by the conversation's head."""
    failure: StateDamaged | StateUnavailable | None = None
    for name in names:
        try:
            if (found := await read(store, name)) is not None:
                return decode_waiting(name, found[0]).key
        except (StateDamaged, StateUnavailable) as error:
            failure = failure or error
    if failure is None:
        return None
    key = None
    with contextlib.suppress(StateUnavailable, msgspec.MsgspecError, UnicodeDecodeError):
        if (found := await read(store, f"k/{path}/head")) is not None:
            key = msgspec.json.decode(found[0], type=Keyed).key
    if key is None or conversation_path(key) != path:
        logger.error("A mailbox cannot be read, and is left alone: %s", failure)
        return None
    return key
