"""Batches of an SQS trigger, worked off by scripted drains on a loop whose time jumps over every wait."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agent_framework_hosting import HostingError
from agent_framework_hosting.errors import StateDamaged, StateUnavailable
from agent_framework_hosting_aws_lambda.errors import QueueUnavailable, UnsupportedEvent
from agent_framework_hosting_aws_lambda.sqs import wake_body
from agent_framework_hosting_aws_lambda.sqs_events import CLOSING, LAST_WORDS, SWEEP, WAKE_PATIENCE, is_sqs, work_off
from emulators.lambda_events import HttpRequest, function_url, sqs
from tests.support.jumping import now, run

UNTIL = 100.0
TIMELY = [None, 7.5, StateUnavailable("away")]


@dataclass
class Lasting:
    """A drain of some seconds, which takes some more to end once it is cancelled, and may end otherwise then."""

    seconds: float
    result: float | None = None
    last_words: float = 0.0
    failure: Exception | None = None
    swallows: bool = False

    async def __call__(self) -> float | None:
        try:
            await asyncio.sleep(self.seconds)
        except asyncio.CancelledError:
            end = now() + self.last_words
            while now() < end:
                try:
                    await asyncio.sleep(end - now())
                except asyncio.CancelledError:
                    continue
            if self.failure is not None:
                raise self.failure from None
            if not self.swallows:
                raise
        return self.result


Outcome = float | BaseException | Lasting | None


@dataclass
class Script:
    """What the drains of keys come to, and their wakes; what is not in it succeeds at once."""

    drains: Mapping[str, Outcome] = field(default_factory=dict)
    wakes: Mapping[str, Outcome] = field(default_factory=dict)
    drained: list[str] = field(default_factory=list)
    finished: list[str] = field(default_factory=list)
    woken: list[tuple[str, float]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    async def drain(self, key: str) -> float | None:
        self.drained.append(key)
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            delay = await come_to(self.drains.get(key))
        finally:
            self.running -= 1
        if delay is None:
            self.finished.append(key)
        return delay

    async def wake(self, key: str, *, delay: float = 0) -> None:
        await come_to(self.wakes.get(key))
        self.woken.append((key, delay))

    def work(self, event: object, *, until: float = UNTIL, **options: Any) -> list[str]:
        """Work an event off; give what was reported, as the numbers of the messages."""
        result = run(work_off(event, self.drain, self.wake, until=until, **options))
        assert list(result) == ["batchItemFailures"]
        return [number(reported["itemIdentifier"]) for reported in result["batchItemFailures"]]


async def come_to(outcome: Outcome) -> float | None:
    if isinstance(outcome, Lasting):
        return await outcome()
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def number(identifier: str) -> str:
    return identifier.rpartition("-")[2].lstrip("0")


def wakes(*keys: str, group: str | None = None) -> dict[str, Any]:
    return sqs(*map(wake_body, keys), fifo_group=group)


def joined(*events: dict[str, Any]) -> dict[str, Any]:
    """Make one batch of several, its messages numbered through."""
    records = copy.deepcopy([record for event in events for record in event["Records"]])
    for place, record in enumerate(records, 1):
        record["messageId"] = f"id-{place}"
    return {"Records": records}


def test_an_sqs_event_is_told_from_others() -> None:
    assert is_sqs(wakes("a"))
    assert is_sqs(wakes("a", group="g"))
    for other in (None, [], "Records", {}, {"Records": []}, {"Records": {}}, {"Records": ["aws:sqs"]}):
        assert not is_sqs(other)
    assert not is_sqs(function_url(HttpRequest()))
    assert not is_sqs({"Records": [{"eventSource": "aws:s3", "messageId": "1"}]})
    assert not is_sqs({"Records": [{"eventSource": "aws:sqs"}]})


def test_another_event_is_refused() -> None:
    with pytest.raises(UnsupportedEvent, match="no batch of SQS"):
        Script().work(function_url(HttpRequest()))


def test_each_mailbox_is_drained_once() -> None:
    script = Script()
    assert script.work(wakes("a", "b", "a", "c", "b")) == []
    assert Counter(script.drained) == {"a": 1, "b": 1, "c": 1}
    assert script.woken == []


def test_what_is_left_for_later_is_woken_for_then() -> None:
    script = Script({"a": 7.5, "b": 0.2})
    assert script.work(wakes("a", "b", "a")) == []
    assert sorted(script.woken) == [("a", 7.5), ("b", 0.2)]


def test_different_mailboxes_are_drained_at_once_within_bounds() -> None:
    keys = [f"key {place}" for place in range(7)]
    for at_once in (1, 3, 7):
        script = Script(dict.fromkeys(keys, Lasting(5)))
        assert script.work(wakes(*keys), at_once=at_once) == []
        assert script.most == at_once
        assert sorted(script.finished) == keys


@pytest.mark.parametrize("failure", [StateUnavailable("the key a"), StateDamaged("the key a", "the key a")])
def test_a_store_that_fails_has_the_message_sent_again(failure: HostingError, caplog: pytest.LogCaptureFixture) -> None:
    script = Script({"a": failure})
    assert script.work(wakes("a", "b", "a")) == ["1", "3"]
    assert script.finished == ["b"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert type(failure).__name__ in caplog.text
    assert "the key a" not in caplog.text and "Traceback" not in caplog.text


def test_a_defect_has_the_message_sent_again_and_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    script = Script({"a": LookupError("a defect")})
    assert script.work(wakes("a", "b")) == ["1"]
    assert script.finished == ["b"]
    assert "Traceback" in caplog.text and "LookupError: a defect" in caplog.text


def test_a_drain_that_cancels_itself_cancels_nobody_else() -> None:
    script = Script({"a": asyncio.CancelledError(), "b": Lasting(5)}, {"c": asyncio.CancelledError()})
    assert script.work(joined(wakes("a", "b"), wakes("a", group="g"))) == ["1", "3"]
    assert script.finished == ["b"]


@pytest.mark.parametrize(
    "failure",
    [QueueUnavailable("took no message"), LookupError("a defect"), asyncio.CancelledError(), Lasting(UNTIL)],
)
def test_a_wake_that_fails_has_the_message_sent_again(failure: Any, caplog: pytest.LogCaptureFixture) -> None:
    script = Script({"a": 1.0, "b": 1.0}, {"a": failure})
    assert script.work(wakes("a", "b")) == ["1"]
    assert script.woken == [("b", 1.0)]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_when_time_is_up_what_runs_is_given_up_and_woken() -> None:
    script = Script({"a": Lasting(UNTIL + 1), "b": Lasting(UNTIL - 1)})
    assert script.work(wakes("a", "b")) == []
    assert script.finished == ["b"]
    assert script.woken == [("a", 0)]
    assert script.running == 0


def test_when_time_is_up_nothing_is_begun() -> None:
    script = Script({"a": Lasting(UNTIL + 1, last_words=1)})
    assert script.work(wakes("a", "b", "c"), at_once=1) == []
    assert script.drained == ["a"]
    assert sorted(script.woken) == [("a", 0), ("b", 0), ("c", 0)]


def test_without_any_time_everything_is_woken() -> None:
    script = Script(wakes={"b": QueueUnavailable("took no message")})
    assert script.work(wakes("a", "b"), until=0.0) == ["2"]
    assert (script.drained, script.woken) == ([], [("a", 0)])


def test_a_lease_is_given_back_before_anybody_is_woken() -> None:
    order: list[str] = []

    async def drain(key: str) -> float | None:
        try:
            await asyncio.sleep(UNTIL + 1)
        finally:
            await asyncio.sleep(LAST_WORDS - 1)
            order.append("given back")
        return None

    async def wake(key: str, *, delay: float) -> None:
        order.append("woken")

    assert run(work_off(wakes("a"), drain, wake, until=UNTIL)) == {"batchItemFailures": []}
    assert order == ["given back", "woken"]


def test_a_drain_that_ends_although_it_was_cancelled_has_said_what_is_left() -> None:
    late = {
        "done": Lasting(UNTIL + 1, last_words=1, swallows=True),
        "later": Lasting(UNTIL + 1, 5.0, last_words=1, swallows=True),
        "failed": Lasting(UNTIL + 1, last_words=1, failure=StateUnavailable("away")),
    }
    script = Script(late)
    assert script.work(wakes(*late)) == ["3"]
    assert script.woken == [("later", 5.0)]


def test_everything_is_bounded() -> None:
    script = Script({"a": Lasting(UNTIL + 1, last_words=1000)}, {"a": Lasting(1000, last_words=0)})

    async def timed() -> tuple[Any, float]:
        return await work_off(wakes("a"), script.drain, script.wake, until=UNTIL), now()

    result, end = run(timed())
    assert result == {"batchItemFailures": [{"itemIdentifier": wakes("a")["Records"][0]["messageId"]}]}
    assert end == pytest.approx(UNTIL + CLOSING)


@pytest.mark.parametrize("last_words", [1.0, 1000.0])
def test_who_cancels_is_obeyed_once_the_leases_are_given_back(last_words: float) -> None:
    script = Script({"a": Lasting(UNTIL, last_words=last_words), "b": Lasting(UNTIL, last_words=last_words)})

    async def cancelled() -> tuple[int, float]:
        work = asyncio.create_task(work_off(wakes("a", "b", "c"), script.drain, script.wake, until=UNTIL, at_once=2))
        await asyncio.sleep(10)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        return script.running, now()

    running, end = run(cancelled())
    assert (running, end) == ((0, 11.0) if last_words == 1.0 else (2, pytest.approx(10 + LAST_WORDS + 1)))
    assert (script.drained, script.woken) == (["a", "b"], [])


FOREIGN = [
    "",
    "Hello from SQS!",
    "{",
    "null",
    "[]",
    '"wake"',
    "[" * 100_000,
    "\ud800",
    '{"key":"a"}',
    '{"af-hosting":"wake"}',
    '{"af-hosting":"sleep","key":"a"}',
    '{"af-hosting":"wake","key":null}',
    '{"af-hosting":"wake","key":["a"]}',
    '{"af-hosting":"wake","key":"\\ud800"}',
]


def test_what_is_no_wake_comes_to_the_dead_letter_queue(caplog: pytest.LogCaptureFixture) -> None:
    script = Script()
    event = sqs(*FOREIGN, wake_body("a"))
    assert script.work(event) == [str(place) for place in range(1, len(FOREIGN) + 1)]
    assert script.finished == ["a"]
    assert len(caplog.records) == len(FOREIGN)


@pytest.mark.parametrize("part", ["body", "attributes"])
@pytest.mark.parametrize("value", [None, 1, ["a"], {"a": "b"}])
def test_parts_of_other_types_fail_only_their_message(part: str, value: Any) -> None:
    script = Script()
    event = joined(wakes("a"), wakes("b"))
    event["Records"][0][part] = value
    assert script.work(event) == (["1"] if part == "body" else [])
    assert "b" in script.finished


def test_a_group_is_reported_from_its_first_failure_on() -> None:
    script = Script({"b": StateUnavailable("away")})
    event = joined(wakes("a", "b", "c", group="g"), wakes("c", "d", group="h"), wakes("e"))
    assert script.work(event) == ["2", "3"]
    assert sorted(script.finished) == ["a", "c", "d", "e"]


def test_after_a_failure_nothing_of_its_group_is_begun() -> None:
    script = Script()
    assert script.work(sqs(wake_body("a"), "foreign", wake_body("c"), fifo_group="g")) == ["2", "3"]
    assert script.drained == ["a"]


def test_a_group_is_worked_on_in_order_and_groups_at_once() -> None:
    script = Script({"a": Lasting(9), "c": Lasting(9)})
    assert script.work(joined(wakes("a", "b", group="g"), wakes("c", "d", group="h"))) == []
    assert script.drained == ["a", "c", "b", "d"]


def test_a_whole_group_is_woken_when_time_is_up() -> None:
    script = Script({"a": Lasting(UNTIL + 1)}, {"b": QueueUnavailable("took no message")})
    assert script.work(wakes("a", "b", "c", group="g")) == ["2", "3"]
    assert (script.drained, script.woken) == (["a"], [("a", 0)])


def test_a_message_that_comes_twice_is_reported_once() -> None:
    event = wakes("a", "b")
    script = Script({"a": StateUnavailable("away")})
    assert script.work({"Records": [*event["Records"], event["Records"][0]]}) == ["1"]


KEYS = st.sampled_from(["a", "b", "c", "d"])
DRAINS = st.one_of(
    st.none(),
    st.floats(0, 2000),
    st.sampled_from([StateUnavailable("away"), LookupError("a defect"), asyncio.CancelledError()]),
    st.builds(
        Lasting,
        st.floats(0, 2 * UNTIL),
        st.none() | st.just(1.0),
        st.sampled_from([0.0, 1.0, 1000.0]),
        st.none() | st.just(StateUnavailable("away")),
        st.booleans(),
    ),
)
WAKES = st.one_of(
    st.none(),
    st.sampled_from([QueueUnavailable("took no message"), LookupError("a defect"), asyncio.CancelledError()]),
    st.builds(Lasting, st.floats(0, 2 * WAKE_PATIENCE)),
)
RECORDS = st.lists(
    st.tuples(KEYS | st.none(), st.sampled_from([None, None, "g", "h"])).map(
        lambda said: sqs("foreign" if said[0] is None else wake_body(said[0]), fifo_group=said[1])
    ),
    min_size=1,
    max_size=8,
)


@given(
    events=RECORDS,
    drains=st.dictionaries(KEYS, DRAINS),
    woken=st.dictionaries(KEYS, WAKES),
    until=st.sampled_from([-1.0, 0.0, UNTIL]),
    at_once=st.integers(1, 4),
)
@example([wakes("a"), wakes("b")], {"a": Lasting(UNTIL)}, {}, UNTIL, 1)
def test_what_is_not_reported_has_been_drained_or_woken(
    events: Sequence[dict[str, Any]],
    drains: Mapping[str, Outcome],
    woken: Mapping[str, Outcome],
    until: float,
    at_once: int,
) -> None:
    event, script = joined(*events), Script(drains, woken)
    logging.disable()
    try:

        async def timed() -> tuple[dict[str, Any], float, list[str]]:
            result = await work_off(event, script.drain, script.wake, until=until, at_once=at_once)
            return result, now(), [*script.finished]

        result, end, finished = run(timed())
    finally:
        logging.disable(logging.NOTSET)

    reported = [failure["itemIdentifier"] for failure in result["batchItemFailures"]]
    ids = [record["messageId"] for record in event["Records"]]
    assert reported == [each for each in ids if each in reported]
    later = {key for key in script.drained if isinstance(due := drains.get(key), float) and due >= SWEEP}
    settled = {*finished, *later, *(key for key, _ in script.woken)}
    failed: set[str] = set()
    for record in event["Records"]:
        body = record["body"]
        key = None if body == "foreign" else json.loads(body)["key"]
        group = record["attributes"].get("MessageGroupId")
        # Reported is what was not done, all that follows it in its group, and nothing else.
        fails = group in failed or key not in settled
        assert (record["messageId"] in reported) == fails
        if fails and group is not None:
            failed.add(group)
    assert all(count == 1 for count in Counter(script.drained).values())
    assert script.most <= at_once
    assert end <= max(0.0, until) + CLOSING + 0.001


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_key_arrives(key: str) -> None:
    # Through JSON, as between Lambda and the runtime.
    event = json.loads(json.dumps(wakes(key)))
    script = Script()
    assert script.work(event) == []
    assert script.drained == [key]


def test_what_is_due_later_than_the_next_sweep_is_not_woken() -> None:
    script = Script({"a": 59.0, "b": 60.0})
    assert script.work(wakes("a", "b")) == []
    assert script.woken == [("a", 59.0)]
