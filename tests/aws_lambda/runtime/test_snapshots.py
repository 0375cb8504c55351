"""SnapStart: what is in the snapshot, and what is done anew after it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import snapshot_restore_py
from starlette.applications import Starlette

from agent_framework_hosting_aws_lambda import LambdaFunction
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_runtime_api import RuntimeApi
from tests.aws_lambda.conftest import StubHost

from .conftest import HOST, notes, process_of, running

EVENT = function_url(HttpRequest(path="/x"))


@pytest.fixture
def snapshots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_LAMBDA_INITIALIZATION_TYPE", "snap-start")
    for name in ("_before_snapshot_registry", "_after_restore_registry"):
        monkeypatch.setattr(snapshot_restore_py, name, [])


@pytest.mark.usefixtures("snapshots")
async def test_a_snapshot_holds_modules_and_no_started_app() -> None:
    told: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        told.append("started")
        yield

    def loaded() -> LambdaFunction:
        told.append("imported")
        for number in (1, 2):
            snapshot_restore_py.register_before_snapshot(told.append, f"before {number}")
            snapshot_restore_py.register_after_restore(told.append, f"after {number}")
        random.seed(7)
        return LambdaFunction(StubHost(Starlette(lifespan=lifespan)))

    async with running(loaded, snap_start=True) as it:
        await it.api.snapshot()
        # The last of the hooks that is registered is called first, as the stock runtime does it.
        assert told == ["imported", "before 2", "before 1"]
        it.api.restore()
        assert (await it.invoke({"af-hosting": "ping"}).answer()).json == {"ready": True}
        assert told[3:] == ["after 1", "after 2", "started"]
    # Every clone would go on with the same numbers.
    assert random.random() != random.Random(7).random()


@pytest.mark.usefixtures("snapshots")
@pytest.mark.parametrize("where", ["hook", "lifespan"])
async def test_what_fails_after_a_restore_is_a_restore_error(where: str, caplog: pytest.LogCaptureFixture) -> None:
    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        if where == "lifespan":
            fail()
        yield

    def fail() -> None:
        raise LookupError("no such table")

    def loaded() -> LambdaFunction:
        if where == "hook":
            snapshot_restore_py.register_after_restore(fail)
        return LambdaFunction(StubHost(Starlette(lifespan=lifespan)))

    async with running(loaded, snap_start=True) as it:
        await it.api.snapshot()
        it.api.restore()
        assert await it.over == 1
        error = it.api.restore_error
        assert it.api.init_error is None
    assert error is not None and (error.type, error.message) == ("LookupError", "no such table")
    assert "no such table" in caplog.text


@pytest.mark.usefixtures("snapshots")
async def test_what_fails_before_a_snapshot_is_an_init_error() -> None:
    def fail() -> None:
        raise LookupError("no such table")

    def loaded() -> LambdaFunction:
        snapshot_restore_py.register_before_snapshot(fail)
        return LambdaFunction(StubHost(Starlette()))

    async with running(loaded, snap_start=True) as it:
        assert await it.over == 1
        assert it.api.init_error is not None and it.api.init_error.type == "LookupError"


@pytest.mark.usefixtures("snapshots")
async def test_an_environment_without_the_restore_calls_says_so(caplog: pytest.LogCaptureFixture) -> None:
    async with running(lambda: LambdaFunction(StubHost(Starlette()))) as it:
        assert await it.over == 1
    assert "answered 404 at the end of the init" in caplog.text


async def test_a_process_is_frozen_for_its_snapshot_and_serves_after_it(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(HOST)
    async with (
        RuntimeApi(freeze_after_next=True) as api,
        process_of(api, tmp_path, AWS_LAMBDA_INITIALIZATION_TYPE="snap-start") as process,
    ):
        await api.snapshot()
        assert process.frozen and notes(tmp_path) == []
        api.restore()
        assert (await api.invoke(EVENT).answer()).status == 200
        await api.idle()
        assert notes(tmp_path) == ["start"]
