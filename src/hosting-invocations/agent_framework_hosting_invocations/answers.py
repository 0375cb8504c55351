"""Stored answers: what a repeated request with the same `Idempotency-Key` gets."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from hashlib import sha256

import msgspec

from agent_framework_hosting import InvalidRequest, StateDamaged, StateStore, StateUnavailable, isolation_key

from .parsing import Invocation

FORMAT = 1
logger = logging.getLogger("agent_framework.hosting.invocations")


class RepeatableCall(msgspec.Struct, frozen=True):
    """A call that has the same answer whenever it is repeated: `key` within `conversation` (an isolation key).

    `request` is a digest of what was asked.
    """

    owner: str | None
    conversation: str
    key: str
    request: str

    @property
    def name(self) -> str:
        """The document: below its owner's part of the store, and nothing in it is the caller's own text."""
        return f"{hexdigest(isolation_key(self.owner))}/{hexdigest(isolation_key(self.conversation, self.key))}"


class StoredAnswer(msgspec.Struct, frozen=True, omit_defaults=True):
    """`when` is POSIX seconds: old answers are pruned."""

    format: int
    conversation: str
    key: str
    request: str
    answer: msgspec.Raw
    # Without it, as an earlier release wrote it, a prune keeps the answer.
    when: float | None = None


class StoredAnswers:
    """Keeps the answers of repeatable calls in a channel's documents.

    The turn is saved first and its answer after, so `find` looks every `interval` seconds, for at most `wait`.
    """

    def __init__(
        self,
        documents: StateStore,
        *,
        wait: float = 2.0,
        interval: float = 0.1,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.documents = documents
        self.wait = wait
        self.interval = interval
        self.clock = clock

    async def keep(self, call: RepeatableCall, answer: bytes) -> None:
        """Store an answer. Where the store fails the caller has it all the same; only a repeat will not."""
        stored = StoredAnswer(FORMAT, call.conversation, call.key, call.request, msgspec.Raw(answer), self.clock())
        try:
            await self.documents.put(call.name, msgspec.json.encode(stored))
        except StateUnavailable as error:
            logger.warning("An answer could not be kept for a repeat of its request: %s", error)

    async def find(self, call: RepeatableCall) -> bytes | None:
        """Give the answer of a call whose turn is already saved; None if it is not there in time.

        Raises:
            InvalidRequest: The key was used for another request.
            StateDamaged: The document cannot be read.
            StateUnavailable: The store did not answer.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.wait
        while True:
            # Without `unless` a store never gives its marker for an unchanged document.
            found = await self.documents.get(call.name)
            if isinstance(found, tuple):
                return open_answer(call, found[0])
            if clock() + self.interval > deadline:
                return None
            await asyncio.sleep(self.interval)


def open_answer(call: RepeatableCall, data: bytes) -> bytes:
    try:
        stored = msgspec.json.decode(data, type=StoredAnswer)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StateDamaged(call.name, f"The stored answer {call.name} cannot be read; it is kept.") from error
    if (stored.format, stored.conversation, stored.key) != (FORMAT, call.conversation, call.key):
        raise StateDamaged(call.name, f"The stored answer {call.name} is of another format or call; it is kept.")
    if stored.request != call.request:
        raise InvalidRequest("Idempotency-Key", "This Idempotency-Key was used for another request: use a new one.")
    return bytes(stored.answer)


def digest_of(invocation: Invocation) -> str:
    """Give what makes a repeat a repeat; how the answer is sent is no part of it."""
    asked = [invocation.message, invocation.responses, invocation.session_id]
    return sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def hexdigest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
