from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import PlainTextResponse, Response
from starlette.types import Message

from agent_framework_hosting.sse import BOUND, HELD, EventStream, Outgoing, encode_event
from tests.support.asgi import PATIENCE, Connection
from tests.support.sse import Event, parse_events

BREAKS = ["\r", "\n", "\r\n", "\n\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\0", "\ufeff", ":", " ", "data: "]
texts = st.lists(st.sampled_from(BREAKS) | st.text(st.characters(exclude_categories=["Cs"]))).map("".join)


def with_line_feeds(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


@given(st.lists(texts))
def test_any_chunks_come_back_with_line_feeds(chunks: list[str]) -> None:
    events = parse_events(b"".join(encode_event(chunk) for chunk in chunks))
    assert events == [Event(with_line_feeds(chunk)) for chunk in chunks]


@given(st.lists(st.tuples(texts, st.none() | st.text("ab é:", min_size=1), st.none() | st.text("12:"))))
def test_names_and_ids_come_back_too(sent: list[tuple[str, str | None, str | None]]) -> None:
    last_id = ""
    expected: list[Event] = []
    for data, event, event_id in sent:
        last_id = last_id if event_id is None else event_id
        expected.append(Event(with_line_feeds(data), event or "message", last_id))
    assert parse_events(b"".join(encode_event(d, event=e, id=i) for d, e, i in sent)) == expected


@given(st.text(st.characters()))
def test_any_text_at_all_makes_one_event_in_utf8(text: str) -> None:
    frame = encode_event(text)
    frame.decode()
    assert len(parse_events(frame)) == 1


def test_frames_are_as_plain_as_they_can_be() -> None:
    assert encode_event("hi") == b"data: hi\n\n"
    assert encode_event("") == b"data: \n\n"
    assert encode_event("a\r\nb\rc\n") == b"data: a\ndata: b\ndata: c\ndata: \n\n"
    assert encode_event("x", event="result", id="7") == b"event: result\nid: 7\ndata: x\n\n"
    assert encode_event("\ud83d\ude00 \ud800") == "data: 😀 \ufffd\n\n".encode()


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\0b"])
def test_names_and_ids_are_one_line(value: str) -> None:
    with pytest.raises(ValueError, match="line breaks"):
        encode_event("x", event=value)
    with pytest.raises(ValueError, match="line breaks"):
        encode_event("x", id=value)


def refuse(error: Exception) -> Response:
    return PlainTextResponse(f"refused: {error}", 418)


def report(error: Exception) -> bytes:
    return encode_event(str(error), event="error")


def stream(frames: AsyncGenerator[bytes, None], **how: Any) -> EventStream:
    return EventStream(frames, refuse=refuse, report=report, **{"interval": 60.0, **how})


class Source:
    """Frames that stop at a gate, and what became of them."""

    def __init__(self, *before: bytes, cleanup: Callable[[], Any] | None = None) -> None:
        self.before = before
        self.gate = asyncio.Event()
        self.waiting = asyncio.Event()
        self.ended = ""
        self.cleanup = cleanup

    async def frames(self) -> AsyncGenerator[bytes, None]:
        try:
            for frame in self.before:
                yield frame
            self.waiting.set()
            await self.gate.wait()
            yield b"data: after\n\n"
            self.ended = "complete"
        except BaseException as error:
            self.ended = type(error).__name__
            raise
        finally:
            if self.cleanup is not None:
                await self.cleanup()


async def frames_of(*frames: bytes | Exception) -> AsyncGenerator[bytes, None]:
    for frame in frames:
        if isinstance(frame, Exception):
            raise frame
        yield frame


async def test_frames_go_out_one_by_one_with_the_headers_that_keep_them_so() -> None:
    source = Source(b"data: 1\n\n")
    async with Connection(stream(source.frames())) as connection:
        await connection.until_body(b"data: 1")
        source.gate.set()
        reply = await connection.end()
    assert reply.status == 200
    assert reply.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    assert reply.body == b"data: 1\n\ndata: after\n\n"
    assert [message.get("more_body") for message in connection.outgoing[1:]] == [True, True, False]
    assert source.ended == "complete"


async def test_a_source_may_set_headers_until_its_first_frame() -> None:
    headers: dict[str, str] = {}

    async def frames() -> AsyncGenerator[bytes, None]:
        headers["X-Replayed"] = "true"
        yield b"data: 1\n\n"

    async with Connection(stream(frames(), headers=headers)) as connection:
        assert (await connection.end()).headers["x-replayed"] == "true"


async def test_a_failure_before_the_first_byte_is_an_ordinary_response() -> None:
    async with Connection(stream(frames_of(ValueError("busy")))) as connection:
        reply = await connection.end()
    assert (reply.status, reply.body) == (418, b"refused: busy")


async def test_a_failure_after_it_is_the_last_frame() -> None:
    async with Connection(stream(frames_of(b"data: 1\n\n", ValueError("broke"), b"never"))) as connection:
        reply = await connection.end()
    assert reply.status == 200
    assert parse_events(reply.body) == [Event("1"), Event("broke", "error")]


@pytest.mark.parametrize("error", [TimeoutError("slow"), OSError("disk")])
async def test_a_source_that_fails_like_a_connection_is_still_a_failing_source(error: Exception) -> None:
    async with Connection(stream(frames_of(b"data: 1\n\n", error))) as connection:
        assert parse_events((await connection.end()).body)[-1].type == "error"


async def test_no_frames_are_a_response_too() -> None:
    async with Connection(stream(frames_of())) as connection:
        reply = await connection.end()
    assert (reply.status, reply.body) == (200, b"")


async def test_comments_keep_a_silent_stream_alive_also_before_its_first_frame() -> None:
    source = Source()
    async with Connection(stream(source.frames(), interval=0.005)) as connection:
        await connection.until(lambda: connection.body.count(b": keep-alive\n\n") >= 3)
        source.gate.set()
        reply = await connection.end()
    assert parse_events(reply.body) == [Event("after")]
    assert source.ended == "complete"


class StillLoop(asyncio.SelectorEventLoop):
    """A loop whose time stands still until it is moved."""

    now = 0.0

    def time(self) -> float:
        return self.now

    async def move(self, seconds: float) -> None:
        """Let time go by, and what it wakes run."""
        self.now += seconds
        for _ in range(20):
            await asyncio.sleep(0)


def test_by_default_a_comment_breaks_a_silence_of_15_seconds() -> None:
    loop = StillLoop()

    async def silent() -> None:
        source = Source(b"data: 1\n\n")
        async with Connection(EventStream(source.frames(), refuse=refuse, report=report)) as connection:
            await loop.move(0)
            assert connection.body == b"data: 1\n\n"
            for told in (b"", b": keep-alive\n\n"):
                await loop.move(14)
                assert connection.body == b"data: 1\n\n" + told
                await loop.move(1)
            assert connection.body == b"data: 1\n\n" + b": keep-alive\n\n" * 2

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(silent())


async def test_once_a_comment_is_out_a_failure_is_a_frame() -> None:
    gate = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        await gate.wait()
        raise ValueError("late")
        yield b""

    async with Connection(stream(frames(), interval=0.005)) as connection:
        await connection.until_body(b": keep-alive")
        gate.set()
        reply = await connection.end()
    assert reply.status == 200
    assert parse_events(reply.body) == [Event("late", "error")]


async def test_a_stream_that_speaks_needs_no_comments() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        for _ in range(100):
            await asyncio.sleep(0)
            yield b"data: x\n\n"

    async with Connection(stream(frames())) as connection:
        assert b"keep-alive" not in (await connection.end()).body


async def test_comments_do_not_split_a_frame_that_is_being_written() -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        for number in range(50):
            yield encode_event(str(number))
            await asyncio.sleep(0)

    async with Connection(stream(frames(), interval=0.0)) as connection:
        reply = await connection.end()
    assert [event.data for event in parse_events(reply.body)] == [str(number) for number in range(50)]
    assert reply.body.count(b"keep-alive") > 1


async def test_when_the_client_goes_the_source_is_cancelled_once_and_cleans_up() -> None:
    cleaned: list[str] = []

    async def cleanup() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        cleaned.append("done")

    source = Source(b"data: 1\n\n", cleanup=cleanup)
    async with Connection(stream(source.frames())) as connection:
        await connection.until_body(b"data: 1")
        await source.waiting.wait()
        connection.disconnect()
        await connection.end()
    assert (source.ended, cleaned) == ("CancelledError", ["done"])
    assert b"after" not in connection.body


async def test_a_source_that_swallows_its_cancellation_is_asked_for_no_further_frame() -> None:
    steps: list[str] = []
    waiting = asyncio.Event()

    async def frames() -> AsyncGenerator[bytes, None]:
        try:
            yield b"data: 1\n\n"
            try:
                waiting.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                steps.append("swallowed")
            yield b"data: 2\n\n"
            steps.append("asked again")
            yield b"data: 3\n\n"
        finally:
            steps.append("closed")

    async with Connection(stream(frames())) as connection:
        await connection.until_body(b"data: 1")
        async with asyncio.timeout(PATIENCE):
            await waiting.wait()
        connection.disconnect()
        await connection.end()
    assert steps == ["swallowed", "closed"]
    assert connection.body == b"data: 1\n\n"


async def test_a_client_that_goes_before_the_first_byte_is_noticed() -> None:
    source = Source()
    async with Connection(stream(source.frames())) as connection:
        await source.waiting.wait()
        connection.disconnect()
        await connection.until(lambda: connection.task is not None and connection.task.done())
    assert source.ended == "CancelledError"


async def test_a_write_to_a_client_that_is_gone_closes_the_source() -> None:
    source = Source(b"data: 1\n\n", b"data: 2\n\n", b"data: 3\n\n")
    async with Connection(stream(source.frames())) as connection:
        connection.broken = True
        await connection.until(lambda: connection.task is not None and connection.task.done())
        assert connection.task is not None
        assert connection.task.exception() is None
    assert source.ended == "GeneratorExit"


async def test_a_comment_to_a_client_that_is_gone_cancels_the_source() -> None:
    source = Source(b"data: 1\n\n")
    async with Connection(stream(source.frames(), interval=0.005)) as connection:
        await connection.until_body(b"data: 1")
        connection.broken = True
        await connection.until(lambda: connection.task is not None and connection.task.done())
    assert source.ended == "CancelledError"


async def test_a_cancelled_request_stays_cancelled_and_cleans_up() -> None:
    cleaned: list[str] = []

    async def cleanup() -> None:
        await asyncio.sleep(0)
        cleaned.append("done")

    source = Source(b"data: 1\n\n", cleanup=cleanup)
    async with Connection(stream(source.frames())) as connection:
        await connection.until_body(b"data: 1")
        await source.waiting.wait()
        assert connection.task is not None
        connection.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await connection.task
    assert (source.ended, cleaned) == ("CancelledError", ["done"])


async def test_a_server_that_cancels_again_and_again_leaves_nothing_running() -> None:
    before = asyncio.all_tasks()
    source = Source(b"data: 1\n\n")
    connection = Connection(stream(source.frames()))
    async with anyio.create_task_group() as group:
        group.start_soon(connection.run)
        await source.waiting.wait()
        group.cancel_scope.cancel()
    assert source.ended == "CancelledError"
    assert asyncio.all_tasks() == before


async def test_the_source_runs_in_one_context_from_start_to_end() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def frames() -> AsyncGenerator[bytes, None]:
        token = variable.set("inside")
        with anyio.CancelScope():
            yield b"data: 1\n\n"
            yield variable.get().encode()
        variable.reset(token)

    async with Connection(stream(frames(), interval=0.005)) as connection:
        assert (await connection.end()).body == b"data: 1\n\ninside"


async def test_nothing_is_left_running() -> None:
    before = asyncio.all_tasks()
    async with Connection(stream(frames_of(b"data: 1\n\n"))) as connection:
        await connection.end()
    async with Connection(stream(frames_of(ValueError("x")))) as connection:
        await connection.end()
    assert asyncio.all_tasks() == before


class Stalled(Connection):
    """A client that takes `taken` messages and then stops reading, without going away."""

    taken = 0

    async def deliver(self, message: Message) -> None:
        if len(self.outgoing) >= self.taken:
            await asyncio.Event().wait()
        await super().deliver(message)

    async def over(self) -> None:
        """Wait for the end of the request; raises what the app raised."""
        assert self.task is not None
        async with asyncio.timeout(PATIENCE):
            await asyncio.shield(self.task)


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_client_that_stops_reading_counts_as_gone_and_the_source_is_closed(taken: int) -> None:
    before = asyncio.all_tasks()
    cleaned: list[str] = []

    async def cleanup() -> None:
        await asyncio.sleep(0)
        cleaned.append("done")

    source = Source(*[b"data: 1\n\n"] * 3, cleanup=cleanup)
    async with Stalled(stream(source.frames(), patience=0.05)) as connection:
        connection.taken = taken
        await connection.over()
    assert (source.ended, cleaned) == ("GeneratorExit", ["done"])
    assert not source.waiting.is_set(), "nobody asks the source for frames that nobody takes"
    assert len(connection.outgoing) == taken
    assert asyncio.all_tasks() == before


@pytest.mark.parametrize("taken", [0, 2], ids=["before-the-first-byte", "after-a-frame"])
async def test_a_client_that_takes_no_comment_counts_as_gone_and_the_source_is_cancelled(taken: int) -> None:
    source = Source(*[b"data: 1\n\n"] * (taken - 1))
    async with Stalled(stream(source.frames(), interval=0.005, patience=0.05)) as connection:
        connection.taken = taken
        await connection.over()
    assert source.waiting.is_set()
    assert source.ended == "CancelledError"
    assert len(connection.outgoing) == taken


async def test_a_client_that_takes_nothing_of_a_failure_counts_as_gone() -> None:
    async with Stalled(stream(frames_of(b"data: 1\n\n", ValueError("broke")), patience=0.05)) as connection:
        connection.taken = 2
        await connection.over()
    assert connection.body == b"data: 1\n\n"


def in_still_time(work: Callable[[StillLoop], Coroutine[Any, Any, None]]) -> None:
    loop = StillLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(work(loop))


def test_many_frames_are_few_messages() -> None:
    sent = [encode_event(str(number)) for number in range(50_000)]

    async def quick(loop: StillLoop) -> None:
        async with Connection(stream(frames_of(*sent))) as connection:
            assert (await connection.end()).body == b"".join(sent)
            sizes = [len(message["body"]) for message in connection.outgoing[1:]]
            assert len(sizes) < 40
            assert max(sizes) < BOUND + len(sent[-1])

    in_still_time(quick)


@pytest.mark.parametrize(("each", "behind"), [(HELD * 1.1, 0), (HELD * 0.6, 1)], ids=["slow", "quicker"])
def test_a_source_that_works_without_waiting_is_heard_all_the_same(each: float, behind: int) -> None:
    heard: list[bytes] = []

    async def work(loop: StillLoop) -> None:
        async def frames() -> AsyncGenerator[bytes, None]:
            for number in range(100):
                yield encode_event(str(number))
                heard.append(connection.body)
                loop.now += each

        async with Connection(stream(frames())) as connection:
            await connection.end()
        for number in range(behind, 100):
            assert encode_event(str(number - behind)) in heard[number]

    in_still_time(work)


@pytest.mark.parametrize("pause", [False, True], ids=["quick", "waiting"])
async def test_what_a_client_does_not_read_is_bounded(pause: bool) -> None:
    made = 0
    frame = b"data: " + b"x" * 992 + b"\n\n"

    async def frames() -> AsyncGenerator[bytes, None]:
        nonlocal made
        while True:
            made += 1
            yield frame
            if pause:
                await asyncio.sleep(0)

    async with Stalled(stream(frames(), patience=0.1)) as connection:
        connection.taken = 100
        await connection.over()
    taken = len(connection.body)
    assert taken > 0
    assert made * len(frame) - taken <= 2 * (BOUND + len(frame))


async def test_what_was_said_before_a_pause_is_out_before_the_pause_is_over() -> None:
    gates = [asyncio.Event() for _ in range(30)]

    async def frames() -> AsyncGenerator[bytes, None]:
        for number, gate in enumerate(gates):
            for part in range(number):
                yield encode_event(f"{number} {part}")
            yield encode_event(f"{number} end")
            await gate.wait()

    async with Connection(stream(frames())) as connection:
        for number, gate in enumerate(gates):
            await connection.until_body(encode_event(f"{number} end"))
            gate.set()
        assert len(parse_events((await connection.end()).body)) == sum(range(31))


def test_a_pause_is_two_rounds_of_the_loop_long_enough() -> None:
    """A lone frame leaves in the round after the one in which its source began to wait."""

    async def lone(loop: StillLoop) -> None:
        sent: list[Message] = []
        said = asyncio.Queue[bytes]()

        async def frames() -> AsyncGenerator[bytes, None]:
            while True:
                yield await said.get()

        async def send(message: Message) -> None:
            sent.append(message)

        request = asyncio.create_task(stream(frames())({}, asyncio.Queue[Message]().get, send))
        await loop.move(0)
        for number in range(20):
            said.put_nowait(encode_event(str(number)))
            for _ in range(4):  # to wake the source, to wake who sends, and one each for them to have run
                await asyncio.sleep(0)
            assert sent[-1]["body"] == encode_event(str(number))
        request.cancel()

    in_still_time(lone)


steps = st.lists(st.integers(0, 3) | st.binary(min_size=1, max_size=50) | st.just(b"x" * 40_000), max_size=60)


@given(steps, st.booleans())
def test_whatever_is_said_and_waited_for_arrives_complete_and_in_order(said: list[int | bytes], slow: bool) -> None:
    async def frames() -> AsyncGenerator[bytes, None]:
        for step in said:
            if isinstance(step, bytes):
                yield step
            else:
                for _ in range(step):
                    await asyncio.sleep(0)

    async def heard() -> bytes:
        async with (SlowConnection if slow else Connection)(stream(frames())) as connection:
            return (await connection.end()).body

    assert asyncio.run(heard()) == b"".join(step for step in said if isinstance(step, bytes))


class SlowConnection(Connection):
    async def deliver(self, message: Message) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().deliver(message)


async def test_a_source_may_add_what_it_says_and_yield_where_it_is_to_wait() -> None:
    outgoing = Outgoing()

    def encode(number: int) -> bytes:
        return b"" if number % 3 == 0 else encode_event(str(number))

    add = outgoing.adding(encode)
    gate = asyncio.Event()
    waits = 0

    async def frames() -> AsyncGenerator[bytes, None]:
        nonlocal waits
        yield encode_event("first")
        for number in range(20_000):
            if add(number):
                waits += 1
                yield b""
        await gate.wait()
        outgoing.add(encode_event("last"))

    async with Connection(stream(frames(), outgoing=outgoing)) as connection:
        await connection.until_body(encode_event("19999"))
        gate.set()
        reply = await connection.end()
    numbers = [str(number) for number in range(20_000) if number % 3]
    assert [event.data for event in parse_events(reply.body)] == ["first", *numbers, "last"]
    assert waits > 0


async def test_what_was_added_before_a_failure_is_sent_before_it() -> None:
    outgoing = Outgoing()

    async def frames() -> AsyncGenerator[bytes, None]:
        outgoing.add(encode_event("said"))
        raise ValueError("broke")
        yield

    async with Connection(stream(frames(), outgoing=outgoing)) as connection:
        reply = await connection.end()
    assert reply.status == 200
    assert parse_events(reply.body) == [Event("said"), Event("broke", "error")]


async def test_others_have_their_turn_beside_a_source_that_never_waits() -> None:
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def frames() -> AsyncGenerator[bytes, None]:
        while turns < 20:
            yield b"data: " + b"x" * BOUND + b"\n\n"

    task = asyncio.create_task(other())
    async with Connection(stream(frames())) as connection:
        await connection.end()
    task.cancel()


async def test_a_server_that_refuses_a_message_is_told_of_and_the_source_is_closed() -> None:
    async def send(message: Message) -> None:
        if message.get("body"):
            raise RuntimeError("unexpected message")

    source = Source(b"data: 1\n\n")
    with pytest.raises(RuntimeError, match="unexpected message"):
        await stream(source.frames())({}, asyncio.Queue[Message]().get, send)
    assert source.ended == "GeneratorExit"
