"""The Runtime API for tests, by a runtime that does what its events say."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import socket
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime_api import RuntimeApi, RuntimeEnded

# An event is what to send, part for part: text or so many NUL bytes as a chunk, and `"gate"` is waited for. After the
# response it waits for as many gates as the event says, and tells of it.
RUNTIME = r"""
import base64, http.client, json, os, sys

BASE = "/2018-06-01/runtime/invocation/"

def connect():
    return http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=20)

def gate():
    os.read(os.open("gate", os.O_RDONLY), 1)

def answer(connection, id, event):
    connection.putrequest("POST", BASE + id + "/response")
    for name, value in event.get("headers", {}).items():
        connection.putheader(name, value)
    connection.putheader("Transfer-Encoding", "chunked")
    connection.endheaders()
    for part in event.get("parts", []):
        if part == "gate":
            gate()
        else:
            data = bytes(part) if isinstance(part, int) else part.encode()
            connection.send(b"%x\r\n%b\r\n" % (len(data), data))
    trailers = "".join(f"{name}: {value}\r\n" for name, value in event.get("trailers", {}).items())
    connection.send(f"0\r\n{trailers}\r\n".encode())
    said = connection.getresponse()
    said.read()
    return said.status

connection = connect()
while True:
    try:
        connection.request("GET", BASE + "next")
        given = connection.getresponse()
        event = json.loads(given.read())
    except (OSError, http.client.HTTPException) as error:
        print("next:", type(error).__name__)
        connection.close()
        continue
    if given.status != 200:
        sys.exit(f"next: {given.status}")
    if "exit" in event:
        sys.exit(event["exit"])
    try:
        print("answered:", answer(connection, given.headers["Lambda-Runtime-Aws-Request-Id"], event))
    except OSError as error:
        print("answered:", type(error).__name__)
        connection.close()
    for _ in range(event.get("after", 0)):
        gate()
        print("went on")
"""
COMMAND = [sys.executable, "-I", "-S", "-u", "-c", RUNTIME]
PRELUDE = '{"statusCode": 201, "headers": {"a": "b"}, "cookies": ["c=d"]}' + "\0" * 8
HTTP = {
    "Lambda-Runtime-Function-Response-Mode": "streaming",
    "Content-Type": "application/vnd.awslambda.http-integration-response",
}
ERROR_TYPE, ERROR_BODY = "Lambda-Runtime-Function-Error-Type", "Lambda-Runtime-Function-Error-Body"
NEXT, REGISTER, EVENT = (
    "/2018-06-01/runtime/invocation/next",
    "/2020-01-01/extension/register",
    "/2020-01-01/extension/event/next",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@asynccontextmanager
async def started(folder: Path, **options: Any) -> AsyncGenerator[tuple[RuntimeApi, RuntimeProcess]]:
    async with RuntimeApi(**options) as api, RuntimeProcess(api, COMMAND, cwd=folder) as process:
        yield api, process


def stopped(process: RuntimeProcess) -> bool:
    """By its state (proc_pid_stat(5))."""
    return Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def stream(*parts: str | int, **more: object) -> dict[str, object]:
    return {"headers": HTTP, "parts": [PRELUDE, *parts], **more}


def call_api(
    api: RuntimeApi, method: str, path: str, body: str = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(api.address, timeout=20)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, dict(answer.headers), answer.read()
    finally:
        connection.close()


class Gate:
    """What a runtime waits for; a FIFO that is opened like this waits for nobody itself."""

    def __init__(self, folder: Path) -> None:
        self.file = os.open(folder / "gate", os.O_RDWR)

    def __enter__(self) -> Gate:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.file)

    def open(self) -> None:
        os.write(self.file, b".")


async def test_a_stream_is_seen_while_it_comes_and_what_follows_it_until_it_is_over(folder: Path) -> None:
    with Gate(folder) as gate:
        async with started(folder) as (api, process):
            call = api.invoke(stream("one", "gate", "two", after=1))
            arrival, chunk = await call.first_chunk()
            assert chunk == b"one" and call.began is not None and call.began <= arrival and call.finished is None
            gate.open()
            answer = await call.answer()
            assert (answer.mode, answer.status, answer.error) == ("streaming", 201, None)
            assert (answer.headers, answer.cookies) == ({"a": "b"}, ["c=d"])
            assert answer.body == answer.payload == b"onetwo" == call.payload
            assert [chunk for _, chunk in call.chunks] == [b"one", b"two"] and call.chunks[1][0] >= arrival

            assert call.returned is None and "went on" not in process.logs()
            with pytest.raises(TimeoutError, match="answered: 202"):
                await api.idle(timeout=0.05)
            gate.open()
            await api.idle()
            assert call.started and call.finished and call.returned and call.started < call.finished < call.returned
            assert "went on" in process.logs()


async def test_an_error_in_the_trailers_counts_where_they_were_announced(folder: Path) -> None:
    # That is `{"errorType": "Own", "errorMessage": "late", "stackTrace": ["here"]}`.
    body = "eyJlcnJvclR5cGUiOiAiT3duIiwgImVycm9yTWVzc2FnZSI6ICJsYXRlIiwgInN0YWNrVHJhY2UiOiBbImhlcmUiXX0="
    trailers = {ERROR_TYPE: "Function.Own", ERROR_BODY: body}
    headers = {**HTTP, "Trailer": f"{ERROR_TYPE}, {ERROR_BODY}"}
    async with started(folder) as (api, _):
        told = await api.invoke(stream("one", headers=headers, trailers=trailers)).answer()
        lost = await api.invoke(stream("one", trailers=trailers)).answer()
    assert told.error is not None and (told.error.type, told.error.message) == ("Own", "late")
    assert told.error.trace == ("here",) and told.error.header == "Function.Own"
    assert told.body == b"one" and told.status == 201
    assert lost.error is None and not lost.trailers


async def test_streams_need_no_prelude_unless_they_say_they_have_one(folder: Path) -> None:
    plain = {"Lambda-Runtime-Function-Response-Mode": "streaming", "Content-Type": "text/plain"}
    async with started(folder) as (api, _):
        free = await api.invoke({"headers": plain, "parts": ["one"]}).answer()
        assert (free.body, free.prelude, free.status, free.error) == (b"one", None, None, None)
        for parts in (["one"], ["one" + "\0" * 8, "two"]):
            bound = await api.invoke({"headers": HTTP, "parts": parts}).answer()
            assert bound.error is not None and bound.error.type == "Emulator.InvalidPrelude"


async def test_a_proxy_result_is_an_http_response(folder: Path) -> None:
    result = {"statusCode": 404, "headers": {"a": "b"}, "body": "AAE=", "isBase64Encoded": True}
    async with started(folder) as (api, _):
        answer = await api.invoke({"parts": [json.dumps(result)]}).answer()
    assert (answer.mode, answer.status, answer.headers, answer.payload) == ("buffered", 404, {"a": "b"}, b"\0\1")
    assert answer.json == result


async def test_limits_are_kept(folder: Path) -> None:
    async with started(folder, response_limit=1000, stream_limit=2000) as (api, process):
        assert (await api.invoke({"parts": ["x" * 1000]}).answer()).error is None
        assert (await api.invoke(stream("x" * 1900)).answer()).error is None
        for event in ({"parts": ["x" * 1001]}, stream("x" * 1000, "x" * 1000)):
            answer = await api.invoke(event).answer()
            assert answer.error is not None and answer.error.type == "Function.ResponseSizeTooLarge"
        await api.idle()
    assert process.logs() == "answered: 202\n" * 2 + "answered: 413\n" * 2


async def test_a_runtime_that_waits_is_frozen(folder: Path) -> None:
    with Gate(folder) as gate:
        async with started(folder, freeze_after_next=True) as (api, process):
            await api.ready()
            assert process.frozen and stopped(process)
            call = api.invoke(stream("one", "gate"))
            await call.first_chunk()
            assert not stopped(process)
            process.freeze()
            gate.open()
            assert stopped(process) and call.finished is None
            process.thaw()
            await call.answer()
            await api.idle()
            assert stopped(process)
            process.terminate()
            assert await process.ended() == -15


async def test_a_runtime_that_exits_fails_its_invocation_and_the_next_one_goes_to_another(folder: Path) -> None:
    async with RuntimeApi() as api:
        async with RuntimeProcess(api, COMMAND, cwd=folder) as process:
            lost = await api.invoke({"exit": 3}).answer()
            assert lost.error is not None and lost.error.type == "Runtime.ExitError"
            assert lost.error.message.endswith("exit status 3") and await process.ended() == 3
            with pytest.raises(RuntimeEnded):
                await api.ready()
        kept = api.invoke({"parts": ["1"]})
        async with RuntimeProcess(api, COMMAND, cwd=folder):
            assert (await kept.answer()).json == 1
        failed = api.invoke({})
        async with RuntimeProcess(api, [sys.executable, "-c", "print('too early')"], cwd=folder) as process:
            answer = await failed.answer()
        assert answer.error is not None and answer.error.type == "Runtime.ExitError"
        assert "too early" in api.logs()


async def test_a_stream_ends_with_its_process(folder: Path) -> None:
    async with started(folder) as (api, process):
        call = api.invoke(stream("one", "gate"))
        await call.first_chunk()
        process.kill()
        answer = await call.answer()
        assert answer.error is not None and answer.error.type == "Runtime.TruncatedResponse"
        assert (answer.mode, answer.body) == ("streaming", b"one")
        assert await process.ended() == -9


async def test_what_is_no_http_is_refused() -> None:
    async with RuntimeApi() as api:
        reader, writer = await asyncio.open_connection(*api.address.split(":"))
        writer.write(b"nothing of the kind\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()


async def test_a_deadline_that_is_kept_ends_the_process(folder: Path) -> None:
    async with started(folder) as (api, process):
        quick = api.invoke({"parts": ["1"]})
        assert not await api.time_out(quick) and (await quick.answer()).error is None
        slow = api.invoke(stream("one", "gate"), timeout=0.1)
        assert await api.time_out(slow)
        assert await process.ended() == -9
        answer = await slow.answer()
        assert slow.timed_out and answer.error is not None and answer.error.type == "Sandbox.Timedout"
        assert answer.error.message == f"RequestId: {slow.id} Error: Task timed out after 0.10 seconds"
        assert answer.body == b"one"


async def test_requests_for_the_next_invocation_go_wrong_when_asked_to(folder: Path) -> None:
    async with RuntimeApi() as api:
        api.misbehave.drop_next, api.misbehave.garble_next = 2, 1
        async with RuntimeProcess(api, COMMAND, cwd=folder) as process:
            assert (await api.invoke({"parts": ["1"]}).answer()).json == 1
            await api.ready()
            api.hang_up()
            assert (await api.invoke({"parts": ["2"]}).answer()).json == 2
            await api.idle()
    dropped, garbled = "next: RemoteDisconnected", "next: BadStatusLine"
    assert process.logs().splitlines() == [dropped, dropped, garbled, "answered: 202", dropped, "answered: 202"]


async def test_responses_are_refused_when_asked_to(folder: Path) -> None:
    async with started(folder) as (api, process):
        api.misbehave.refuse_responses = [413, 500]
        large = await api.invoke({"parts": ["1"]}).answer()
        assert large.error is not None and large.error.type == "Function.ResponseSizeTooLarge"
        # After 500 there is nothing for a runtime to do but exit.
        lost = await api.invoke(stream("one")).answer()
        assert lost.error is not None and lost.error.type == "Runtime.ExitError"
        assert await process.ended() == 1
    assert process.logs().splitlines() == ["answered: 413", "answered: 500", "next: 403"]


async def test_a_stream_is_broken_off_when_asked_to(folder: Path) -> None:
    async with started(folder) as (api, process):
        api.misbehave.reset_stream_after = 100_000
        broken = await api.invoke(stream(2**22, 2**22)).answer()
        assert broken.error is not None and broken.error.type == "Emulator.StreamReset"
        assert (await api.invoke({"parts": ["1"]}).answer()).json == 1
    assert process.logs().splitlines()[0] in ("answered: ConnectionResetError", "answered: BrokenPipeError")


async def test_a_slow_reader_is_felt() -> None:
    async with RuntimeApi() as api:
        call = api.invoke({})
        api.misbehave.slow = 1000
        _, head, _ = await asyncio.to_thread(call_api, api, "GET", NEXT)
        assert head["Lambda-Runtime-Aws-Request-Id"] == call.id

        def send() -> int:
            host, port = api.address.split(":")
            with socket.create_connection((host, int(port)), timeout=0.1) as client:
                path = NEXT.replace("next", f"{call.id}/response")
                streaming = "Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked"
                client.sendall(f"POST {path} HTTP/1.1\r\n{streaming}\r\n\r\n{2**24:x}\r\n".encode())
                sent = 0
                try:
                    while sent < 2**24:
                        sent += client.send(bytes(2**14))
                except TimeoutError:
                    pass
                return sent

        sent = await asyncio.to_thread(send)
        # The rest fills buffers on both sides.
        assert len(call.payload) < sent < 2**23


async def test_an_extension_is_waited_for_and_told_of_invocations() -> None:
    async with RuntimeApi() as api:
        names = {"Lambda_Extension_Name": "inner"}
        events = json.dumps({"events": ["INVOKE"]})
        status, head, _ = await asyncio.to_thread(lambda: call_api(api, "POST", REGISTER, events, **names))
        assert status == 200
        own = {"Lambda_Extension_Identifier": head["Lambda-Extension-Identifier"]}
        again, _, _ = await asyncio.to_thread(lambda: call_api(api, "POST", REGISTER, events, **names))
        assert again == 403
        call = api.invoke({"n": 1})
        polling = asyncio.create_task(asyncio.to_thread(call_api, api, "GET", NEXT))
        with pytest.raises(TimeoutError):
            await api.ready(timeout=0.05)
        extension = api.extensions[0]
        assert (extension.name, extension.events, extension.waits, call.started) == ("inner", ("INVOKE",), False, None)

        _, _, body = await asyncio.to_thread(lambda: call_api(api, "GET", EVENT, **own))
        assert not api.extensions[0].waits
        event = json.loads(body)
        assert (event["eventType"], event["requestId"]) == ("INVOKE", call.id)
        assert event["tracing"] == {"type": "X-Amzn-Trace-Id", "value": call.trace_id}
        _, head, body = await polling
        assert (head["Lambda-Runtime-Deadline-Ms"], json.loads(body)) == (str(event["deadlineMs"]), {"n": 1})


async def test_an_invocation_goes_to_exactly_one_of_many_pollers() -> None:
    async with RuntimeApi() as api:
        polls = [asyncio.create_task(asyncio.to_thread(call_api, api, "GET", NEXT)) for _ in range(4)]
        await api.ready(4)
        calls = [api.invoke(number) for number in range(4)]
        heads = [head for _, head, _ in await asyncio.gather(*polls)]
        taken = [head["Lambda-Runtime-Aws-Request-Id"] for head in heads]
        assert sorted(taken) == sorted(call.id for call in calls)
        for identity in taken:
            path = NEXT.replace("next", f"{identity}/response")
            assert (await asyncio.to_thread(call_api, api, "POST", path, identity))[0] == 202
            assert (await asyncio.to_thread(call_api, api, "POST", path, identity))[0] == 400
        assert [(await call.answer()).body.decode() for call in calls] == [call.id for call in calls]
