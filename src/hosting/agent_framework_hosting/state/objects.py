"""Documents in a bucket of S3 or a container of Azure Blob Storage."""

from __future__ import annotations

import asyncio
import os
import random
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Literal, TypeVar

from ..errors import ConfigurationError, StateUnavailable
from .names import check_name, check_prefix
from .object_answers import Answer
from .quiet import activity
from .store import ABSENT, UNCHANGED, Condition, Lost, Marker, Unknown, Version

if TYPE_CHECKING:
    from obstore import GetOptions, ObjectMeta, PutMode

    from .object_places import Client, Connection, ObjectPlace

T = TypeVar("T")

ATTEMPTS = 4
FIRST_PAUSE = 0.05
PAGE = 1000
BYTES_PER_SECOND = 1 << 20
LAST_WORD = 0.05
LEAP = 5.0

MARK_BYTES = 16
MARK_LENGTH = len('\n""\n') + 2 * MARK_BYTES
# In the order of their bytes, which is that of listings.
ALPHABET = "-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"


class Misconfigured(StateUnavailable):
    """Somebody has to change a setting: at start-up this is a `ConfigurationError`."""


class ObjectStore:
    """A `StateStore` of the objects below `place`.

    The version of a document is its object's ETag, which on S3 is a hash of the content. So that equal documents are
    different versions, and a writer knows its own again, an object holds the document and one line more, a JSON
    string of 32 random hexadecimal digits: `<document>\\n"<digits>"\\n`. An object without that line, which somebody
    else has put there, is read as it is.

    A write is sent once, so that a refused condition is another write for certain. Reading, listing and deleting are
    repeated while the service is busy or away, with growing pauses. `timeout` bounds a request, in seconds, with one
    more for each MiB that it carries. Nothing is touched before the first operation or `probe`.

    Of the processes that are forked off after that, none can use an object store (`StateUnavailable`); those from
    before it can.
    """

    def __init__(
        self,
        place: ObjectPlace,
        *,
        timeout: float = 10.0,
        connect_timeout: float = 3.0,
        attempts: int = ATTEMPTS,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
        randomness: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.place = place
        self._root = place.root
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._attempts = attempts
        self._clock = clock
        self._wall = wall
        self._sleep = sleep
        self._jitter = jitter
        self._randomness = randomness
        self._connecting = threading.Lock()
        self._connection: Connection | None = None
        self._skew = 0.0

    async def probe(self) -> None:
        """Make sure that the place is there, may be read, and keeps writers apart. Idempotent.

        What AWS and Azure do is known: only a service at another address is tried with writes.

        Raises:
            ConfigurationError: The place or the credentials are wrong, or the service ignores conditions.
            StateUnavailable: It cannot be reached.
        """
        try:
            await self.list("", limit=1)
            if (await self._connected()).elsewhere:
                await self._try_conditions()
        except Misconfigured as error:
            said = str(error)
        else:
            return
        raise ConfigurationError(said)

    async def _try_conditions(self) -> None:
        name = f"probe.{self._randomness(MARK_BYTES).hex()}"
        stale = await self.put(name, b"")
        await self.put(name, b"", if_version=stale)
        try:
            for condition in (ABSENT, stale):
                try:
                    await self.put(name, b"", if_version=condition)
                except Lost:
                    continue
                raise Misconfigured(
                    f"The service of {self.place} ignores the conditions of writes (If-Match, If-None-Match): nothing "
                    "would keep two writers apart. Use one that knows them, as S3 and Azure Blob Storage do."
                )
        finally:
            await self.delete(name)

    async def get(
        self, name: str, *, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        found = await self._read(check_name(name), unless)
        return (split(found[0])[0], found[1]) if isinstance(found, tuple) else found

    async def put(self, name: str, data: bytes, *, if_version: Condition = None) -> Version:
        path = self._root + check_name(name)
        mark = self._randomness(MARK_BYTES).hex().encode()
        content = b'%b\n"%b"\n' % (data, mark)
        mode: PutMode
        if isinstance(if_version, str):
            mode = {"e_tag": if_version}
        else:
            mode = "overwrite" if if_version is None else "create"

        async def write(store: Client, bound: asyncio.Timeout) -> Version | Answer:
            return (await store.put_async(path, content, mode=mode, use_multipart=False))["e_tag"] or Answer()

        for pause in self._pauses():
            answer = await self._request(write, len(content))
            if isinstance(answer, str):
                return answer
            if isinstance(if_version, str) and answer.condition_refused:
                raise Lost(f"{name} has changed: read it again before writing.")
            if not answer.conflict:
                late = StateUnavailable if answer.certainly_refused else Unknown
                raise self._failure(f"write {name}", answer, late)
            if (version := await self._own(name, mark, if_version)) is not None:
                return version
            if pause is not None:
                await self._sleep(pause)
        raise StateUnavailable(f"{name} in {self.place} is written by others all the time. Try again.")

    async def _own(self, name: str, mark: bytes, if_version: Condition) -> Version | None:
        """Give the version of a write that was refused as a conflict, or None where it was not applied.

        Raises:
            Lost: Another write won.
            Unknown: The service does not say.
        """
        try:
            found = await self._read(name)
        except StateUnavailable as error:
            said = str(error)
        else:
            assert found is not UNCHANGED  # That is an answer to `unless` only.
            if found is not None and split(found[0])[1] == mark:
                return found[1]
            now = ABSENT if found is None else found[1]
            if if_version is None or if_version == now:
                return None
            raise Lost(f"{name} has changed: read it again before writing.")
        raise Unknown(f"Whether {name} was written is not known: {said}")

    async def delete(self, name: str) -> None:
        path = self._root + check_name(name)

        async def remove(store: Client, bound: asyncio.Timeout) -> None:
            await store.delete_async(path)

        answer = await self._repeated(remove)
        if isinstance(answer, Answer):
            await self._check_absence(f"delete {name}", answer)

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> Sequence[str]:
        check_prefix(prefix)
        if limit <= 0:
            return []
        root, folder = self._root, prefix.rpartition("/")[0]
        start = max(after, just_before(prefix))

        async def names(store: Client, bound: asyncio.Timeout) -> list[str]:
            found: list[str] = []
            pages: AsyncIterator[Sequence[ObjectMeta]] = store.list(  # pyright: ignore[reportUnknownMemberType]
                root + folder, offset=root + start if start > folder else None, chunk_size=min(limit + 1, PAGE)
            )
            async for page in pages:
                bound.reschedule(asyncio.get_running_loop().time() + self._timeout)
                for meta in page:
                    name = meta["path"][len(root) :]
                    if name > after and name.startswith(prefix):
                        found.append(name)
                    elif name > prefix and not name.startswith(prefix):
                        return found
                    if len(found) == limit:
                        return found
            return found

        answer = await self._repeated(names)
        if isinstance(answer, Answer):
            raise self._failure(f"list {prefix or 'documents'}", answer)
        return answer

    async def _read(
        self, name: str, unless: Version | None = None
    ) -> tuple[bytes, Version] | Literal[Marker.UNCHANGED] | None:
        """Read a whole object with its mark.

        Raises:
            StateUnavailable: The service does not say.
        """
        path = self._root + name
        options: GetOptions | None = None if unless is None else {"if_none_match": unless}

        async def read(store: Client, bound: asyncio.Timeout) -> tuple[bytes, Version] | Answer:
            found = await store.get_async(path, options=options)
            size = found.meta["size"]
            if size > BYTES_PER_SECOND:
                bound.reschedule(asyncio.get_running_loop().time() + self._allowed(size))
            content, version = bytes(await found.bytes_async()), found.meta["e_tag"]
            return Answer() if version is None else (content, version)

        answer = await self._repeated(read)
        if not isinstance(answer, Answer):
            return answer
        if answer.status == 304:
            return UNCHANGED
        await self._check_absence(f"read {name}", answer)
        return None

    async def _check_absence(self, doing: str, answer: Answer) -> None:
        """Make sure that an answer means an absent object, and not an absent bucket or anything else.

        Raises:
            StateUnavailable: It means that, or nobody knows.
        """
        if answer.status != 404 or answer.place_missing:
            raise self._failure(doing, answer)
        if not answer.nothing_there:
            await self.list("", limit=1)  # It does not say what is absent: this does.

    async def _repeated(self, work: Callable[[Client, asyncio.Timeout], Awaitable[T | Answer]]) -> T | Answer:
        """Do what may be done twice, again while the service is busy or away."""
        give_up = self._clock() + self._timeout
        for pause in self._pauses():
            answer = await self._request(work)
            if not isinstance(answer, Answer) or not answer.passing or pause is None:
                return answer
            if self._clock() + pause > give_up:
                return answer
            await self._sleep(pause)
        raise AssertionError("There is no pause after the last attempt.")

    async def _request(
        self, work: Callable[[Client, asyncio.Timeout], Awaitable[T | Answer]], size: int = 0
    ) -> T | Answer:
        """Do something once, and give what came of it or the answer that refuses it."""
        from obstore.exceptions import BaseError

        with activity:
            connection = await self._connected()
            try:
                async with asyncio.timeout(self._allowed(size)) as bound:
                    return await work(connection.client, bound)
            except TimeoutError:
                return Answer()
            except (BaseError, OSError) as error:
                return Answer.of(error)
            except asyncio.CancelledError:
                # A thread of obstore may be about to tell this loop how it ended, which must be there for that.
                await asyncio.sleep(LAST_WORD)
                raise

    async def _connected(self) -> Connection:
        connection = self._current()
        if connection is None:
            with self._connecting:
                connection = self._current()
                if connection is None:
                    connection = self._connection = self.place.connect(self._connect_timeout)
                    self._skew = self._wall() - self._clock()
        if connection.credentials is not None:
            await connection.credentials.fresh()
        return connection

    def _current(self) -> Connection | None:
        # Clocks that have leapt apart: the process was restored from a snapshot, and its connections are none now.
        leapt = abs(self._wall() - self._clock() - self._skew) > LEAP
        return None if leapt else self._connection

    def _allowed(self, size: int) -> float:
        return self._timeout + size / BYTES_PER_SECOND

    def _pauses(self) -> Iterator[float | None]:
        """Give the pause after each attempt, in seconds; None after the last."""
        for attempt in range(self._attempts - 1):
            yield FIRST_PAUSE * 2**attempt * (0.5 + self._jitter())
        yield None

    def _failure(self, doing: str, answer: Answer, kind: type[StateUnavailable] = StateUnavailable) -> StateUnavailable:
        kind = Misconfigured if answer.misconfigured else kind
        return kind(f"Cannot {doing} in {self.place} ({answer}): {self.place.advice(answer)}")


def split(content: bytes) -> tuple[bytes, bytes | None]:
    """Take the document and its mark apart; None where there is no mark."""
    end = content[-MARK_LENGTH:]
    if len(end) == MARK_LENGTH and end.startswith(b'\n"') and end.endswith(b'"\n'):
        return content[:-MARK_LENGTH], end[2:-2]
    return content, None


def just_before(prefix: str) -> str:
    """Give a text that sorts before every name with that prefix, and after most of the others that do."""
    if not prefix or prefix.endswith("/"):
        return prefix[:-1]
    place = ALPHABET.index(prefix[-1])
    return prefix[:-1] + (ALPHABET[place - 1] + "z" * 9 if place else "")
