"""Wakes as messages: what is sent, by whom, what is said where that fails, and a whole round trip through moto."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError, InboundUpdate, Inbox, InvalidRequest
from agent_framework_hosting_aws_lambda.errors import QueueUnavailable
from agent_framework_hosting_aws_lambda.sqs import SqsInbox, queue_of
from agent_framework_hosting_aws_lambda.sqs_events import is_sqs, work_off
from emulators.lambda_events import sqs
from emulators.object_stores import Moto
from tests.hosting.mailbox.desk import PostChannel, post, reply
from tests.hosting.protocol.channel import started
from tests.hosting.protocol.diary import Diary

from .sqs_recorder import CREDENTIALS, Recorder, recording

STANDARD = "https://sqs.eu-central-1.amazonaws.com/123456789012/wakes"
FIFO = f"{STANDARD}.fifo"
SECRET = "not-for-any-log"
KEY = "telegram:ada"
# The SDK looks nowhere else on this machine.
NO_FILES = {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
}


@pytest.fixture(scope="module")
def recorder() -> Iterator[Recorder]:
    with recording() as recorder:
        yield recorder


@pytest.fixture(scope="module")
def inboxes(recorder: Recorder) -> dict[str, SqsInbox]:
    """Inboxes that send to the recorder; their clients are made when they are first used."""
    with pytest.MonkeyPatch.context() as patch:
        keys = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": SECRET}
        for name, value in {**NO_FILES, **keys}.items():
            patch.setenv(name, value)
        made = {url: SqsInbox(url, endpoint_url=recorder.url) for url in (STANDARD, FIFO)}
        for inbox in made.values():
            asyncio.run(inbox.wake("the first"))
    return made


@pytest.fixture
def taken(recorder: Recorder) -> Recorder:
    """The recorder, without what it was sent before."""
    recorder.clear()
    return recorder


async def test_a_wake_is_a_small_message(inboxes: dict[str, SqsInbox], taken: Recorder) -> None:
    inbox = inboxes[STANDARD]
    assert isinstance(inbox, Inbox)
    await inbox.wake(KEY)
    body = '{"af-hosting":"wake","key":"telegram:ada"}'
    assert taken.messages == [{"QueueUrl": STANDARD, "MessageBody": body, "DelaySeconds": 0}]
    assert taken.signers[0].startswith("testing/") and "/eu-central-1/sqs/" in taken.signers[0]


@pytest.mark.parametrize(
    ("delay", "sent"),
    [(0, 0), (-3, 0), (0.001, 1), (7, 7), (7.2, 8), (899.5, 900), (86_400, 900), (float("inf"), 900)],
)
async def test_a_delay_is_whole_seconds_and_bounded(
    inboxes: dict[str, SqsInbox], taken: Recorder, delay: float, sent: int
) -> None:
    await inboxes[STANDARD].wake(KEY, delay=delay)
    assert [message["DelaySeconds"] for message in taken.messages] == [sent]


async def test_a_fifo_queue_swallows_no_wake(inboxes: dict[str, SqsInbox], taken: Recorder) -> None:
    for key in (KEY, KEY, "telegram:bob"):
        await inboxes[FIFO].wake(key)
    groups = [message["MessageGroupId"] for message in taken.messages]
    assert groups[0] == groups[1] != groups[2]
    assert all(len(group) == 64 for group in groups)
    assert len({message["MessageDeduplicationId"] for message in taken.messages}) == 3
    assert not any("DelaySeconds" in message for message in taken.messages)


async def test_any_key_is_sent_in_characters_that_sqs_keeps(inboxes: dict[str, SqsInbox], taken: Recorder) -> None:
    key = '\0\x1f\x7f￾￿😀"\\ü'
    await inboxes[STANDARD].wake(key)
    body = taken.messages[0]["MessageBody"]
    assert body.isascii() and body.isprintable()
    assert json.loads(body)["key"] == key


@pytest.mark.parametrize("key", ["x" * 200_000, "😀" * 20_000, "\ud800", None])
async def test_a_key_that_cannot_be_sent_is_refused(inboxes: dict[str, SqsInbox], taken: Recorder, key: Any) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await inboxes[STANDARD].wake(key)
    assert len(str(refused.value)) < 200
    assert taken.messages == []


@pytest.mark.parametrize(
    "url",
    [
        "wakes",
        "arn:aws:sqs:eu-central-1:123456789012:wakes",
        "sqs.eu-central-1.amazonaws.com/123456789012/wakes",
        "ftp://sqs.eu-central-1.amazonaws.com/123456789012/wakes",
        "https:///123456789012/wakes",
        "https://sqs.eu-central-1.amazonaws.com/wakes",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/",
        "https://sqs.eu-central-1.amazonaws.com//wakes",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/wakes/",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/wa.kes",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/wakes.fifo.fifo",
        f"https://sqs.eu-central-1.amazonaws.com/123456789012/{'x' * 81}",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/wakes?Action=SendMessage",
        "https://sqs.eu-central-1.amazonaws.com/123456789012/wakes#top",
        f"https://ada:{SECRET}@sqs.eu-central-1.amazonaws.com/123456789012/wakes",
        "https://sqs.eu-central-1.amazonaws.com:port/123456789012/wakes",
        "https://[::1/123456789012/wakes",
        "",
        None,
        b"https://sqs.eu-central-1.amazonaws.com/123456789012/wakes",
    ],
)
def test_what_is_no_url_of_a_queue_is_refused_at_once(url: Any) -> None:
    with pytest.raises(ConfigurationError, match="takes the URL of a queue") as refused:
        SqsInbox(url)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (STANDARD, "eu-central-1"),
        ("https://sqs.us-gov-west-1.amazonaws.com/123456789012/wakes", "us-gov-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/wakes", "cn-north-1"),
        ("https://sqs-fips.us-east-1.amazonaws.com/123456789012/wakes", "us-east-1"),
        ("https://sqs.eu-central-1.api.aws/123456789012/wakes", "eu-central-1"),
        ("https://vpce-0a-1b.sqs.eu-west-3.vpce.amazonaws.com/123456789012/wakes", "eu-west-3"),
        ("https://ap-southeast-2.queue.amazonaws.com/123456789012/wakes", "ap-southeast-2"),
        ("http://127.0.0.1:4566/000000000000/wakes", None),
    ],
)
def test_the_region_is_in_the_url(url: str, region: str | None) -> None:
    assert queue_of(url).region == region


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, taken: Recorder) -> pytest.MonkeyPatch:
    """An environment without any word on AWS, but for credentials that are fetched from the recorder."""
    for name in [*os.environ]:
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    for name, value in NO_FILES.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{taken.url}{CREDENTIALS}")
    return monkeypatch


async def test_where_the_url_names_no_region_the_environment_does(
    environment: pytest.MonkeyPatch, taken: Recorder
) -> None:
    environment.setenv("AWS_REGION", "ap-south-1")
    await SqsInbox(f"{taken.url}/123456789012/wakes", endpoint_url=taken.url).wake(KEY)
    assert "/ap-south-1/sqs/" in taken.signers[0]


async def test_without_any_region_one_is_asked_for(environment: pytest.MonkeyPatch, taken: Recorder) -> None:
    with pytest.raises(QueueUnavailable, match="set AWS_REGION"):
        await SqsInbox(f"{taken.url}/123456789012/wakes", endpoint_url=taken.url).wake(KEY)


async def test_one_client_serves_all_until_it_is_forgotten(environment: pytest.MonkeyPatch, taken: Recorder) -> None:
    # Each client fetches its credentials once.
    before = taken.fetched
    inbox = SqsInbox(STANDARD, endpoint_url=taken.url)
    await asyncio.gather(*(inbox.wake(f"key {number}") for number in range(12)))
    assert len(taken.messages) == 12
    assert {signer.partition("/")[0] for signer in taken.signers} == {f"key-{before + 1}"}
    inbox.forget()
    await inbox.wake(KEY)
    assert taken.signers[-1].startswith(f"key-{before + 2}/")


async def test_without_credentials_they_are_asked_for(environment: pytest.MonkeyPatch, taken: Recorder) -> None:
    environment.delenv("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    with pytest.raises(
        QueueUnavailable, match=r"'wakes' took no message \(NoCredentialsError\)\. Give the process AWS"
    ):
        await SqsInbox(STANDARD, endpoint_url=taken.url).wake(KEY)


@pytest.mark.parametrize(
    ("code", "advice"),
    [
        ("com.amazonaws.sqs#AccessDeniedException", "Allow sqs:SendMessage"),
        ("com.amazonaws.sqs#QueueDoesNotExist", "Check region, account and name"),
        ("InvalidSignatureException", "A sweep makes up for it"),
    ],
)
async def test_a_refusal_says_what_to_do_and_nothing_that_was_sent(
    inboxes: dict[str, SqsInbox], taken: Recorder, caplog: pytest.LogCaptureFixture, code: str, advice: str
) -> None:
    taken.refusal = code
    with caplog.at_level(logging.DEBUG), pytest.raises(QueueUnavailable, match=advice) as refused:
        await inboxes[STANDARD].wake(KEY)
    logging.getLogger("test").error("As the host logs it", exc_info=refused.value)
    for text in (str(refused.value), caplog.text):
        assert KEY not in text and SECRET not in text and "Credential=" not in text


async def test_nothing_sent_is_in_a_log(
    inboxes: dict[str, SqsInbox], taken: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        await inboxes[STANDARD].wake(KEY)
    assert len(taken.messages) == 1
    assert KEY not in caplog.text and SECRET not in caplog.text and "Credential=" not in caplog.text


async def test_a_service_that_does_not_answer_is_not_waited_for(inboxes: dict[str, SqsInbox], taken: Recorder) -> None:
    taken.silence = threading.Event()
    begun = time.monotonic()
    try:
        with pytest.raises(QueueUnavailable):
            await inboxes[STANDARD].wake(KEY)
    finally:
        taken.silence.set()
    assert time.monotonic() - begun < 6  # 2 on an idle machine


def test_without_boto3_the_inbox_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ConfigurationError, match=r"pip install boto3"):
        SqsInbox(STANDARD)


SCRIPT = """
import asyncio, os, sys
import agent_framework_hosting_aws_lambda.sqs_events
from agent_framework_hosting_aws_lambda.sqs import SqsInbox
inbox = SqsInbox(sys.argv[1], endpoint_url=sys.argv[2])
print(*({"boto3", "botocore"} & {*sys.modules}), flush=True)
asyncio.run(inbox.wake("parent"))
if os.fork() == 0:
    asyncio.run(inbox.wake("child"))
    os._exit(0)
print(os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
asyncio.run(inbox.wake("parent"))
"""


def test_the_sdk_is_imported_late_and_a_fork_has_a_client_of_its_own(taken: Recorder) -> None:
    before = taken.fetched
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")} | NO_FILES
    environment["AWS_CONTAINER_CREDENTIALS_FULL_URI"] = f"{taken.url}{CREDENTIALS}"
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    # A fork beside threads is what it is about; Python warns of it.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", SCRIPT, STANDARD, taken.url]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("\n0\n", "", 0)
    assert [json.loads(message["MessageBody"])["key"] for message in taken.messages] == ["parent", "child", "parent"]
    assert [signer.partition("/")[0] for signer in taken.signers] == [
        f"key-{before + 1}",
        f"key-{before + 2}",
        f"key-{before + 1}",
    ]


class Queue:
    """A queue of moto's, as Lambda's poller sees it, and an inbox that sends to it."""

    def __init__(self, client: Any, name: str) -> None:
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        self.url: str = client.create_queue(QueueName=name, Attributes=fifo)["QueueUrl"]
        self.inbox = SqsInbox(self.url)
        self.client = client

    def receive(self) -> list[dict[str, Any]]:
        """Take what can be received now, as the records of an event."""
        taken = self.client.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"])
        messages = taken.get("Messages", [])
        records = sqs(*(message["Body"] for message in messages))["Records"]
        for record, message in zip(records, messages, strict=True):
            record.update(messageId=message["MessageId"], md5OfBody=message["MD5OfBody"])
            record["attributes"] = message["Attributes"]
            self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return records

    def delayed(self) -> int:
        name = "ApproximateNumberOfMessagesDelayed"
        return int(self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=[name])["Attributes"][name])


@pytest.fixture(scope="module")
def queues(moto: Moto) -> Iterator[dict[str, Queue]]:
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**NO_FILES, **moto.environment}.items():
            patch.setenv(name, value)
        import boto3

        client = boto3.client("sqs", region_name="us-east-1")
        yield {name: Queue(client, name) for name in ("wakes", "wakes.fifo")}


@pytest.fixture(params=["wakes", "wakes.fifo"])
def queue(request: pytest.FixtureRequest, queues: dict[str, Queue]) -> Queue:
    return queues[request.param]


def read(record: dict[str, Any]) -> str:
    return json.loads(record["body"])["key"]


@pytest.mark.needs("moto")
async def test_every_wake_is_delivered(queue: Queue) -> None:
    for _ in range(2):
        await queue.inbox.wake(KEY)
    records = queue.receive()
    assert [read(record) for record in records] == [KEY, KEY]
    assert is_sqs({"Records": records})
    groups = {record["attributes"].get("MessageGroupId") for record in records}
    assert len(groups) == 1
    assert (groups == {None}) == (queue.url.endswith("wakes"))


@pytest.mark.needs("moto")
async def test_a_standard_queue_delays_and_a_fifo_queue_leaves_that_to_the_sweep(queue: Queue) -> None:
    await queue.inbox.wake(KEY, delay=5000)
    delays = queue.url.endswith("wakes")
    assert (len(queue.receive()), queue.delayed()) == ((0, 1) if delays else (0, 0))
    if delays:
        queue.client.purge_queue(QueueUrl=queue.url)


@pytest.mark.needs("moto")
async def test_a_queue_that_is_not_there_is_named(queues: dict[str, Queue]) -> None:
    url = queues["wakes"].url.replace("wakes", "absent")
    with pytest.raises(QueueUnavailable, match=r"'absent' took no message \(.*NonExistentQueue\)\. Check region"):
        await SqsInbox(url).wake(KEY)


@pytest.mark.needs("moto")
async def test_what_one_instance_accepts_another_works_on(queue: Queue, tmp_path: Path) -> None:
    asked, working = PostChannel(), PostChannel()

    def host(channel: PostChannel) -> AgentFrameworkHost:
        made = AgentFrameworkHost(Diary(), channels=[channel], state_dir=tmp_path, inbox=queue.inbox)
        made.check_platform("AWS Lambda")
        return made

    async with started(host(asked)):
        # A repeat wakes as well.
        for number, (key, word) in enumerate([("ada", "hello"), ("bob", "hi"), ("bob", "hi"), ("ada", "there")]):
            await asked.context.accept(post(word, key=key, order="hi" if word == "hi" else str(number)))
    assert asked.begun == []

    worker = host(working)
    async with started(worker):
        assert worker.updates is not None
        records = queue.receive()
        assert sorted(map(read, records)) == ["ada", "ada", "bob", "bob"]
        until = asyncio.get_running_loop().time() + 60
        result = await work_off({"Records": records}, worker.updates.drains.drain, queue.inbox.wake, until=until)
        assert result == {"batchItemFailures": []}
        assert sorted(working.sent) == ["1: hello", "1: hi", "2: there"]
        found = worker.updates.drains.keys()
        assert [key async for key in found] == []
    assert (queue.receive(), queue.delayed()) == ([], 0)


@pytest.mark.needs("moto")
async def test_what_there_is_no_time_for_comes_again(queues: dict[str, Queue], tmp_path: Path) -> None:
    queue, channel = queues["wakes"], PostChannel()
    begun = asyncio.Event()

    async def hang(channel: PostChannel, update: InboundUpdate) -> None:
        begun.set()
        await asyncio.Event().wait()

    made = AgentFrameworkHost(Diary(), channels=[channel], state_dir=tmp_path, inbox=queue.inbox)
    made.check_platform("AWS Lambda")
    async with started(made):
        assert made.updates is not None
        await channel.context.accept(post("hello"))
        drain, clock = made.updates.drains.drain, asyncio.get_running_loop().time
        channel.act, time_for_it = hang, 0.1
        while not begun.is_set():
            event = {"Records": queue.receive()}
            result = await work_off(event, drain, queue.inbox.wake, until=clock() + time_for_it)
            assert result == {"batchItemFailures": []}
            time_for_it *= 2
        channel.act = reply
        again = {"Records": queue.receive()}
        assert len(again["Records"]) == 1
        # The lease was given back: nobody has to wait for its end.
        result = await work_off(again, drain, queue.inbox.wake, until=clock() + 60)
        assert (result, channel.sent) == ({"batchItemFailures": []}, ["1: hello"])
    assert (queue.receive(), queue.delayed()) == ([], 0)
