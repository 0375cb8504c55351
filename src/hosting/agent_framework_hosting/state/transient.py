"""Conversations of one process, for a host without `state_dir`: no store, no lease, nothing to wait for."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING

import msgspec

from ..errors import TurnBusy, TurnConflict, TurnRepeated, UnknownConversation
from ..keys import check_key, conversation_path
from ..limits import HostLimits
from ..shielding import shielded
from .head import LOG_LENGTH, Checkpoint, checkpoint_place, next_session
from .queues import LocalQueues
from .sizes import admit_size

if TYPE_CHECKING:
    from agent_framework import WorkflowCheckpoint

    from ..requests import ChannelIdentity
    from .checkpoints import CheckpointKeeper
    from .conversations import Admit


class Record(msgspec.Struct, frozen=True):
    """One conversation, as its last saved turn left it."""

    session: str
    generation: str = "0"
    snapshot: bytes | None = None
    checkpoint: Checkpoint | None = None
    attachment: bytes | None = None
    log: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        checkpoint = 0 if self.checkpoint is None else self.checkpoint.size
        return checkpoint if self.snapshot is None else checkpoint + len(self.snapshot)


class TransientConversations:
    """`Conversations` in memory; beyond `memory_sessions` the least recently used one is forgotten.

    Use it on one event loop.
    """

    def __init__(self, limits: HostLimits) -> None:
        self.keeper: CheckpointKeeper | None = None
        self.limits = limits
        self.queues = LocalQueues()
        self._records: OrderedDict[str, Record] = OrderedDict()

    async def begin(
        self,
        key: str,
        turn_id: str | None = None,
        *,
        fresh: bool = False,
        parent: str | None = None,
        existing: bool = False,
        to_reset: bool = False,
        admit: Admit | None = None,
    ) -> TransientTurn:
        try:
            leave = await self.queues.enter(check_key(key), self.limits.turn_timeout.total_seconds())
        except TimeoutError:
            raise TurnBusy.of_conversation() from None
        try:
            record = self.record(key)
            if existing and key not in self._records:
                raise UnknownConversation()
            if not to_reset:
                if turn_id is not None and not fresh and turn_id in record.log:
                    raise TurnRepeated.of_request()
                admit_size(record.size, self.limits.session_bytes)
            turn = TransientTurn(self, key, record, turn_id, leave, fresh=fresh)
            if parent is not None:
                turn.snapshot, turn.checkpoint = await self.peek(parent, admit=admit)
                turn.stored_key = parent
            elif not to_reset:
                turn.checkpoint = await self.load(record)
        except BaseException:
            leave()
            raise
        return turn

    def record(self, key: str) -> Record:
        """Give a conversation as it was last saved, or a new one."""
        record = self._records.get(key)
        if record is None:
            return Record(key)
        self._records.move_to_end(key)
        return record

    def find(self, key: str) -> Record | None:
        return self._records.get(key)

    async def overruling(self, key: str) -> tuple[TransientTurn, bytes | None]:
        record = self._records.get(check_key(key))
        if record is None:
            raise UnknownConversation()
        return TransientTurn(self, key, record, None, lambda: None), record.attachment

    async def peek(self, key: str, *, admit: Admit | None = None) -> tuple[bytes | None, WorkflowCheckpoint | None]:
        record = self._records.get(key)
        if record is None:
            raise UnknownConversation()
        if admit is not None:
            admit(record.attachment)
        admit_size(record.size, self.limits.session_bytes)
        return record.snapshot, await self.load(record)

    async def load(self, record: Record) -> WorkflowCheckpoint | None:
        if record.checkpoint is None or self.keeper is None:
            return None
        return await self.keeper.load(record.checkpoint)

    async def attachment(self, key: str) -> bytes | None:
        return self.record(key).attachment

    def delete(self, key: str) -> bool:
        """Forget a conversation; False if there is none."""
        return self._records.pop(key, None) is not None

    async def let_go(self) -> None:
        return None

    async def close(self) -> None:
        return None

    def keep(self, key: str, record: Record) -> None:
        self._records[key] = record
        self._records.move_to_end(key)
        excess = len(self._records) - self.limits.memory_sessions
        if excess > 0:
            # What is in use stays: it is about to be replaced, or needed as it is if its turn fails.
            unused = (known for known in self._records if known not in self.queues)
            for forgotten in list(islice(unused, excess)):
                del self._records[forgotten]


class TransientTurn:
    """A `Turn` of a conversation in memory."""

    guarded = False
    name = "memory"
    remembered: bytes | None = None
    remembers = False

    def __init__(
        self,
        conversations: TransientConversations,
        key: str,
        record: Record,
        turn_id: str | None,
        leave: Callable[[], None],
        *,
        fresh: bool = False,
    ) -> None:
        self.key = self.stored_key = key
        self.snapshot = record.snapshot
        self.checkpoint: WorkflowCheckpoint | None = None
        self.session = record.session
        self.identity: ChannelIdentity | None = None
        self.reset_requested = self.to_copy = False
        self.committed = False
        self._conversations = conversations
        self._record = record
        self._found = None if fresh else conversations.find(key)
        self._turn_id = turn_id
        self._leave = leave
        self._ended = False

    def check(self) -> None:
        return None

    def watch(self, on_lost: Callable[[], None]) -> None:
        return None

    def unwatch(self, on_lost: Callable[[], None]) -> None:
        return None

    async def commit(
        self,
        *,
        snapshot: bytes | None,
        checkpoint: WorkflowCheckpoint | None,
        result: bytes | None = None,
        attachment: bytes | None = None,
    ) -> None:
        log = self._record.log
        attachment = self._record.attachment if attachment is None else attachment
        if self._turn_id is not None:
            log = (*log, self._turn_id)[-LOG_LENGTH:]
        if self.reset_requested:
            generation, session = next_session(self.key)
            record = Record(session, generation, attachment=attachment, log=log)
        else:
            generation = self._record.generation
            kept = None if checkpoint is None else await self._keep(checkpoint)
            record = Record(self.session, generation, snapshot, kept, attachment, log)
        self._replace(record)

    async def amend(self, attachment: bytes) -> None:
        self._replace(msgspec.structs.replace(self._record, attachment=attachment))

    def _replace(self, record: Record) -> None:
        if self._conversations.find(self.key) is not self._found:
            raise TurnConflict("This conversation was deleted or taken over; nothing of this turn was saved.")
        self._conversations.keep(self.key, record)
        self.committed = True

    async def _keep(self, checkpoint: WorkflowCheckpoint) -> Checkpoint | None:
        keeper = self._conversations.keeper
        if keeper is None:
            return None
        place = checkpoint_place(conversation_path(self.key), self._record.generation, 0)
        return await shielded(keeper.keep(place, self.key, checkpoint))

    async def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._leave()
