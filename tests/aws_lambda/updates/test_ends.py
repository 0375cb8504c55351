"""Environments with state on S3 that are frozen, killed or ended: nothing is lost, and nothing done twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path

import pytest

from tests.aws_lambda.updates.clients import SWEEP, invocation
from tests.aws_lambda.updates.deployed import OURS, STOCK, Deployed, Hold, deployed
from tests.aws_lambda.updates.settings import LEASE
from tests.support.places import make_place

pytestmark = pytest.mark.needs("moto")
BOTH = pytest.mark.parametrize("command", [OURS, STOCK], ids=["ours", "stock"])


@pytest.fixture
async def function(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncGenerator[Deployed]:
    async with deployed(tmp_path, make_place("s3", request)) as function:
        yield function


async def test_what_killed_environments_left_is_done_by_another_one_wherever_they_were(function: Deployed) -> None:
    async with function.process() as process:
        hold = function.hold()
        call = function.send("k-1", "before", text="before", hold="before")
        await hold.wait()
        process.kill()
        assert (await call.answer()).error is not None
    async with function.process() as process:
        function.api.misbehave.freeze_at_responses = 1
        call = function.send("k-1", "after", text="after")
        assert (await call.answer()).status == 202
        process.kill()
        await process.ended()
    assert (await function.mailroom.waiting("before"), await function.mailroom.waiting("after")) == (1, 1)
    async with function.process() as process:
        holds = [function.hold(), function.hold()]
        function.api.invoke(SWEEP)
        for hold in holds:
            await hold.wait()
        process.kill()
        await process.ended()
    async with function.process():
        for conversation in ("before", "after"):
            await function.settle(conversation, 1)
            assert function.replies(conversation) == [f"1: {conversation}"]
            await function.mailroom.check_at_rest(conversation, turns=1)


@BOTH
async def test_killed_while_it_replies_the_agent_is_not_run_again(function: Deployed, command: Sequence[str]) -> None:
    function.receiver.answers.append(reply := Hold())
    async with function.environment(command) as process:
        function.send("k-1", "tea", text="once")
        await reply.wait()
        process.kill()
        await process.ended()
    reply.go()
    async with function.environment(command):
        await function.settle("tea", 2)
    # The reply may repeat, the history not.
    assert (function.replies("tea"), function.asked("once")) == (["1: once"] * 2, 1)
    await function.mailroom.check_at_rest("tea", turns=1)


async def test_frozen_after_the_response_for_longer_than_a_lease_it_does_the_work_then(function: Deployed) -> None:
    function.api.misbehave.freeze_at_responses = 1
    async with function.process() as process:
        call = function.send("f-1", "tea")
        assert (await call.answer()).status == 202
        await asyncio.sleep(LEASE)  # Nothing tells that a real lease has run out but the time.
        assert function.asked("hello") == 0
        process.thaw()
        await call.over()
        assert function.replies("tea") == ["1: hello"]
        await function.mailroom.check_at_rest("tea", turns=1)


async def test_frozen_until_its_time_is_over_it_leaves_the_work_to_the_next_invocation(function: Deployed) -> None:
    function.api.misbehave.freeze_at_responses = 1
    async with function.process() as process:
        call = function.send("f-1", "tea", timeout=1.0)
        await call.answer()
        await asyncio.sleep(1.0)  # The deadline is of a real process, which is frozen: nothing else tells of it.
        process.thaw()
        await call.over()
        assert (function.asked("hello"), await function.mailroom.waiting("tea")) == (0, 1)
        # What it has noted it does in any invocation.
        call = function.send("f-2", "milk", text="milk")
        await call.over()
        assert (function.replies("tea"), function.replies("milk")) == (["1: hello"], ["1: milk"])


@BOTH
async def test_frozen_in_the_middle_of_its_work_it_sends_and_saves_nothing_more(
    function: Deployed, command: Sequence[str]
) -> None:
    hold = function.hold()
    async with function.environment(command) as frozen:
        function.send("f-1", "tea")
        await hold.wait()
        frozen.freeze()
        async with function.environment(command):
            await function.settle("tea", 1)
            await function.mailroom.check_at_rest("tea", turns=1)
            hold.go()
            frozen.thaw()
            await function.api.idle()
            # It goes on with what comes next.
            await asyncio.gather(*[function.send(f"f-{number}", "tea").over() for number in (2, 3)])
            await function.settle("tea", 3)
    assert [answer.partition(":")[0] for answer in function.replies("tea")] == ["1", "2", "3"]
    await function.mailroom.check_at_rest("tea", turns=3)


async def test_an_update_that_always_takes_too_long_is_set_aside_and_the_next_one_worked_on(function: Deployed) -> None:
    hold = function.hold()
    async with function.process(ATTEMPTS="1"):
        call = function.send("l-1", "tea", timeout=1.5, text="endless")
        await hold.wait()
        await call.over()
        [update] = await function.mailroom.set_aside("tea")
        assert (update.id, update.attempts) == ("l-1", 1)
        assert "longer time-out" in update.error
        await function.send("l-2", "tea", sequence=2, text="short").over()
        await function.mailroom.check_at_rest("tea", turns=1)
    assert function.replies("tea") == ["1: short"]
    hold.go()


async def test_an_environment_that_is_ended_in_the_middle_of_its_work_gives_the_conversation_back(
    function: Deployed,
) -> None:
    hold = function.hold()
    async with function.process() as process:
        function.send("t-1", "tea")
        await hold.wait()
        process.terminate()
        assert await process.ended() == 0
    head = await function.mailroom.head("tea")
    assert (head.lease, head.log, head.hold) == (None, (), {})
    assert await function.mailroom.waiting("tea") == 1
    hold.go()


@BOTH
async def test_a_request_that_does_not_end_leaves_no_lease_behind(function: Deployed, command: Sequence[str]) -> None:
    async with function.environment(command) as process:
        call = function.api.invoke(invocation("tea", "stay"), timeout=10)
        answer = await call.answer()
        assert answer.status == 504 if command is OURS else answer.error is not None
        assert await process.ended() != 0
        assert call.started is not None and time.monotonic() < call.started + 10
    assert await function.mailroom.leases() == [None]
    async with function.environment(command):
        assert (await function.api.invoke(invocation("tea", "hello")).answer()).json["statusCode"] == 200


@BOTH
async def test_an_update_that_always_kills_its_process_is_set_aside(function: Deployed, command: Sequence[str]) -> None:
    call = function.send("k-1", "tea", text="deadly")
    for attempt in range(2):
        hold = function.hold()
        async with function.environment(command, ATTEMPTS="2") as process:
            sweeping = asyncio.create_task(sweep_on(function)) if attempt else None
            await hold.wait()
            process.kill()
            await process.ended()
            if sweeping is not None:
                sweeping.cancel()
                await asyncio.wait({sweeping})
        hold.go()
    assert command is STOCK or (await call.answer()).status == 202
    async with function.environment(command, ATTEMPTS="2"):
        async with asyncio.timeout(20):
            while not (aside := await function.mailroom.set_aside("tea")):
                await function.sweep()
                await asyncio.sleep(0.1)  # The lease of a killed process runs out in real time.
        assert [(update.id, update.attempts) for update in aside] == [("k-1", 2)]
        await function.send("k-2", "tea", sequence=2, text="harmless").over()
        assert function.replies("tea") == ["1: harmless"]
    assert function.asked("deadly") == 2


async def sweep_on(function: Deployed) -> None:
    """Sweep until cancelled: the lease of a killed process has to run out, in real time."""
    while True:
        await function.sweep()
        await asyncio.sleep(0.1)


async def test_managed_instances_work_on_several_conversations_at_once(function: Deployed) -> None:
    async with function.environment(OURS, AWS_LAMBDA_MAX_CONCURRENCY="2"):
        await function.api.ready(2)
        holds = [function.hold(), function.hold()]
        calls = [function.send("i-1", conversation) for conversation in ("tea", "milk")]
        # Each has a process, and a host, of its own.
        for hold in holds:
            await hold.wait()
        for hold in holds:
            hold.go()
        for call in calls:
            await call.over()
        for conversation in ("tea", "milk"):
            assert function.replies(conversation) == ["1: hello"]
            await function.mailroom.check_at_rest(conversation, turns=1)
