"""Accepted updates that a queue hands to an invocation of their own; the queue is moto's."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from agent_framework_hosting_aws_lambda.sqs import SqsInbox, wake_body
from emulators.lambda_events import sqs
from emulators.object_stores import Moto
from tests.aws_lambda.sqs_recorder import CREDENTIALS, recording
from tests.aws_lambda.updates.clients import SWEEP, key_of, responses
from tests.aws_lambda.updates.handlers import Stock, fail, hang, response
from tests.aws_lambda.updates.queues import Queue

pytestmark = pytest.mark.needs("moto")


@pytest.fixture
def queue(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Queue:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return Queue()


def work_off(stock: Stock, *bodies: str, seconds: float = 30.0) -> list[str]:
    result = stock.invoke(sqs(*bodies), seconds=seconds)
    return [failure["itemIdentifier"] for failure in result["batchItemFailures"]]


def test_an_update_is_handed_to_the_queue_and_worked_on_when_that_triggers(stock: Stock, queue: Queue) -> None:
    stock.start(inbox=queue.inbox)
    assert [stock.send("m-1", "tea"), stock.send("m-2", "tea", sequence=2), stock.send("m-1", "milk")] == [202] * 3
    assert stock.heard == []
    bodies = queue.bodies()
    assert bodies == [wake_body(key_of(conversation)) for conversation in ("tea", "tea", "milk")]
    assert work_off(stock, *bodies) == []
    assert (stock.replies("tea"), stock.replies("milk")) == (["1: hello", "2: hello"], ["1: hello"])
    stock.at_rest("tea", turns=2)
    assert (queue.bodies(), queue.delayed()) == ([], 0)


def test_a_failed_update_is_a_success_of_its_message_and_wakes_again_after_its_back_off(
    stock: Stock, queue: Queue
) -> None:
    stock.start(inbox=queue.inbox)
    stock.act = fail
    stock.send("m-1", "tea")
    assert work_off(stock, *queue.bodies()) == []
    assert (queue.bodies(), queue.delayed(), stock.attempts("tea")) == ([], 1, [1])


@pytest.mark.parametrize("stays", [False, True])
@pytest.mark.parametrize("seconds", [1.5, 3.0])
def test_an_update_that_does_not_end_is_stopped_within_a_short_time_out(
    stock: Stock, queue: Queue, stays: bool, seconds: float
) -> None:
    stock.start(inbox=queue.inbox)
    stock.act = stock.stay if stays else hang
    stock.send("m-1", "tea")
    assert work_off(stock, *queue.bodies(), seconds=seconds) == []
    # It has counted, and somebody looks again; nobody holds the conversation.
    assert stock.attempts("tea") == [1]
    assert len(queue.bodies()) + queue.delayed() == 1


def test_an_update_that_always_takes_too_long_is_set_aside_by_the_queue_too(stock: Stock, queue: Queue) -> None:
    stock.start(inbox=queue.inbox, attempts=1)
    stock.act = hang
    stock.send("m-1", "tea")
    work_off(stock, *queue.bodies(), seconds=1.5)
    [update] = asyncio.run(stock.mailroom.set_aside("tea"))
    assert (update.id, update.attempts) == ("m-1", 1)
    stock.at_rest("tea", turns=0)
    assert work_off(stock, *queue.bodies()) == []


def test_a_sweep_tells_the_queue_of_what_it_was_not_told_of(stock: Stock, queue: Queue) -> None:
    stock.start(inbox=queue.inbox)
    asyncio.run(stock.mailroom.accept(stock.origin, "m-1", "tea"))
    assert stock.invoke(SWEEP) == {"swept": True}
    assert stock.heard == []
    assert work_off(stock, *queue.bodies()) == []
    assert stock.replies("tea") == ["1: hello"]


def test_a_response_in_the_background_is_cancelled_before_the_queue_triggers(stock: Stock, queue: Queue) -> None:
    stock.start(inbox=queue.inbox)
    made, other = (
        response(stock.invoke(responses("POST", body={"input": said, "background": True}))) for said in ("one", "two")
    )
    assert response(stock.invoke(responses("GET", f"/{made['id']}")))["status"] == "queued"
    assert response(stock.invoke(responses("POST", f"/{made['id']}/cancel")))["status"] == "cancelled"
    assert work_off(stock, *queue.bodies()) == []
    assert stock.heard == ["two"]
    assert response(stock.invoke(responses("GET", f"/{made['id']}")))["status"] == "cancelled"
    assert response(stock.invoke(responses("GET", f"/{other['id']}")))["status"] == "completed"


# A queue that is away


@pytest.fixture
def away(stock: Stock, queue: Queue) -> Iterator[Stock]:
    """A handler whose queue refuses everything."""
    with recording() as recorder:
        recorder.refusal = "ServiceUnavailable"
        stock.start(inbox=SqsInbox(queue.url, endpoint_url=recorder.url))
        yield stock


def test_with_the_queue_away_an_update_is_accepted_and_worked_on_by_a_sweep(away: Stock) -> None:
    assert away.send("m-1", "tea") == 202
    assert away.heard == []
    for number in range(4):
        asyncio.run(away.mailroom.accept(away.origin, "m-1", f"tea-{number}"))
    began = time.monotonic()
    assert away.invoke(SWEEP) == {"swept": True}
    assert time.monotonic() - began < 5
    assert len(away.heard) == 5
    away.at_rest("tea", turns=1)


def test_with_the_queue_away_what_is_to_be_looked_into_again_is_reported(away: Stock) -> None:
    away.send("m-1", "tea")
    away.act = fail
    [reported] = work_off(away, wake_body(key_of("tea")))
    assert reported.endswith("1")
    assert away.attempts("tea") == [1]
    away.act = None
    assert work_off(away, wake_body(key_of("milk"))) == []


# Snapshots


RESTORED = """
import asyncio, os
from agent_framework_hosting_aws_lambda.snapshots import after_restore
from agent_framework_hosting_aws_lambda.sqs import SqsInbox

inbox = SqsInbox("https://sqs.eu-central-1.amazonaws.com/123456789012/wakes", endpoint_url=os.environ["SQS"])

async def wake():
    await inbox.wake("a")

asyncio.run(wake())
asyncio.run(wake())
after_restore()
asyncio.run(wake())
"""


@pytest.mark.parametrize(("initialization", "clients"), [("snap-start", 2), ("on-demand", 1)])
def test_after_a_snapshot_the_queue_has_connections_and_credentials_of_its_own(
    initialization: str, clients: int
) -> None:
    with recording() as recorder:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environ |= {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": recorder.url + CREDENTIALS,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_LAMBDA_INITIALIZATION_TYPE": initialization,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "SQS": recorder.url,
        }
        subprocess.run([sys.executable, "-c", RESTORED], env=environ, check=True, timeout=30)
        assert (len(recorder.messages), recorder.fetched) == (3, clients)
