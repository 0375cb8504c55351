"""SQS as a trigger: works off the wakes of one batch, and reports those that SQS is to deliver again.

The event source mapping must have `ReportBatchItemFailures`: without it SQS takes every batch for done.
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import msgspec

from agent_framework_hosting import HostingError
from agent_framework_hosting.shielding import ended

from .errors import UnsupportedEvent

AT_ONCE = 10
SWEEP = 60.0
"""Seconds between two sweeps."""

LAST_WORDS = 6.0
VERY_LAST = 1.0
WAKE_PATIENCE = 3.0
CLOSING = LAST_WORDS + VERY_LAST + WAKE_PATIENCE
"""Seconds after `until` by which `work_off` has returned, whatever happens; mostly it is a small part of one."""

Drain = Callable[[str], Awaitable[float | None]]
Wake = Callable[..., Awaitable[None]]

logger = logging.getLogger("agent_framework.hosting.aws_lambda")


def is_sqs(event: object) -> bool:
    """Whether an event is a batch of messages of an SQS queue."""
    records = cast("dict[str, object]", event).get("Records") if isinstance(event, dict) else None
    return isinstance(records, list) and records != [] and all(map(is_message, cast("list[object]", records)))


def is_message(record: object) -> bool:
    if not isinstance(record, dict):
        return False
    fields = cast("dict[str, object]", record)
    identifier = fields.get("messageId")
    return fields.get("eventSource") == "aws:sqs" and isinstance(identifier, str) and identifier != ""


async def work_off(
    event: object, drain: Drain, wake: Wake, *, until: float, closing: float = CLOSING, at_once: int = AT_ONCE
) -> dict[str, Any]:
    """Drain the mailboxes that the messages of a batch name, each once, at most `at_once` at a time.

    `drain(key)` gives None when nothing is left, else the seconds after which to look again: those are for
    `wake(key, delay=…)` to pass on. At `until`, in the running loop's time, drains are cancelled and what is left goes
    to `wake(key, delay=0)`. A message is reported where its drain or its wake failed, or where it is no wake; those of
    one FIFO group are worked on in their order, and reported from the first of these on. Where there are fewer than
    `CLOSING` seconds for what follows `until`, `closing` says so, and each of its parts takes less.

    Returns:
        `{"batchItemFailures": [{"itemIdentifier": messageId}, …]}`, in the order of the event.

    Raises:
        UnsupportedEvent: It is no batch of SQS messages.
    """
    if not is_sqs(event):
        raise UnsupportedEvent("This is no batch of SQS messages: give the function a trigger of that kind.")
    messages = [message_of(record) for record in cast("dict[str, Any]", event)["Records"]]
    lines: dict[object, list[Message]] = {}
    for number, message in enumerate(messages):
        lines.setdefault(number if message.group is None else message.group, []).append(message)
    failed: set[str] = set()
    async with asyncio.TaskGroup() as tasks:
        batch = Batch(drain, wake, tasks, until, min(closing, CLOSING), at_once)
        works = [tasks.create_task(batch.work(line)) for line in lines.values()]
    for work in works:
        failed.update(work.result())
    ids = dict.fromkeys(message.id for message in messages)
    return {"batchItemFailures": [{"itemIdentifier": each} for each in ids if each in failed]}


class Message(NamedTuple):
    """A message of a batch; `key` is None where it is no wake, `group` where the queue is no FIFO queue."""

    id: str
    key: str | None
    group: str | None


class WakeBody(msgspec.Struct):
    kind: Literal["wake"] = msgspec.field(name="af-hosting")
    key: str


def message_of(record: dict[str, Any]) -> Message:
    attributes = record.get("attributes")
    group = cast("dict[str, Any]", attributes).get("MessageGroupId") if isinstance(attributes, dict) else None
    try:
        key = msgspec.json.decode(record.get("body") or "", type=WakeBody).key
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError):
        key = None
        logger.error(
            "Message %s of the queue is no wake. It is reported, and ends in the dead-letter queue.",
            record["messageId"],
        )
    return Message(record["messageId"], key, group if isinstance(group, str) else None)


class Batch:
    """The conversations of one batch; `tasks` ends with the last of them."""

    def __init__(
        self, drain: Drain, wake: Wake, tasks: asyncio.TaskGroup, until: float, closing: float, at_once: int
    ) -> None:
        self._drain = drain
        self._wake = wake
        self._tasks = tasks
        self._until = until
        self._end = until + closing
        self._part = closing / CLOSING
        self._places = asyncio.Semaphore(at_once)
        self._now = asyncio.get_running_loop().time
        self._settled: dict[str, asyncio.Task[bool]] = {}

    async def work(self, line: Sequence[Message]) -> list[str]:
        """Work on messages in their order; give the ids of those to report: the first that fails and all after it."""
        for number, message in enumerate(line):
            if message.key is None or not await self._once(message.key):
                return [each.id for each in line[number:]]
        return []

    def _once(self, key: str) -> asyncio.Task[bool]:
        task = self._settled.get(key)
        if task is None:
            task = self._settled[key] = self._tasks.create_task(self._settle(key))
        return task

    async def _settle(self, key: str) -> bool:
        """Drain a mailbox; False if neither that worked nor a wake for another time."""
        try:
            delay = await self._worked_off(key)
            # A sweep comes in time for what is due later; woken each time, it would have more and more wakes under way.
            return delay is None or delay >= SWEEP or await self._woken(key, delay)
        except HostingError as error:
            # Not what it says: that may name the conversation.
            logger.error("A mailbox could not be worked off (%s); its message is reported.", type(error).__name__)
        except Exception:
            # It must not fail the others of the batch.
            logger.exception("A mailbox could not be worked off; its message is reported.")
        except asyncio.CancelledError:
            if (task := asyncio.current_task()) is None or task.cancelling():
                raise
            logger.error("The work on a mailbox cancelled itself; its message is reported.")
        return False

    async def _worked_off(self, key: str) -> float | None:
        """Drain a mailbox when there is a place for that: 0 if there was not in time."""
        if not await self._entered():
            return 0
        try:
            return await self._drained(key)
        finally:
            self._places.release()

    async def _entered(self) -> bool:
        """Wait for a place; False if there is none in time."""
        try:
            async with asyncio.timeout_at(self._until):
                await self._places.acquire()
        except TimeoutError:
            return False
        if self._now() < self._until:
            return True
        self._places.release()
        return False

    async def _drained(self, key: str) -> float | None:
        """Drain a mailbox for as long as there is time: 0 if that was too short."""
        task = asyncio.ensure_future(self._drain(key))
        try:
            await asyncio.wait([task], timeout=max(0.0, self._until - self._now()))
            in_time = task.done()
        finally:
            if not task.done():
                await given_up(task, self._part)
        return task.result() if in_time or (task.done() and not task.cancelled()) else 0

    async def _woken(self, key: str, delay: float) -> bool:
        try:
            async with asyncio.timeout_at(min(self._now() + WAKE_PATIENCE, self._end)):
                await self._wake(key, delay=delay)
        except (HostingError, TimeoutError) as error:
            logger.error("A mailbox is left over, and nobody was woken: %s", str(error) or "no answer")
            return False
        except Exception:
            # It must not fail the others of the batch: the message is reported, and SQS delivers it again.
            logger.exception("A mailbox is left over, and nobody was woken.")
            return False
        return True


async def given_up(task: asyncio.Future[Any], part: float) -> None:
    """Cancel a drain, and wait until it has given its lease back, for a part of the usual time."""
    task.cancel()
    await ended(task, part * LAST_WORDS, last_words=part * VERY_LAST)
    if not task.done():
        logger.warning("A drain does not end, although it was cancelled.")
    elif not task.cancelled():
        task.exception()  # Known now, also where the caller does not ask.
