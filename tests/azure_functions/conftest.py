"""The echo app on a real worker, in both modes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2
import pytest

from emulators.functions_worker import FunctionsWorker

ECHO = Path(__file__).parent / "apps" / "echo"
MODES = {"streaming": "1", "buffered": "0"}


@dataclass(frozen=True)
class Echo:
    """The echo app on a worker; `journal` has a line for each thing that happened in it."""

    worker: FunctionsWorker
    journal_file: Path
    mode: str

    @property
    def journal(self) -> list[str]:
        return self.journal_file.read_text().splitlines() if self.journal_file.exists() else []

    def client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(base_url=self.worker.url, timeout=20)

    async def journalled(self, line: str, seconds: float = 10) -> None:
        """Wait until something has happened in the worker."""
        await until(lambda: line in self.journal, seconds)


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Wait for something outside this process."""
    async with asyncio.timeout(seconds):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


EchoStarter = Callable[..., AbstractAsyncContextManager[Echo]]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def start_echo(tmp_path: Path) -> EchoStarter:
    """Start a worker of its own: `start_echo("streaming", STARTUP_SECONDS="1")`."""

    @asynccontextmanager
    async def start(mode: str, folder: Path = ECHO, **settings: str) -> AsyncIterator[Echo]:
        journal = tmp_path / "journal"
        async with FunctionsWorker(folder, env=environment(mode, journal, settings)) as worker:
            yield Echo(worker, journal, mode)

    return start


@pytest.fixture(scope="module", params=MODES)
def echo(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Echo]:
    """One worker for all tests of a module, once for each mode."""
    yield from shared_echo(request.param, tmp_path_factory)


@pytest.fixture(scope="module")
def streaming_echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Echo]:
    yield from shared_echo("streaming", tmp_path_factory)


def shared_echo(mode: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Echo]:
    journal = tmp_path_factory.mktemp(mode) / "journal"
    worker = FunctionsWorker(ECHO, env=environment(mode, journal, {}))
    with asyncio.Runner() as runner:
        runner.run(worker.__aenter__())
        try:
            yield Echo(worker, journal, mode)
        finally:
            runner.run(worker.__aexit__(None, None, None))


def environment(mode: str, journal: Path, settings: Mapping[str, str]) -> dict[str, str]:
    return {"JOURNAL": str(journal), "STREAMING": MODES[mode], **settings}
