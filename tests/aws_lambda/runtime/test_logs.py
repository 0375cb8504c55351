"""What a runtime writes: a line for a record, with the invocation that it belongs to, and no secrets."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime_api import Invocation, RuntimeApi

from .conftest import HOST, process_of

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOGGING = (
    HOST
    + """
import logging, threading
logger = logging.getLogger("own")

def say(what):
    logger.warning("%s", what)

async def talk(request):
    say("in the request")
    await asyncio.to_thread(say, "in a thread of the request")
    thread = threading.Thread(target=say, args=("in a thread of its own",))
    thread.start()
    thread.join()
    await asyncio.get_running_loop().run_in_executor(None, say, "in an executor")
    await asyncio.create_task(later())
    logger.warning("two\\nlines\\r\\nand [forged]\\tmore")
    try:
        raise LookupError("lost")
    except LookupError:
        logger.exception("failed")
    logging.getLogger("quiet").info("too quiet")
    request.app.state.left = asyncio.create_task(left(asyncio.current_task()))
    return PlainTextResponse("x")

async def later():
    say("in a task")

async def left(of):
    await asyncio.wait({of})
    say("in a task that was left behind")

async def tell(request):
    print("printed")
    return PlainTextResponse("x")

host = LambdaFunction(Host(Route("/talk", talk), Route("/print", tell)))
"""
)
PLACES = ("the request", "a thread of the request", "a thread of its own", "an executor", "a task")


class Process:
    def __init__(self, api: RuntimeApi, process: RuntimeProcess) -> None:
        self.api = api
        self.process = process

    async def talk(self, path: str = "/talk") -> tuple[Invocation, list[str]]:
        """Call it, and give what it wrote."""
        before = len(self.process.logs())
        call = self.api.invoke(function_url(HttpRequest(path=path)))
        assert (await call.answer()).payload == b"x", self.process.logs()
        await self.api.idle()
        return call, self.process.logs()[before:].splitlines(keepends=False)


async def started(folder: Path, **env: str) -> AsyncIterator[Process]:
    (folder / "app.py").write_text(LOGGING)
    # As on Lambda, where standard output is no terminal and Python would keep what is printed for a while.
    async with RuntimeApi() as api, process_of(api, folder, PYTHONUNBUFFERED="", **env) as process:
        await api.ready()
        yield Process(api, process)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def text(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    async for process in started(tmp_path_factory.mktemp("text")):
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def structured(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Process]:
    env = {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": "INFO"}
    async for process in started(tmp_path_factory.mktemp("json"), **env):
        yield process


async def test_lines_of_text(text: Process) -> None:
    for _ in range(2):
        call, lines = await text.talk()
        # splitlines parts at carriage returns as well, which a log does not.
        whole = "\n".join(lines)
        for place in PLACES:
            (line,) = [line for line in lines if line.endswith(f"in {place}")]
            level, moment, ids, said = line.split("\t")
            assert (level, ids, said) == ("[WARNING]", f"{call.id} {call.trace_id}", f"own: in {place}")
            assert moment.endswith("Z")
        assert "LookupError: lost" in whole and "too quiet" not in whole


async def test_a_record_is_one_line(text: Process) -> None:
    before = len(text.process.logs())
    await text.talk()
    lines = text.process.logs()[before:].split("\n")
    (forged,) = [line for line in lines if "own: two" in line]
    assert forged.endswith("two\rlines\r\rand [forged]\tmore")
    (failed,) = [line for line in lines if "own: failed" in line]
    assert "Traceback" in failed and failed.endswith("LookupError: lost")


async def test_what_is_printed_is_there_when_the_environment_is_frozen(text: Process) -> None:
    assert (await text.talk("/print"))[1] == ["printed"]


async def test_a_task_that_is_left_behind_keeps_its_invocation(text: Process) -> None:
    first, _ = await text.talk()
    await text.talk()
    left = [line for line in text.process.logs().split("\n") if line.endswith("left behind") and first.id in line]
    assert len(left) == 1


async def test_records_of_json(structured: Process) -> None:
    for _ in range(2):
        call, lines = await structured.talk()
        records: list[dict[str, Any]] = [json.loads(line) for line in lines]
        by_message = {record["message"]: record for record in records}
        for place in PLACES:
            record = by_message[f"in {place}"]
            assert (record["requestId"], record["traceId"]) == (call.id, call.trace_id)
            assert (record["level"], record["logger"]) == ("WARNING", "own")
        assert by_message["too quiet"]["level"] == "INFO"
        assert by_message["failed"]["errorType"] == "LookupError"
        assert by_message["failed"]["stackTrace"][-1] == "LookupError: lost"
        assert "two\nlines\r\nand [forged]\tmore" in by_message


async def test_what_is_between_invocations_belongs_to_none(structured: Process) -> None:
    await structured.talk()
    before = len(structured.process.logs())
    structured.api.misbehave.drop_next = 1
    structured.api.hang_up()
    await structured.talk()
    told = [json.loads(line) for line in structured.process.logs()[before:].splitlines() if line.startswith("{")]
    between = [record for record in told if "did not answer" in record["message"]]
    assert between and not any("requestId" in record for record in between)


AGENT = """
from opentelemetry import trace
from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_aws_lambda import LambdaFunction
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.targets import ScriptedAgent
from tests.support.tracing import RememberingProvider

provider = RememberingProvider()
trace.set_tracer_provider(provider)

def act(messages, session):
    if messages[-1].text == "fail":
        raise ValueError("key-0123456789abcdef")
    return "x"

agent = AgentFrameworkHost(
    ScriptedAgent(act), channels=[InvocationsChannel(auth={"one": "key-0123456789abcdef"})], state_dir="state")
host = LambdaFunction(agent, on_event=lambda event, context: [[span.name, span.attributes] for span in provider.spans])
"""


async def test_turns_are_told_with_their_invocation_and_without_secrets(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(AGENT)
    headers = [("authorization", "Bearer key-0123456789abcdef"), ("content-type", "application/json")]
    async with RuntimeApi() as api, process_of(api, tmp_path, SECRET="key-0123456789abcdef") as process:
        calls = {
            text: api.invoke(
                function_url(HttpRequest("POST", "/invocations", headers=headers, body=json.dumps(body).encode()))
            )
            for text in ("fine words", "fail")
            for body in [{"message": text, "session_id": "its-own-name"}]
        }
        statuses = {text: (await call.answer()).status for text, call in calls.items()}
        assert statuses == {"fine words": 200, "fail": 500}
        spans = (await api.invoke({"own": "spans"}).answer()).json
        logs = process.logs()
    turns = [attributes for name, attributes in spans if name == "hosting.turn"]
    assert [turn["faas.invocation_id"] for turn in turns] == [calls["fine words"].id, calls["fail"].id]
    assert turns[0]["aws.xray.trace_header"] == calls["fine words"].trace_id
    for call in calls.values():
        assert any("invocations" in line for line in logs.split("\n") if call.id in line)
    assert "Bearer" not in logs and "its-own-name" not in logs and "fine words" not in logs
