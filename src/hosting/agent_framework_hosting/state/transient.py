"""Conversations of one process, for a host without `state_dir`: no store, no lease, nothing to wait for."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager, nullcontext
from itertools import islice
from typing import Any

from ..errors import InvalidRequest, TurnBusy, TurnRepeated
from ..keys import check_key, conversation_path
from ..limits import HostLimits
from .head import LOG_LENGTH, random_id
from .sizes import admit_size


class TransientConversations:
    """As `Conversations`, in memory; beyond `memory_sessions` the least recently used one is forgotten.

    Use it on one event loop.
    """

    def __init__(self, limits: HostLimits) -> None:
        self._limits = limits
        self._records: OrderedDict[str, Record] = OrderedDict()

    async def begin(
        self,
        key: str,
        turn_id: str | None = None,
        *,
        fresh: bool = False,
        parent: str | None = None,
        to_reset: bool = False,
    ) -> TransientTurn:
        record = self._records.get(key)
        if record is None:
            record = self._records[check_key(key)] = Record(key)
            record.users = 1
            self._forget()
        else:
            self._records.move_to_end(key)
            record.users += 1
        try:
            if record.users > 1:  # Also when the lock is free at the moment: whoever waited first gets it.
                async with asyncio.timeout(self._limits.turn_timeout.total_seconds()):
                    await record.lock.acquire()
            else:
                await record.lock.acquire()
        except BaseException as error:
            self.leave(record)
            if isinstance(error, TimeoutError):
                raise TurnBusy.of_conversation() from None
            raise
        turn = TransientTurn(self, record, turn_id)
        try:
            if not to_reset:
                if turn_id is not None and turn_id in record.log:
                    raise TurnRepeated.of_request()
                if record.snapshot is not None:
                    admit_size(len(record.snapshot), self._limits.session_bytes)
            if parent is not None:
                turn.snapshot, turn.checkpoint = await self.peek(parent)
                turn.stored_key = parent
        except BaseException:
            await turn.end()
            raise
        return turn

    async def peek(self, key: str) -> tuple[bytes | None, str | None]:
        record = self._records.get(key)
        if record is None:
            raise InvalidRequest("session", "There is no such conversation to continue from.")
        admit_size(0 if record.snapshot is None else len(record.snapshot), self._limits.session_bytes)
        return record.snapshot, record.checkpoint

    async def reset(self, key: str) -> None:
        turn = await self.begin(key, to_reset=True)
        try:
            turn.reset_requested = True
            await turn.commit(snapshot=None, checkpoint=None)
        finally:
            await turn.end()

    async def close(self) -> None:
        return None

    def leave(self, record: Record) -> None:
        record.users -= 1
        if record.users == 0 and not record.kept:
            self._records.pop(record.key, None)

    def _forget(self) -> None:
        excess = len(self._records) - self._limits.memory_sessions
        if excess <= 0:
            return
        unused = (key for key, record in self._records.items() if record.users == 0)
        for key in list(islice(unused, excess)):
            del self._records[key]


class Record:
    """One conversation; `kept` once a turn was saved in it."""

    __slots__ = ("checkpoint", "generation", "kept", "key", "lock", "log", "session", "snapshot", "users")

    def __init__(self, key: str) -> None:
        self.key = key
        self.session = key
        self.generation = "0"
        self.snapshot: bytes | None = None
        self.checkpoint: str | None = None
        self.log: tuple[str, ...] = ()
        self.lock = asyncio.Lock()
        self.users = 0
        self.kept = False


class TransientTurn:
    """As `Turn`, in memory."""

    guarded = False
    epoch = 0
    name = "memory"

    def __init__(self, conversations: TransientConversations, record: Record, turn_id: str | None) -> None:
        self.key = self.stored_key = record.key
        self.given_id = turn_id
        self.snapshot, self.checkpoint = record.snapshot, record.checkpoint
        self.session, self.generation = record.session, record.generation
        self.reset_requested = False
        self._conversations = conversations
        self._record = record
        self._ended = False
        self._id: str | None = None

    @property
    def id(self) -> str:
        # Not the given id, which another process may use again: what it names may outlive this one.
        self._id = self._id or random_id()
        return self._id

    @property
    def path(self) -> str:
        return conversation_path(self.key)

    def check(self) -> None:
        return None

    def guard(self) -> AbstractAsyncContextManager[Any]:
        return nullcontext()

    async def commit(self, *, snapshot: bytes | None, checkpoint: str | None) -> None:
        record = self._record
        record.kept = True
        record.snapshot, record.checkpoint = snapshot, checkpoint
        if self.given_id is not None:
            record.log = (*record.log, self.given_id)[-LOG_LENGTH:]
        if self.reset_requested:
            record.generation = random_id()[:8]
            record.session = f"{self.key}#{record.generation}"
            record.snapshot = record.checkpoint = None

    async def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._record.lock.release()
            self._conversations.leave(self._record)
