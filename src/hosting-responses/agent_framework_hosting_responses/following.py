"""The stream of a stored response: what is known at once, and the rest when it is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from agent_framework_hosting.sse import EventStream

from .open_items import Frames
from .problems import failure_of
from .records import OfResponse, QueuedRecord
from .replay import opening, replay

if TYPE_CHECKING:
    from .background import Background

SLOWEST = 2.0


def follow(background: Background, record: OfResponse, *, after: int = -1) -> EventStream:
    """Stream the events whose number is greater than `after`, until the response has come to its end.

    After `Service.follow_wait` seconds the stream ends without an ending: a client goes on with `starting_after`. So
    it does after a failure, which is told in an event of its own.
    """
    service, frames = background.service, Frames()

    def report(error: Exception) -> bytes:
        frames.number = max(frames.number - 1, 0)  # It is no event of the response, and takes no number of one.
        return frames.frame("error", {"error": failure_of(error, channel=service.name).error})

    return EventStream(
        events_of(background, record, frames, after),
        refuse=lambda error: failure_of(error, channel=service.name).response(),
        report=report,
        interval=service.keep_alive,
    )


async def events_of(
    background: Background, record: OfResponse, frames: Frames, after: int
) -> AsyncGenerator[bytes, None]:
    service = background.service
    clock = asyncio.get_running_loop().time
    deadline, pause = clock() + service.follow_wait, service.replay_interval
    if isinstance(record, QueuedRecord):
        for frame in opening(record.response, frames):
            if frames.number - 1 > after:
                yield frame
        after = max(after, frames.number - 1)
    while isinstance(record, QueuedRecord):
        # It may be large: only what names it is kept, and it is not read before there is something new.
        job = record.job
        del record
        while clock() < deadline and await background.is_open(job):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, SLOWEST)
        if clock() >= deadline:
            return
        record = await background.find(job.id)
        if isinstance(record, QueuedRecord):
            await asyncio.sleep(pause)
    if rest := b"".join(replay(record.response, after=after)):
        yield rest
