"""Server-sent events: frames, and the response that carries them (HTML Standard, "Server-sent events")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import TYPE_CHECKING, TypeVar

from anyio import CancelScope
from starlette.responses import Response, StreamingResponse

from .surrogates import utf8

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

T = TypeVar("T")

__all__ = ["EVENT_HEADERS", "SILENCE", "EventStream", "Outgoing", "encode_event"]

EVENT_HEADERS: Mapping[str, str] = {
    "content-type": "text/event-stream",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would collect the frames
}
KEEP_ALIVE = b": keep-alive\n\n"
SILENCE = 15.0
"""Seconds without a frame after which a comment is sent: proxies close what is silent for 30 to 60."""

PATIENCE = 60.0
"""Seconds after which a client that does not take a frame counts as gone."""

BOUND = 64 * 1024
"""Bytes that are collected at most; as many again may be on their way to the client."""

GROWTH = 16
"""By how much what is collected grows with every message."""

HELD = 0.001
"""Seconds without a message after which a frame is sent before the source is asked for the next.

It may work on without waiting; others on its loop get their turn by this, too.
"""


def encode_event(data: str, *, event: str | None = None, id: str | None = None) -> bytes:
    """Encode one event. A parser gives `data` back with CR and CRLF as LF; also an empty text is an event.

    Lone surrogates, which UTF-8 cannot carry, become U+FFFD.

    Raises:
        ValueError: `event` or `id` holds a line break or NUL.
    """
    head = ""
    if event is not None:
        head += f"event: {check_line(event)}\n"
    if id is not None:
        head += f"id: {check_line(id)}\n"
    if "\r" in data:
        data = data.replace("\r\n", "\n").replace("\r", "\n")
    if "\n" in data:
        data = data.replace("\n", "\ndata: ")
    return utf8(f"{head}data: {data}\n\n")


def check_line(value: str) -> str:
    if any(character in value for character in "\r\n\0"):
        raise ValueError("An event's name and id hold neither line breaks nor NUL.")
    return value


class EventStream(StreamingResponse):
    """Sends frames when it is time, and whenever the source waits; a comment after `interval` seconds of silence.

    The response starts with its first byte. A failure before that is an ordinary response, made by `refuse`; one
    after it is a last frame, made by `report`. `headers` are read when the response starts, so that the source can
    still set them. When the client goes, or takes no frame for `patience` seconds, the source is cancelled where it
    stands; it is closed in every case.

    The source runs in the request's own task throughout, so that what it enters (context variables, cancel
    scopes) it leaves in the same one. That task sends what has come together when it is time to; where the source
    waits before, another does.

    A source need not yield each frame: what it adds to `outgoing` leaves in the same order. Where that says that it
    is time to send, the source yields, if only b"".
    """

    def __init__(
        self,
        frames: AsyncGenerator[bytes, None],
        *,
        refuse: Callable[[Exception], Response],
        report: Callable[[Exception], bytes],
        headers: Mapping[str, str] | None = None,
        outgoing: Outgoing | None = None,
        interval: float = SILENCE,
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(frames, headers=EVENT_HEADERS)
        self.frames = frames
        self.refuse = refuse
        self.report = report
        self.outgoing = outgoing
        self.late_headers: Mapping[str, str] = {} if headers is None else headers
        self.interval = interval
        self.patience = patience

    def start(self) -> Message:
        late = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.late_headers.items()]
        return {"type": "http.response.start", "status": self.status_code, "headers": [*self.raw_headers, *late]}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        outgoing = Outgoing() if self.outgoing is None else self.outgoing
        writer = EventWriter(self.start, send, outgoing, self.patience)
        refusal: Response | None = None
        helpers: list[asyncio.Task[None]] = []
        try:
            # A time-out without a time: the one way to cancel a block of one's own task that the standard
            # library keeps apart from a cancellation from outside.
            async with asyncio.timeout(None) as connection:
                helpers += [
                    asyncio.create_task(watch(receive, writer, connection)),
                    asyncio.create_task(carry(writer, connection)),
                    asyncio.create_task(keep_alive(writer, self.interval)),
                ]
                refusal = await self.pump(writer)
        except TimeoutError:
            writer.gone = True
        finally:
            with CancelScope(shield=True):
                for helper in helpers:
                    helper.cancel()
                await asyncio.gather(*helpers, return_exceptions=True)
                await self.frames.aclose()
        if refusal is not None:
            await refusal(scope, receive, send)
        else:
            await writer.finish()

    async def pump(self, writer: EventWriter) -> Response | None:
        try:
            async for frame in self.frames:
                if not frame or writer.outgoing.add(frame):
                    await writer.taken()
                if writer.gone:
                    return None
        except Exception as error:
            if not writer.begun:
                return self.refuse(error)
            writer.outgoing.add(self.report(error))
        await writer.taken()
        return None


class Outgoing:
    """Collects frames until they are sent; made in the loop of its response.

    How much is collected begins with one frame, and grows with every time that the client has taken it: a source
    is not asked for what nobody takes, and a fast one is not slowed down.
    """

    def __init__(self) -> None:
        self.clock = asyncio.get_running_loop().time
        self.frames: list[bytes] = []
        self.size = 0
        self.window = 1
        self.last = self.clock()
        self.due = self.last + HELD
        self.some = asyncio.Event()

    def add(self, frame: bytes) -> bool:
        """Collect a frame, and tell whether it is time to have it sent before there is another."""
        if not self.frames:
            self.some.set()
        self.frames.append(frame)
        self.size = size = self.size + len(frame)
        return size >= self.window or self.clock() > self.due

    def adding(self, encode: Callable[[T], bytes]) -> Callable[[T], bool]:
        """Make a function that adds what `encode` makes of a value; b"" is nothing. It saves a call for each."""
        frames, append, clock = self.frames, self.frames.append, self.clock

        def add(value: T) -> bool:
            if not (frame := encode(value)):
                return clock() > self.due
            if not frames:
                self.some.set()
            append(frame)
            self.size = size = self.size + len(frame)
            return size >= self.window or clock() > self.due

        return add

    def take(self) -> bytes:
        """Give what has come together."""
        body = b"".join(self.frames)
        self.frames.clear()
        self.size = 0
        return body

    def sent(self) -> None:
        self.window = min(GROWTH * self.window, BOUND)
        self.last = self.clock()
        self.due = self.last + HELD


class EventWriter:
    """One response: starts it with the first frames, notes when the client is gone."""

    def __init__(self, start: Callable[[], Message], send: Send, outgoing: Outgoing, patience: float) -> None:
        self.start = start
        self.send = send
        self.outgoing = outgoing
        self.patience = patience
        self.sending = asyncio.Lock()
        self.shared = outgoing.clock()
        self.started = False
        self.gone = False
        self.failure: Exception | None = None

    @property
    def begun(self) -> bool:
        """Whether the client sees a response already, or is about to."""
        return self.started or bool(self.outgoing.frames)

    async def taken(self) -> None:
        """Send everything, and let others on the loop have their turn in time."""
        await self.flush()
        clock = self.outgoing.clock
        if clock() > self.shared + HELD:
            await asyncio.sleep(0)
            self.shared = clock()
            self.outgoing.due = self.shared + HELD

    async def flush(self) -> None:
        """Send what has come together; wait until the client has taken what is being sent already."""
        async with self.sending:
            if self.outgoing.frames and not self.gone:
                await self.write(self.outgoing.take())

    async def write(self, body: bytes, *, more: bool = True) -> None:
        try:
            # A client that stops reading must not hold a conversation for ever.
            async with asyncio.timeout(self.patience):
                if not self.started:
                    self.started = True
                    await self.send(self.start())
                await self.send({"type": "http.response.body", "body": body, "more_body": more})
        except OSError:  # ASGI specification, "Disconnected Client"; a TimeoutError is one too.
            self.gone = True
        except Exception as error:
            self.gone = True
            self.failure = error
        self.outgoing.sent()

    async def finish(self) -> None:
        if not self.gone:
            await self.write(b"", more=False)
        if self.failure is not None:
            raise self.failure


async def watch(receive: Receive, writer: EventWriter, connection: asyncio.Timeout) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    writer.gone = True  # Also for a source that swallows its cancellation: no further frame is asked for.
    connection.reschedule(0)


async def carry(writer: EventWriter, connection: asyncio.Timeout) -> None:
    """Send what there is whenever the source waits: only then does the loop come to this."""
    some = writer.outgoing.some
    while not writer.gone:
        await some.wait()
        some.clear()
        await writer.flush()
    connection.reschedule(0)


async def keep_alive(writer: EventWriter, interval: float) -> None:
    outgoing = writer.outgoing
    while not writer.gone:
        rest = outgoing.last + interval - outgoing.clock()
        if rest > 0:
            await asyncio.sleep(rest)
        else:
            outgoing.add(KEEP_ALIVE)
            await writer.taken()
