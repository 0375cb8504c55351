"""The script that a function's `AWS_LAMBDA_EXEC_WRAPPER` names, run as the managed runtime runs it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import agent_framework_hosting_aws_lambda
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_process import RuntimeProcess
from emulators.lambda_runtime_api import RuntimeApi

from .conftest import HOST, PATH

WRAPPER = Path(agent_framework_hosting_aws_lambda.__file__).with_name("wrapper")
COMMAND = [WRAPPER, sys.executable, "/var/runtime/bootstrap.py"]


async def test_it_starts_our_runtime_with_the_handler_that_the_function_names(tmp_path: Path) -> None:
    (task := tmp_path / "task").mkdir()
    (task / "bot").mkdir()
    # What lies in the task folder is found first, and what AWS brings last.
    (runtime := tmp_path / "runtime").mkdir()
    (other := tmp_path / "other").mkdir()
    for folder, names in ((task, ["one"]), (runtime, ["one", "two"]), (other, ["one", "two"])):
        for name in names:
            (folder / f"shadowed_{name}.py").write_text(f"name = {folder.name!r}")
    names = "import shadowed_one, shadowed_two\nnote(shadowed_one.name + ' ' + shadowed_two.name)\n"
    (task / "bot" / "app.py").write_text(HOST + names)
    env = {
        "PYTHONPATH": os.pathsep.join([str(runtime), str(other), PATH["PYTHONPATH"]]),
        "LAMBDA_TASK_ROOT": str(task),
        "LAMBDA_RUNTIME_DIR": str(runtime),
    }
    async with (
        RuntimeApi() as api,
        RuntimeProcess(api, COMMAND, cwd=tmp_path, env=env, handler="bot/app.host") as process,
    ):
        answer = await api.invoke(function_url(HttpRequest(path="/x"))).answer()
        assert answer.status == 200, process.logs()
        told = json.loads(answer.payload)
        # It has taken the place of the script, so that a signal reaches it.
        assert (told["pid"], told["cwd"]) == (process.pid, str(task))
        assert (task / "notes").read_text().splitlines() == ["task other", "start"]
        process.terminate()
        assert await process.ended() == 0


async def test_a_package_that_was_made_for_another_machine_is_told_as_such(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import no_such_binary")
    (tmp_path / "packaged.lock.txt").write_text("# sparc, Python 3.13\nsome==1.0\n")
    async with RuntimeApi() as api, RuntimeProcess(api, COMMAND, cwd=tmp_path, env=PATH) as process:
        assert await process.ended() == 1
        assert api.init_error is not None and "was made for sparc, Python 3.13, and" in api.init_error.message
        assert "no_such_binary" in api.init_error.message


async def test_without_a_task_folder_it_says_so(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        *map(str, COMMAND),
        env={**os.environ, "LAMBDA_TASK_ROOT": str(tmp_path / "none")},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1 and b"none" in said
