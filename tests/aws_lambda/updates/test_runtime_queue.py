"""Our runtime and a queue, moto's: what does not fit into an invocation goes there, and comes back as an event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from emulators.object_stores import Moto
from tests.aws_lambda.updates.clients import SWEEP, key_of, responses
from tests.aws_lambda.updates.deployed import Deployed, deployed
from tests.aws_lambda.updates.queues import Queue
from tests.support.places import make_place

pytestmark = pytest.mark.needs("moto")
SHORT = 3.0
"""Seconds in which boto3 is imported, too."""


@pytest.fixture(params=[False, True], ids=["standard", "fifo"])
def queue(moto: Moto, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Queue:
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return Queue(fifo=request.param)


@pytest.fixture
async def function(tmp_path: Path, queue: Queue, request: pytest.FixtureRequest) -> AsyncGenerator[Deployed]:
    async with deployed(tmp_path, make_place("s3", request), QUEUE_URL=queue.url) as function, function.process():
        yield function


async def triggered(function: Deployed, queue: Queue, **options: Any) -> list[str]:
    async def invoke(event: dict[str, Any]) -> Any:
        call = function.api.invoke(event, **options)
        answer = await call.answer()
        await call.over()
        return answer.json

    return await queue.trigger(invoke)


async def finish(function: Deployed, queue: Queue) -> None:
    """Deliver until the queue has nothing more."""
    while queue.left():
        assert await triggered(function, queue) == []
    if not function.replies("tea"):
        # It cannot wait for the end of a back-off: that is left to a sweep.
        assert queue.name.endswith(".fifo")
        await function.hold_over("tea")
        await function.settle("tea", 1)


async def test_what_the_invocation_had_no_time_for_is_handed_to_the_queue_and_done_when_that_triggers(
    function: Deployed, queue: Queue
) -> None:
    hold = function.hold()
    call = function.send("m-1", "tea", timeout=SHORT, text="slow")
    assert (await call.answer()).status == 202
    await call.over()
    hold.go()
    head = await function.mailroom.head("tea")
    assert (head.lease, [each.attempts for each in head.hold.values()]) == (None, [1])
    assert queue.left() == 1
    await finish(function, queue)
    assert function.replies("tea") == ["1: slow"]
    await function.mailroom.check_at_rest("tea", turns=1)
    assert queue.left() == 0


async def test_a_wake_of_the_queue_is_worked_off_in_the_order_of_the_updates(function: Deployed, queue: Queue) -> None:
    for number in (2, 1, 3):
        await function.accept(f"w-{number}", "tea", sequence=number, text=str(number))
        await queue.inbox.wake(key_of("tea"))
    await function.accept("w-1", "milk")
    await queue.inbox.wake(key_of("milk"))
    while queue.left():  # A FIFO queue gives the messages of a group one batch after another.
        assert await triggered(function, queue) == []
    assert function.replies("tea") == ["1: 1", "2: 2", "3: 3"]
    assert function.replies("milk") == ["1: hello"]
    await function.mailroom.check_at_rest("tea", turns=3)


async def test_what_the_time_of_an_event_was_too_short_for_is_left_to_another_message(
    function: Deployed, queue: Queue
) -> None:
    hold = function.hold()
    await function.accept("w-1", "tea")
    await queue.inbox.wake(key_of("tea"))
    # On a busy machine boto3 may take longer than is left: then it is reported, and comes again.
    await triggered(function, queue, timeout=SHORT)
    hold.go()
    [left] = (await function.mailroom.head("tea")).hold.values()
    assert (left.attempts, queue.left()) == (1, 1)
    await finish(function, queue)
    assert function.replies("tea") == ["1: hello"]


async def test_a_message_that_is_no_wake_is_reported_and_keeps_no_other_from_being_worked_off(
    function: Deployed, queue: Queue
) -> None:
    await function.accept("w-1", "tea")
    group = {"MessageGroupId": "other", "MessageDeduplicationId": "1"} if queue.name.endswith(".fifo") else {}
    queue.client.send_message(QueueUrl=queue.url, MessageBody="nonsense", **group)
    await queue.inbox.wake(key_of("tea"))
    reported: list[str] = []
    while not function.replies("tea"):
        reported += await triggered(function, queue)
    assert {*reported} == {"nonsense"}
    assert queue.left() == 1
    await function.mailroom.check_at_rest("tea", turns=1)


async def test_a_response_in_the_background_that_takes_longer_than_the_invocation_is_made_by_the_queue(
    function: Deployed, queue: Queue
) -> None:
    hold = function.hold()
    call = function.api.invoke(responses("POST", body={"input": "long", "background": True}), timeout=SHORT)
    made = json.loads((await call.answer()).json["body"])
    await hold.wait()
    await call.over()
    hold.go()

    async def status() -> str:
        answer = await function.api.invoke(responses("GET", f"/{made['id']}")).answer()
        return json.loads(answer.json["body"])["status"]

    assert await status() in ("queued", "in_progress")
    async with asyncio.timeout(20):
        while await status() != "completed":
            if queue.left():
                assert await triggered(function, queue) == []
            else:
                await function.sweep()
                await asyncio.sleep(0.1)  # The end of the back-off is of real seconds.
    assert function.asked("long") == 2


async def test_a_sweep_works_on_what_it_finds_here(function: Deployed, queue: Queue) -> None:
    await function.accept("w-1", "tea")
    assert (await function.api.invoke(SWEEP).answer()).json == {"swept": True}
    await function.api.idle()
    assert (function.replies("tea"), queue.left()) == (["1: hello"], 0)
