"""Start and end of a runtime: init errors, the extension, SIGTERM."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from agent_framework_hosting_aws_lambda import LambdaFunction, LambdaHandler
from agent_framework_hosting_aws_lambda.runtime.ending import LAST_WORDS
from agent_framework_hosting_aws_lambda.runtime.loading import load
from agent_framework_hosting_aws_lambda.runtime.loop import LETTING_GO, SHUTDOWN
from emulators.lambda_environment import Extension
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_runtime_api import RuntimeApi

from .conftest import HOST, MODULE, PATH, noted, notes, process_of, running, serving

EVENT = function_url(HttpRequest(path="/x"))


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, whose modules can be imported, and are forgotten after the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    before = {*sys.modules}
    yield tmp_path
    for name in {*sys.modules} - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", None)):
            del sys.modules[name]


FAILING_LIFESPAN = """
@asynccontextmanager
async def fail(app):
    raise LookupError("no such table")
    yield
host.host.app.router.lifespan_context = fail
"""


@pytest.mark.parametrize(
    ("source", "name", "kind", "words"),
    [
        ("import no_such_module_anywhere", "one:host", "ModuleNotFoundError", "no_such_module_anywhere"),
        ("raise LookupError('no such table')", "one:host", "LookupError", "no such table"),
        ("import sys; sys.exit('no key')", "one:host", "SystemExit", "no key"),
        ("host = ", "one:host", "SyntaxError", "invalid syntax"),
        ("other = 1", "one:host", "ConfigurationError", "has no attribute 'host'"),
        ("host = 1", "one.host", "ConfigurationError", "is of type int"),
        ("", "no_such:host", "ModuleNotFoundError", "no_such"),
        ("", "", "ConfigurationError", "use module:attribute"),
        ("", "one", "ConfigurationError", "use module:attribute"),
        ("", ":host", "ConfigurationError", "use module:attribute"),
        (HOST + FAILING_LIFESPAN, "one:host", "LookupError", "no such table"),
    ],
)
async def test_what_fails_before_the_first_invocation_is_an_init_error(
    source: str, name: str, kind: str, words: str, modules: Path
) -> None:
    (modules / "one.py").write_text(source)
    async with running(partial(load, name)) as it:
        call = it.invoke(EVENT)
        assert await it.over == 1
        error = it.api.init_error
        answer = await call.answer()
    assert error is not None and answer.error == error
    assert (error.type, error.header) == (kind, kind)
    assert words in error.message


async def test_hosts_are_named_in_several_ways(modules: Path) -> None:
    (modules / "package").mkdir()
    (modules / "package" / "one.py").write_text(HOST)
    for name in ("package.one:host", "package.one.host", "package/one.host", "package/one:host"):
        async with running(partial(load, name)) as it:
            assert (await it.invoke(EVENT).answer()).status == 200


async def test_the_function_is_started_before_it_asks_for_an_invocation() -> None:
    told: list[str] = []
    gate = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        told.append("starts")
        await gate.wait()
        told.append("started")
        yield
        told.append("ended")

    async def answer(request: Any) -> PlainTextResponse:
        told.append("served")
        return PlainTextResponse("x")

    async with serving(Starlette(routes=[Route("/x", answer)], lifespan=lifespan)) as it:
        call = it.invoke(EVENT)
        await it.api.desk.bell.until(lambda: bool(it.api.extensions), "No extension.", 10)
        assert it.api.polls == 0
        gate.set()
        await call.answer()
    assert told == ["starts", "started", "served", "ended"]


async def test_an_extension_is_registered_for_no_event_and_waits() -> None:
    async with serving(Starlette()) as it:
        await it.api.ready()
        (extension,) = it.api.extensions
        assert (extension.name, extension.events, extension.waits) == ("agent-framework-hosting", (), True)
        await it.invoke({"af-hosting": "ping"}).answer()
        await it.api.idle()
        assert extension.waits


async def test_a_refused_extension_is_done_without() -> None:
    async with serving(Starlette()) as it:
        taken = Extension("agent-framework-hosting", ())
        taken.poll = asyncio.get_running_loop().create_future()
        it.environment.extensions.append(taken)
        assert (await it.invoke({"af-hosting": "ping"}).answer()).json == {"ready": True}
        assert it.api.extensions == [taken]


async def test_sigterm_within_the_start_ends_that() -> None:
    started, cancelled = asyncio.Event(), asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        yield

    async with serving(Starlette(lifespan=lifespan)) as it:
        await started.wait()
        it.runtime.terminate()
        assert await it.over == 0
        assert cancelled.is_set()
        assert it.api.init_error is None


async def test_a_shutdown_that_hangs_is_cut_off(caplog: pytest.LogCaptureFixture) -> None:
    ends = asyncio.Event()

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        ends.set()
        await asyncio.Event().wait()

    async with serving(Starlette(lifespan=lifespan)) as it:
        await it.api.ready()
        it.runtime.terminate()
        await ends.wait()
        it.runtime.terminate()  # A second SIGTERM changes nothing.
        assert await it.over == 0
    assert "Shutdown failed" in caplog.text


HANGING = (
    HOST
    + """
import signal
from time import monotonic, sleep
async def hang(request):
    note("/hang")
    try:
        await asyncio.Event().wait()
    finally:
        note("let go")
async def swallow(request):
    note("/swallow")
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            note("swallowed")
async def leave(request):
    sys.exit(3)
async def thread(request):
    note("/thread")
    await asyncio.to_thread(sleep, 3600)
host = LambdaFunction(Host(
    Route("/hang", hang), Route("/swallow", swallow), Route("/thread", thread), Route("/exit", leave)))
"""
)


@pytest.mark.parametrize("path", ["", "/hang", "/swallow", "/thread"])
async def test_sigterm_ends_the_process_in_time(path: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANGING)
    async with RuntimeApi(freeze_after_next=True) as api, process_of(api, tmp_path) as process:
        await api.ready()
        if path:
            api.invoke(function_url(HttpRequest(path=path)))
            await noted(tmp_path, path)
        else:
            assert (await api.invoke(EVENT).answer()).status == 200
            await api.idle()
        before = time.monotonic()
        process.terminate()
        code = await process.ended()
        took = time.monotonic() - before
        assert (code, "stop" in notes(tmp_path)) == (0, True), process.logs()
    # Lambda kills after 500 ms; the machine that tests may be busy with others.
    assert took < 1.5
    assert LETTING_GO + SHUTDOWN + LAST_WORDS < 0.5


async def test_an_app_that_exits_ends_the_process_and_fails_its_invocation(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HANGING)
    async with RuntimeApi() as api, process_of(api, tmp_path) as process:
        answer = await api.invoke(function_url(HttpRequest(path="/exit"))).answer()
        assert await process.ended() == 3
        assert answer.error is not None and answer.error.type == "Runtime.ExitError"


async def test_an_import_that_fails_in_a_process(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import threading, time, sys\nsys.exit(3)")
    async with RuntimeApi() as api, process_of(api, tmp_path) as process:
        assert await process.ended() == 1
        assert api.init_error is not None and (api.init_error.type, api.init_error.message) == ("SystemExit", "3")
        assert "The function could not be started: 3" in process.logs()


async def test_outside_of_lambda_it_says_so(tmp_path: Path) -> None:
    env = {name: value for name, value in os.environ.items() if name != "AWS_LAMBDA_RUNTIME_API"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        MODULE,
        "app:host",
        cwd=tmp_path,
        env={**env, **PATH},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    assert process.returncode == 1
    assert b"af-hosting serve" in said and b"Traceback" not in said


def test_a_handler_for_the_stock_runtime_is_only_what_it_serves(modules: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(modules)
    (modules / "both.py").write_text(
        HOST + "from agent_framework_hosting_aws_lambda import LambdaHandler\nhandler = LambdaHandler(Host())\n"
    )
    function = load("both.handler")
    assert isinstance(function, LambdaFunction)
    assert notes(modules) == []
    # Elsewhere it starts what it serves.
    LambdaHandler(function.host).close()
    assert notes(modules) == ["start", "stop"]
