"""The Runtime API under AWS's own parts: the stock runtime on it, and the official emulator beside it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime import EmulatorFailed, InvocationFailed, LambdaEmulator
from emulators.lambda_runtime_api import Answer, RuntimeApi

STOCK = [sys.executable, "-m", "awslambdaric", "app.handler"]
HANDLER = """
import os

def handler(event, context):
    if event == "fail":
        raise LookupError("nothing there")
    if event == "wait":
        os.read(os.open("gate", os.O_RDONLY), 1)
    return {
        "pid": os.getpid(),
        "id": context.aws_request_id,
        "arn": context.invoked_function_arn,
        "left": context.get_remaining_time_in_millis(),
        "trace": os.environ["_X_AMZN_TRACE_ID"],
    }
"""
SNAP_START = {"AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
# Every call out of turn that a runtime can make, and some in turn; what is answered goes into the file `seen`.
PROBE = """
import http.client, json, os

RUNTIME, EXTENSION = "/2018-06-01/runtime", "/2020-01-01/extension"

def ask(method, path, body=None, **headers):
    connection = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"], timeout=20)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    said = json.loads(text) if answer.headers["Content-Type"] == "application/json" else {}
    # Ids differ, and the emulator traces nothing.
    asked = [part for part in path.split("/") if len(part) < 36]
    heads = sorted(name for name in {*answer.headers} - {"Lambda-Runtime-Trace-Id"} if name.startswith("Lambda"))
    with open("seen", "a") as seen:
        print(json.dumps([method, asked, answer.status, heads, said]), file=seen)
    return answer.headers["Lambda-Runtime-Aws-Request-Id"]

register, event, following = EXTENSION + "/register", EXTENSION + "/event/next", RUNTIME + "/invocation/next"
ask("POST", register, '{"events": ["SHUTDOWN"]}', Lambda_Extension_Name="inner")
ask("POST", register, '{"events": ["BIRTH"]}', Lambda_Extension_Name="inner")
ask("POST", register, '{"events": []}')
ask("GET", event)
ask("GET", event, Lambda_Extension_Identifier="x")
ask("GET", event, Lambda_Extension_Identifier="123e4567-e89b-12d3-a456-426614174000")
ask("GET", RUNTIME + "/restore/next")
ask("GET", RUNTIME + "/nowhere")
ask("PUT", following)
ask("POST", RUNTIME + "/invocation/none/response", "1")

first = ask("GET", following)
ask("POST", register, '{"events": []}', Lambda_Extension_Name="late")
ask("POST", RUNTIME + "/init/error", "{}")
ask("POST", RUNTIME + "/invocation/none/response", "1")
ask("POST", RUNTIME + "/invocation/none/error", "{}")
assert ask("GET", following) == first
ask("POST", f"{RUNTIME}/invocation/{first}/response", '"one"')
ask("POST", f"{RUNTIME}/invocation/{first}/response", '"two"')
ask("POST", f"{RUNTIME}/invocation/{first}/error", "{}")

second = ask("GET", following)
ask("POST", f"{RUNTIME}/invocation/{first}/response", '"late"')
ask("POST", f"{RUNTIME}/invocation/{second}/response", "x" * 6_291_557)
ask("POST", f"{RUNTIME}/invocation/{second}/error", "{}")

third = ask("GET", following)
ask("POST", f"{RUNTIME}/invocation/{third}/error", '{"errorType": "Own", "errorMessage": "error"}')
ask("POST", f"{RUNTIME}/invocation/{third}/response", "1")

last = ask("GET", following)
ask("POST", f"{RUNTIME}/invocation/{last}/response", "1", Lambda_Runtime_Function_Response_Mode="odd")
ask("POST", f"{RUNTIME}/invocation/{last}/response", "1")
ask("GET", following)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(HANDLER)
    os.mkfifo(tmp_path / "gate")
    return tmp_path


@pytest.fixture
def probe(tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    def made(name: str) -> tuple[Path, Path]:
        folder = tmp_path / name
        folder.mkdir()
        program = folder / "probe"
        program.write_text(f"#!{sys.executable}{PROBE}")
        program.chmod(0o755)
        return folder, program

    return made


@pytest.mark.needs("lambda-emulator")
async def test_each_call_is_answered_as_by_the_official_emulator(
    probe: Callable[[str], tuple[Path, Path]], lambda_emulator: Path
) -> None:
    folder, program = probe("ours")
    async with RuntimeApi() as api, RuntimeProcess(api, [program], cwd=folder) as process:
        calls = [api.invoke({"number": number}) for number in range(4)]
        ours: list[Answer] = [await call.answer() for call in calls]
        await process.ended()
    theirs: list[object] = []
    official, program = probe("theirs")
    async with LambdaEmulator("any", binary=lambda_emulator, cwd=official, python=str(program)) as function:
        for number in range(4):
            try:
                theirs.append(await function.invoke({"number": number}))
            except InvocationFailed as failed:
                theirs.append((failed.kind, failed.message))
            except EmulatorFailed:
                # It may be gone by now: the probe's last call is its end.
                assert number == 3

    seen = [json.loads(line) for line in (folder / "seen").read_text().splitlines()]
    assert seen == [json.loads(line) for line in (official / "seen").read_text().splitlines()]
    assert len(seen) == 30
    errors = [(answer.error.type, answer.error.message) for answer in ours[1:3] if answer.error is not None]
    assert theirs[:3] == [ours[0].json, *errors]


async def test_the_stock_runtime_gets_and_answers_invocations(folder: Path) -> None:
    async with RuntimeApi(freeze_after_next=True) as api, RuntimeProcess(api, STOCK, cwd=folder) as process:
        call = api.invoke({}, timeout=40, trace_id="Root=1-2-3")
        answer = await call.answer()
        assert answer.json["id"] == call.id and answer.json["arn"] == call.arn
        assert 0 < answer.json["left"] <= 40_000
        assert answer.json["trace"] == "Root=1-2-3"
        assert answer.mode == "buffered" and answer.error is None and answer.status is None
        failed = await api.invoke("fail").answer()
        assert failed.error is not None and failed.error.type == "LookupError"
        assert failed.error.message == "nothing there" and "app.py" in failed.error.trace[0]
        await api.idle()
        assert process.frozen
        process.terminate()
        assert await process.ended() == -15
        assert "nothing there" in process.logs()


async def test_what_the_stock_runtime_cannot_import_is_an_init_error(folder: Path) -> None:
    (folder / "app.py").write_text("import absent_module")
    async with RuntimeApi() as api:
        call = api.invoke({})
        async with RuntimeProcess(api, STOCK, cwd=folder) as process:
            assert await process.ended() == 1
        answer = await call.answer()
    assert answer.error is not None and answer.error == api.init_error
    assert answer.error.type == "Runtime.ImportModuleError" == answer.error.header
    assert "absent_module" in answer.error.message


async def test_the_workers_of_a_managed_instance_take_an_invocation_each(folder: Path) -> None:
    env = {"AWS_LAMBDA_MAX_CONCURRENCY": "2"}
    async with RuntimeApi() as api, RuntimeProcess(api, STOCK, cwd=folder, env=env):
        await api.ready(2)
        calls = [api.invoke("wait"), api.invoke("wait")]
        for call in calls:
            await call.handed_out()
        assert api.polls == 0 and all(call.finished is None for call in calls)
        # Opened like this, a FIFO waits for nobody.
        with (folder / "gate").open("r+b", buffering=0) as gate:
            gate.write(b"go")
            answers = [await call.answer() for call in calls]
        await api.idle()
    assert [answer.json["id"] for answer in answers] == [call.id for call in calls]
    assert len({answer.json["pid"] for answer in answers}) == 2


async def test_the_stock_runtime_is_restored_from_a_snapshot(folder: Path) -> None:
    hook = (
        "\nfrom snapshot_restore_py import register_after_restore\nregister_after_restore(lambda: print('restored'))\n"
    )
    (folder / "app.py").write_text(HANDLER + hook)
    async with (
        RuntimeApi(freeze_after_next=True) as api,
        RuntimeProcess(api, STOCK, cwd=folder, env=SNAP_START) as process,
    ):
        call = api.invoke({})
        await api.snapshot()
        assert process.frozen and call.started is None and "restored" not in process.logs()
        api.restore()
        assert (await call.answer()).json["id"] == call.id
        assert "restored" in process.logs()


async def test_a_hook_that_fails_after_the_restore_is_a_restore_error(folder: Path) -> None:
    hook = "\nfrom snapshot_restore_py import register_after_restore\nregister_after_restore(lambda: 1 / 0)\n"
    (folder / "app.py").write_text(HANDLER + hook)
    async with RuntimeApi() as api, RuntimeProcess(api, STOCK, cwd=folder, env=SNAP_START) as process:
        await api.snapshot()
        api.restore()
        assert await process.ended() == 65
        assert api.restore_error is not None and api.restore_error.type == "ZeroDivisionError"
        assert api.init_error is None
