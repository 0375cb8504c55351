"""Writes with a definite outcome, made from writes whose answer may get lost."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

from ..errors import StateUnavailable
from .store import ABSENT, Condition, Lost, StateStore, Unknown, Version, read

ATTEMPTS = 6
PATIENCE = 5.0
FIRST_PAUSE = 0.05


class Overtaken(Lost):
    """The answer of a write was lost, and another document stands in its place now.

    Ours may have stood there in between: only that document can tell (its log of turns, its lease).
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was written by somebody else while a write to it was in doubt: read it again.")


async def settled_put(
    store: StateStore,
    name: str,
    data: bytes,
    *,
    if_version: Condition = None,
    attempts: int = ATTEMPTS,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    jitter: Callable[[], float] = random.random,
) -> Version:
    """Write a document and find out what became of it: in doubt read back, and try again while the store is away.

    `data` must hold something that no other write has (`rev`), since equal bytes count as this write. There are at
    most `attempts`, none of which begins later than `patience` seconds after the first. When cancelled, the write
    may have been applied; `read_back` tells.

    Raises:
        Lost: Another write won; `Overtaken` if ours may have stood before it.
        Unknown: It may have been applied, and the store does not say.
        StateUnavailable: It was certainly not applied.
    """
    give_up = clock() + patience
    pause = FIRST_PAUSE
    in_doubt = False
    while True:
        attempts -= 1
        try:
            if in_doubt and (version := await read_back(store, name, data, if_version=if_version)) is not None:
                return version
            try:
                return await store.put(name, data, if_version=if_version)
            except Lost:
                if not in_doubt:
                    raise
            # An earlier attempt of ours may be what this one lost against.
            if (version := await read_back(store, name, data, if_version=if_version)) is not None:
                return version
            raise Overtaken(name)
        except StateUnavailable as error:
            in_doubt = in_doubt or isinstance(error, Unknown)
            delay = pause * (0.5 + jitter())
            if attempts <= 0 or clock() + delay > give_up:
                if in_doubt and not isinstance(error, Unknown):
                    raise Unknown(f"Whether {name} was written is not known: {error}") from error
                raise
        await sleep(delay)
        pause *= 2


async def read_back(store: StateStore, name: str, data: bytes, *, if_version: Condition = None) -> Version | None:
    """Tell what became of a write in doubt: its version if it stands, None if it may be tried again.

    Raises:
        Overtaken: Neither `data` nor what `if_version` expects is there.
        StateUnavailable: The store does not say.
    """
    found = await read(store, name)
    if found is None:
        if if_version is None or if_version is ABSENT:
            return None
    elif found[0] == data:
        return found[1]
    elif if_version is None or if_version == found[1]:
        return None
    raise Overtaken(name)
