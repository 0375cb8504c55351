"""Mailboxes in a store: what was accepted is processed in order, once, by one instance at a time."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from ..errors import HostingError, MailboxFull, StateDamaged, StateUnavailable
from ..keys import check_key, conversation_path
from ..shielding import together
from .content import Content, Unreadable, acquire, load_text
from .conversations import TRIES
from .head import Head, Hold, Lease, encode_head, freed, random_id
from .held import Found, StoredHeld, concluded, known_as_done, write
from .holding import Holding
from .mail import (
    WAITING,
    LaterFormat,
    Letter,
    Waiting,
    decode_waiting,
    encode_waiting,
    set_aside,
    set_damaged_aside,
)
from .mailbox_keys import waiting_keys
from .settle import settled_put
from .store import Lost, read

if TYPE_CHECKING:
    from ..limits import HostLimits
    from ..updates import InboundUpdate, Standing
    from .checkpoints import CheckpointKeeper
    from .stored import StoredConversations

logger = logging.getLogger("agent_framework.hosting.state")

PAGE = 100
ACCEPT_PATIENCE = 1.5
AT_LEAST, AT_MOST = 0.2, 1.0
LATER = 60.0
DIED = "The process ended while it worked on this update."


class StoredMailboxes:
    """`Mailboxes` in the store of conversations. Use it on their event loop."""

    def __init__(self, conversations: StoredConversations) -> None:
        self._conversations = conversations
        self.store = conversations.store
        self._full: set[str] = set()
        self._chores: set[asyncio.Task[None]] = set()

    @property
    def limits(self) -> HostLimits:
        return self._conversations.limits

    @property
    def keeper(self) -> CheckpointKeeper | None:
        return self._conversations.keeper

    def wall(self) -> float:
        """Give the time in POSIX seconds."""
        return self._conversations.wall()

    def jitter(self) -> float:
        return self._conversations.jitter()

    def meanwhile(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something that nobody waits for."""
        chore = asyncio.create_task(work)
        self._chores.add(chore)
        chore.add_done_callback(self._chores.discard)

    async def close(self) -> None:
        """Finish what is under way."""
        if self._chores:
            await asyncio.wait(self._chores)

    # Accepting

    async def accept(self, update: InboundUpdate, trace: Mapping[str, str]) -> bool:
        letter = Letter.of(update)
        data = encode_waiting(update, self.wall(), trace)
        if letter.path in self._full:
            await self._make_room(letter)
        kept, head, names = await asyncio.gather(
            settled_put(self.store, letter.waiting, data, patience=ACCEPT_PATIENCE),
            self._conversations.read(update.isolation_key, letter.path),
            self._list(letter.path, self.limits.mailbox_updates + 1),
            return_exceptions=True,
        )
        if isinstance(kept, BaseException):
            raise kept
        if not isinstance(names, BaseException) and len(names) > self.limits.mailbox_updates:
            self._full.add(letter.path)
        if isinstance(head, BaseException) or head[0] is None:
            return True  # It is kept: whether it was before, whoever works on it finds out.
        ran = head[0].ran
        return not known_as_done(head[0], letter.uid) and (ran is None or ran.update != letter.uid)

    async def _make_room(self, letter: Letter) -> None:
        """Let an update into a mailbox that was full only if it is there already, or no longer full.

        Raises:
            MailboxFull: It is neither.
        """
        names = await self._list(letter.path, self.limits.mailbox_updates)
        if len(names) < self.limits.mailbox_updates:
            self._full.discard(letter.path)
        elif letter not in names:
            raise MailboxFull(
                f"This conversation has {len(names)} unfinished updates (HostLimits.mailbox_updates): no more are "
                "taken until some are done or set aside."
            )

    # Working

    async def take(self, key: str) -> StoredHeld | float | None:
        path = conversation_path(check_key(key))
        try:
            leave = await self._conversations.queues.enter(path, 0)
        except TimeoutError:
            return AT_LEAST
        try:
            taken = await self._take(key, path, leave)
        except BaseException:
            leave()
            raise
        if not isinstance(taken, StoredHeld):
            leave()
        return taken

    async def _take(self, key: str, path: str, leave: Callable[[], None]) -> StoredHeld | float | None:
        after = ""
        while True:
            (head, version), letters = await together(
                self._conversations.read(key, path), self._list(path, PAGE, after=after)
            )
            letter = await self._first(path, letters, head)
            if letter is None:
                if not letters:
                    return None
                after = letters[-1].waiting
                continue
            ttl = self.limits.lease.total_seconds()
            if (wait := self._conversations.sightings.remaining(path, head, ttl)) > 0:
                # A drain looks into the mailbox again when it has let go; other holders do not.
                drained = head is not None and head.lease is not None and head.lease.updates
                return max(AT_LEAST, wait if drained else min(wait, AT_MOST))
            hold = None if head is None else head.hold.get(letter.uid)
            if hold is not None and (wait := hold.not_before - self.wall()) > 0:
                return max(AT_LEAST, wait)
            holding = self._conversations.holding(path, key, head, version)
            try:
                held = await self._hold(holding, letter, leave)
            except Lost:
                continue
            if held is not None:
                return held

    async def _first(self, path: str, letters: list[Letter], head: Head | None) -> Letter | None:
        """Give the update whose turn it is, and remove those that are done."""
        if head is None:
            return letters[0] if letters else None
        waiting = [letter for letter in letters if not known_as_done(head, letter.uid)]
        await asyncio.gather(*(self.forget(letter) for letter in letters if letter not in waiting))
        if waiting and head.ran is not None and (replying := await self._find(path, head.ran.update, letters)):
            return replying
        return waiting[0] if waiting else None

    async def _find(self, path: str, uid: str, letters: list[Letter]) -> Letter | None:
        """Find an update in a mailbox of which `letters` are the first or next page."""
        while True:
            if (found := next((letter for letter in letters if letter.uid == uid), None)) is not None:
                return found
            if len(letters) < PAGE:
                return None
            letters = await self._list(path, PAGE, after=letters[-1].waiting)

    async def _hold(self, holding: Holding, letter: Letter, leave: Callable[[], None]) -> StoredHeld | float | None:
        """Take the lease for an update and read what it needs; None if there is nothing to work on after all.

        Raises:
            Lost: Somebody else took it first.
        """
        ttl = self.limits.lease.total_seconds()
        attempt = 1 if holding.head.lease is None else holding.head.lease.attempt + 1
        before = holding.head.next(epoch=holding.epoch, garbage=())
        head = self.leased(before, letter, Lease(random_id(), ttl, attempt))
        small = holding.head.size <= self.limits.session_bytes
        try:
            content, (data, results) = await together(
                self._acquired(holding, head, load=small), self._opened(holding, letter)
            )
            return await self.begun(holding, letter, data, Found(content, results), leave=leave)
        except BaseException:
            try:
                await holding.release(hold=before.hold)  # The update was not begun: that is no attempt.
            finally:
                await holding.end()
            raise

    def leased(self, head: Head, letter: Letter, lease: Lease | None) -> Head:
        """Give a head whose lease is for an update, and which counts this attempt."""
        assert lease is not None
        before = head.hold.get(letter.uid, Hold(0))
        hold = {**head.hold, letter.uid: Hold(before.attempts + 1, before.error)}
        return head.next(lease=msgspec.structs.replace(lease, updates=(letter.uid,)), hold=hold)

    async def _acquired(self, holding: Holding, head: Head, *, load: bool) -> Content | Unreadable:
        try:
            return await acquire(holding, head, self.keeper, load=load)
        except StateDamaged as error:
            return Unreadable(error)

    async def _opened(self, holding: Holding, letter: Letter) -> tuple[bytes | None, tuple[bytes, ...] | Unreadable]:
        return await together(self.open(letter), self._results(holding, letter))

    async def _results(self, holding: Holding, letter: Letter) -> tuple[bytes, ...] | Unreadable:
        """Read what the turns of an earlier attempt gave; nothing for those that were not saved."""
        ran = holding.head.ran
        if ran is None or ran.update != letter.uid:
            return ()
        try:
            return tuple([await load_text(self.store, text) or b"" for text in ran.results])
        except StateDamaged as error:
            return Unreadable(error)

    async def open(self, letter: Letter) -> bytes | None:
        """Read the document of an update; None where it is gone."""
        found = await read(self.store, letter.waiting)
        return None if found is None else found[0]

    async def begun(
        self, holding: Holding, letter: Letter, data: bytes | None, found: Found, *, leave: Callable[[], None]
    ) -> StoredHeld | float | None:
        """Give the update that the lease is for; what cannot be worked on is concluded, and the lease given back."""
        hold = holding.head.hold[letter.uid]
        others = {uid: other for uid, other in holding.head.hold.items() if uid != letter.uid}
        if data is None:  # Somebody has dropped it.
            dropped = concluded(holding.head, letter.uid, None, self.wall())
            await holding.release(hold=others, ran=dropped.ran, garbage=dropped.garbage)
            await holding.end()
            return None
        try:
            waiting = decode_waiting(letter.waiting, data)
        except LaterFormat as error:
            logger.error("An update waits for a newer release: %s", error)
            await holding.release(hold=others)
            await holding.end()
            return LATER
        except StateDamaged as error:
            document = set_damaged_aside(holding.key, data, attempts=hold.attempts, error=str(error), now=self.wall())
            await self._set_aside(holding, letter, document)
            return None
        # Whose turn is saved has its reply tried once more.
        saved = holding.head.ran is not None and holding.head.ran.update == letter.uid
        if hold.attempts > self.limits.update_attempts + saved:
            await self.set_aside(holding, letter, waiting, hold.error or DIED)
            return None
        return StoredHeld(self, holding, letter, waiting, found, leave=leave)

    async def set_aside(self, holding: Holding, letter: Letter, waiting: Waiting, error: str) -> None:
        """Give an update up, so that the conversation goes on."""
        head = holding.head
        attempts = min(head.hold[letter.uid].attempts, self.limits.update_attempts)
        saved = head.ran is not None and head.ran.update == letter.uid
        document = set_aside(waiting, attempts=attempts, error=error, now=self.wall(), saved=saved)
        await self._set_aside(holding, letter, document)

    async def _set_aside(self, holding: Holding, letter: Letter, document: bytes) -> None:
        try:
            holding.check()
            await settled_put(self.store, letter.dead, document)
            head = concluded(holding.head, letter.uid, None, self.wall()).next(lease=None)
            try:
                await write(holding, head, letter.uid)
            finally:
                if holding.head is not head:
                    await self._take_back(holding, letter)
            logger.error("An update was set aside as %s: see `af-hosting inbox show`.", letter.dead)
            await self.forget(letter)
        finally:
            await holding.end()

    async def _take_back(self, holding: Holding, letter: Letter) -> None:
        """Remove what was set aside if the conversation was deleted meanwhile: nothing of it may come back."""
        with contextlib.suppress(HostingError):
            head, _ = await self._conversations.read(holding.key, holding.path)
            if head is not None and head.deleted is not None:
                await self.store.delete(letter.dead)

    async def continued(self, head: Head, snapshot: bytes | None) -> Content | Unreadable:
        """Give what a turn goes on from after one that has just saved this snapshot.

        The checkpoint is read again: a run may change the one that it made.
        """
        if head.checkpoint is None or self.keeper is None:
            return Content(snapshot)
        try:
            return Content(snapshot, await self.keeper.load(head.checkpoint))
        except StateDamaged as error:
            return Unreadable(error)

    async def following(self, letter: Letter, head: Head) -> tuple[Letter | None, set[str] | None]:
        """Give the update after this one, if it can begin at once, and the uids of all that wait, if those are few."""
        try:
            letters = await self._list(letter.path, PAGE)
        except StateUnavailable:
            return None, None  # This one has had its reply: it is concluded all the same.
        uids = {other.uid for other in letters} if len(letters) < PAGE else None
        for other in letters:
            if other.uid != letter.uid and not known_as_done(head, other.uid):
                hold = head.hold.get(other.uid)
                ready = hold is None or (hold.not_before <= self.wall() and hold.attempts < self.limits.update_attempts)
                return (other if ready and head.size <= self.limits.session_bytes else None), uids
        return None, uids

    async def standing(self, update: InboundUpdate) -> Standing | None:
        letter = Letter.of(update)
        (head, _), document = await together(
            self._conversations.read(update.isolation_key, letter.path), self.open(letter)
        )
        if head is not None and head.lease is not None and letter.uid in head.lease.updates:
            return "working"
        return None if document is None or (head is not None and known_as_done(head, letter.uid)) else "waiting"

    async def interrupt(self, update: InboundUpdate) -> None:
        letter = Letter.of(update)
        for _ in range(TRIES):
            head, version = await self._conversations.read(update.isolation_key, letter.path)
            if head is None or head.lease is None or letter.uid not in head.lease.updates:
                return
            with contextlib.suppress(Lost):
                data = encode_head(freed(head).next(epoch=head.epoch + 1))
                await settled_put(self.store, f"k/{letter.path}/head", data, if_version=version)
                return
        raise StateUnavailable("This conversation is being written again and again. Try again.")

    async def forget(self, letter: Letter) -> None:
        """Remove the document of an update that is done. Where that fails, a later look at the mailbox does it."""
        try:
            await self.store.delete(letter.waiting)
        except HostingError as error:
            logger.warning("A finished update could not be removed: %s", error)

    async def _list(self, path: str, limit: int, *, after: str = "") -> list[Letter]:
        names = await self.store.list(f"{WAITING}/{path}/", after=after, limit=limit)
        return Letter.all(names)

    def keys(self) -> AsyncIterator[str]:
        return waiting_keys(self.store)
