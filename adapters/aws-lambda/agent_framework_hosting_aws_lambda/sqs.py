"""SQS as the inbox: a message that only says which mailbox to look into.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import re
import secrets
import threading
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from agent_framework_hosting import ConfigurationError, InvalidRequest
from agent_framework_hosting.keys import check_key

from .clients import check_boto3, error_code, make_client
from .errors import QueueUnavailable
from .snapshots import on_restore

MARK, WAKE = "af-hosting", "wake"
LARGEST = 200_000
LONGEST_DELAY = 900
THREADS = 4
# Two attempts and the pause between them fit into what a host waits for a wake (3 s), unless several things go wrong
# at once; then PATIENCE ends it.
CONNECT, READ, ATTEMPTS = 0.9, 0.9, 2
PATIENCE = 2.9

NAME = re.compile(r"[A-Za-z0-9_-]{1,80}|[A-Za-z0-9_-]{1,75}\.fifo")
# sqs.<region>.amazonaws.com and its kind (FIPS, dual stack, VPC endpoints), and <region>.queue.amazonaws.com.
REGION = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z]+(?:-[a-z]+)+-\d+)\.|^([a-z]+(?:-[a-z]+)+-\d+)\.queue\.")
WRONG_URL = "Check region, account and name in the queue's URL."
NOT_ALLOWED = "Allow sqs:SendMessage on it to the function's role, and the use of its key if it has one."
ADVICE = {
    "NonExistentQueue": WRONG_URL,
    "QueueDoesNotExist": WRONG_URL,
    "AccessDenied": NOT_ALLOWED,
    "AccessDeniedException": NOT_ALLOWED,
    "NoCredentialsError": "Give the process AWS credentials: on Lambda those of the function's role are there.",
    "NoRegionError": "Its URL names no region: set AWS_REGION.",
}


class SqsInbox:
    """An `Inbox` whose wakes are messages in an SQS queue that triggers the function: `inbox=SqsInbox(url)`.

    Make it a standard queue. A FIFO queue takes no delay for a single message: what has to wait is left to the sweep
    there. A wake that follows from a wake counts as recursion: Lambda ends such a chain after
    about 16 invocations, and a sweep has to take over, unless the function has `RecursiveLoop: Allow`.

    The region is the one in the URL, else the environment's. `endpoint_url` is that of an SQS elsewhere than where AWS
    has it. boto3 is imported when it is first needed: an extra here, and part of Lambda's own Python runtime.

    Raises:
        ConfigurationError: The URL is not that of a queue, or boto3 is missing.
    """

    def __init__(self, queue_url: str, *, endpoint_url: str | None = None) -> None:
        self._queue = queue_of(queue_url)
        self._endpoint_url = endpoint_url
        check_boto3("SqsInbox")
        self._sender = Sender(self._queue, endpoint_url)
        on_restore(self.forget)

    async def wake(self, isolation_key: str, *, delay: float = 0) -> None:
        """Send a wake; it takes less than 3 s. `delay` is in seconds, of which 900 at most are kept to.

        Where the caller is cancelled, the message may be sent all the same.

        Raises:
            QueueUnavailable: It was not sent, or that is not known.
            InvalidRequest: The key is no text without lone surrogates, or too large for a message.
        """
        if self._queue.fifo and delay > 0:
            return  # A FIFO queue would wake at once, again and again: this is left to the sweep.
        message = self._message(isolation_key, delay)
        sender = self._own_sender()
        try:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().run_in_executor(sender.threads, sender.send, message)
        except TimeoutError:
            raise refused(self._queue, "no answer") from None

    async def prepare(self) -> None:
        """Import boto3 and make the client, which the first wake would do otherwise: it takes about half a second.

        Raises:
            BotoCoreError: boto3 refuses what it finds in the environment.
        """
        sender = self._own_sender()
        await asyncio.get_running_loop().run_in_executor(sender.threads, sender.client)

    def _own_sender(self) -> Sender:
        if self._sender.process != os.getpid():
            self.forget()
        return self._sender

    def forget(self) -> None:
        """Have the next wake make a new client, with connections and credentials of its own.

        For a process that goes on from a snapshot. On Lambda, and after a fork, it happens by itself.
        """
        # The old one is not closed: after a fork its connections are somebody else's.
        self._sender = Sender(self._queue, self._endpoint_url)

    def _message(self, key: str, delay: float) -> dict[str, Any]:
        body = wake_body(check_key(key))
        if len(body) > LARGEST:
            raise InvalidRequest(
                "session",
                f"The isolation key is too large to be sent to a queue ({LARGEST:,} bytes): a sweep finds it.",
            )
        message: dict[str, Any] = {"QueueUrl": self._queue.url, "MessageBody": body}
        if self._queue.fifo:
            # Without an id of its own a second wake within five minutes would be swallowed.
            group = hashlib.sha256(key.encode()).hexdigest()
            return {**message, "MessageGroupId": group, "MessageDeduplicationId": secrets.token_hex(16)}
        return {**message, "DelaySeconds": math.ceil(max(0.0, min(delay, LONGEST_DELAY)))}


def wake_body(key: str) -> str:
    """Give the body of a wake. It is ASCII: SQS replaces characters that XML does not allow."""
    return json.dumps({MARK: WAKE, "key": key}, separators=(",", ":"))


class Queue(NamedTuple):
    """A queue, as its URL tells. `region` is None where that names none."""

    url: str
    name: str
    fifo: bool
    region: str | None


def queue_of(url: object) -> Queue:
    """Read a queue's URL.

    Raises:
        ConfigurationError: It is not one. What it is instead is not told: it may hold credentials.
    """
    try:
        parts = urlsplit(cast("str", url))
        account, name = parts.path.removeprefix("/").split("/")
        whole = (parts.scheme in ("https", "http"), parts.hostname, parts.port != 0, account, NAME.fullmatch(name))
        beside = "@" in parts.netloc or parts.query or parts.fragment
    except (AttributeError, TypeError, ValueError):
        parts, name, whole, beside = None, "", (), True
    if not isinstance(url, str) or parts is None or not all(whole) or beside:
        raise ConfigurationError(
            "SqsInbox takes the URL of a queue, such as https://sqs.eu-central-1.amazonaws.com/123456789012/wakes, as "
            "`!Ref` gives it in a template: neither its name nor its ARN."
        )
    region = REGION.search(parts.hostname or "")
    return Queue(url, name, name.endswith(".fifo"), region and (region[1] or region[2]))


class Client(Protocol):
    """What is used of boto3's client."""

    def send_message(self, **message: Any) -> object: ...


class Sender:
    """A client of SQS, made when it is first needed, and the threads of one `process` to use it in."""

    def __init__(self, queue: Queue, endpoint_url: str | None) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self.process = os.getpid()
        # Threads of their own: tools that nobody can cancel may have taken those of the loop.
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="hosting-sqs")
        self._queue = queue
        self._endpoint_url = endpoint_url
        self._lock = threading.Lock()
        self._client: Client | None = None

    def client(self) -> Client:
        """Give the client.

        Raises:
            BotoCoreError: boto3 refuses what it finds in the environment.
        """
        with self._lock:
            if self._client is None:
                self._client = make_client(
                    "sqs",
                    connect=CONNECT,
                    read=READ,
                    attempts=ATTEMPTS,
                    region=self._queue.region,
                    endpoint_url=self._endpoint_url,
                    max_pool_connections=THREADS,
                )
                assert self._client is not None
            return self._client

    def send(self, message: dict[str, Any]) -> None:
        """Send a message; not on an event loop.

        Raises:
            QueueUnavailable: It was not sent, or that is not known.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

        try:
            self.client().send_message(**message)
        except (BotoCoreError, ClientError) as error:
            raise refused(self._queue, error_code(error)) from None


def refused(queue: Queue, why: str) -> QueueUnavailable:
    """Make the error for a message that was not taken; `why` is SQS's code or the SDK's kind of error."""
    advice = ADVICE.get(why.rpartition(".")[2], "A sweep makes up for it.")
    return QueueUnavailable(f"The queue {queue.name!r} took no message ({why}). {advice}")
