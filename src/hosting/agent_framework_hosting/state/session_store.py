"""The three methods of the framework's `SessionStore` over any `StateStore`."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, cast

from ..errors import ConfigurationError, StateDamaged
from ..keys import conversation_path
from .head import FORMAT
from .names import check_name
from .sessions import decode_session, encode_session
from .settle import settled_put
from .store import ScopedStore, StateStore, read

if TYPE_CHECKING:
    from agent_framework import AgentSession

EMPTY = json.dumps({"format": FORMAT, "session": None}).encode()


class SessionRefused(ConfigurationError, TypeError, ValueError):
    """A session with something in it that would not come back as it is was not stored.

    It is both of what the framework's stores raise for it.
    """


class SessionDamaged(StateDamaged, ValueError):
    """A stored session cannot be read. It is kept as it is."""


class StateSessionStore:
    """Keeps sessions in `store`, below `prefix`, as plain JSON; any number of instances may share them.

    It has the methods of the framework's `SessionStore`, which is experimental, and does not derive from it. Of two
    that store a session at once the last one wins; nothing keeps a read and the write that follows it together, as a
    host's turns are.

    Raises:
        ValueError: `prefix` is not made of segments of `A-Za-z0-9._-`, joined by `/`.
    """

    def __init__(
        self,
        store: StateStore,
        *,
        prefix: str = "sessions",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = ScopedStore(store, check_name(prefix))
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter

    async def get(self, session_id: str) -> AgentSession | None:
        """Read a session, a copy of its own; None where there is none.

        Raises:
            ValueError: The id is empty.
            SessionDamaged: It cannot be read. (A `ValueError`.)
            StateUnavailable: The store did not answer.
        """
        name = path_of(session_id)
        found = await read(self._store, name)
        if found is None or found[0] == EMPTY:
            return None
        try:
            return decode_session(name, found[0], session_id).session
        except StateDamaged as error:
            raise SessionDamaged(error.name, str(error)) from error

    async def set(self, session_id: str, session: AgentSession) -> None:
        """Store a copy of a session.

        Raises:
            ValueError: The id is empty.
            TypeError: It is of a class derived from `AgentSession`, which would not come back.
            SessionRefused: A value has no JSON form; the message names its place and type.
            StateUnavailable: The store did not take it; `Unknown` where it may have.
        """
        from agent_framework import AgentSession

        name = path_of(session_id)
        if type(cast("object", session)) is not AgentSession:
            raise TypeError(f"A session is an AgentSession, not {type(session).__name__}: it could not be read back.")
        try:
            data = encode_session(session_id, session)
        except ConfigurationError as error:
            raise SessionRefused(str(error)) from error
        await self._put(name, data)

    async def delete(self, session_id: str) -> None:
        """Remove a session, if there is one. An empty document stays in its place.

        Raises:
            ValueError: The id is empty.
            StateUnavailable: The store did not answer; `Unknown` where it may be gone.
        """
        name = path_of(session_id)
        found = await read(self._store, name)
        if found is not None and found[0] != EMPTY:
            await self._put(name, EMPTY)

    async def _put(self, name: str, data: bytes) -> None:
        # Equal bytes are an equal session: whoever's write it was, this one is done.
        await settled_put(self._store, name, data, clock=self._clock, sleep=self._sleep, jitter=self._jitter)


def path_of(session_id: str) -> str:
    """Give the name of a session's document.

    Raises:
        ValueError: The id is none.
    """
    if not isinstance(cast("object", session_id), str) or not session_id:
        raise ValueError("session_id must be a non-empty string")
    try:
        return conversation_path(session_id)
    except UnicodeEncodeError:
        raise ValueError("session_id must be text without lone surrogates") from None
