"""What every test may use: the workspace's folder, and a word on what the machine lacks."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import pytest
from hypothesis import HealthCheck, settings

from emulators.object_stores import Azurite, Moto
from scripts.toolchain import AZURITE_MAIN, LAMBDA_EMULATOR, SAM, node
from scripts.workspace import ROOT

# Contract suites live there: their asserts say as much as those of a test module.
pytest.register_assert_rewrite("tests.support")
from tests.support.examples import examples  # noqa: E402 - only what is imported after that is rewritten

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=examples(100)
)
settings.load_profile("patient")

# Seconds. What a module begins by then is done long before it is ten minutes old.
AZURITE_GETS_OLD = 120

PARTS: dict[str, Callable[[], bool]] = {
    "azurite": lambda: AZURITE_MAIN.is_file() and node() is not None,
    "curl": lambda: shutil.which("curl") is not None,
    "functions-worker": lambda: importlib.util.find_spec("azure_functions_runtime") is not None,
    "lambda-emulator": LAMBDA_EMULATOR.is_file,
    "moto": lambda: importlib.util.find_spec("moto") is not None,
    "pip": lambda: importlib.util.find_spec("ensurepip") is not None,
    "openssl": lambda: shutil.which("openssl") is not None,
    "sam": SAM.is_file,
}


# Seconds that one test takes, about, of the modules that these words name; of others it is some tenths.
TAKES = {"rounds": 60.0, "ends": 8.0, "runtime_queue": 5.0, "kills": 4.0, "freezes": 4.0, "faults": 1.0}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the processes of a whole run begin with what takes longest: at its end one would be alone with it."""
    if not hasattr(config, "workerinput"):
        return
    seconds = defaultdict[Path, float](float)
    for item in items:
        seconds[item.path] += next((takes for word, takes in TAKES.items() if word in item.path.stem), 0.2)
    items.sort(key=lambda item: -seconds[item.path])


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Keep a test from running without its parts: elsewhere that is reported at the end, in CI it is a failure."""
    for mark in item.iter_markers("needs"):
        for part in mark.args:
            # Into the report, which tells the runner of the suites on what real parts tests have passed.
            item.user_properties.append(("needs", part))
            if not PARTS[part]():
                # A developer's machine may lack a part; CI may not, so that a skip hides nothing there.
                said = pytest.fail if "CI" in os.environ else pytest.skip
                said(f"this machine lacks: {part}")


@pytest.fixture(autouse=True)
def no_renewals_left_behind() -> Generator[None]:
    """A host or store that a test never closed would keep a thread, and be taken for another test's."""
    before = {*threading.enumerate()}
    yield
    assert not [thread for thread in {*threading.enumerate()} - before if thread.name == "hosting-lease-renewal"], (
        "This test left a host or its conversations open."
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    from tests.support.open_responses import DOCUMENT, find_document

    if find_document() is None:
        terminalreporter.write_line(f"Without {DOCUMENT}, what the Responses channel tells was not held against it.")


@pytest.fixture(scope="session")
def workspace() -> Path:
    """The root of the repository."""
    return ROOT


@pytest.fixture(scope="session")
def lambda_emulator() -> Path:
    """The Lambda Runtime Interface Emulator; for tests marked `needs("lambda-emulator")`."""
    return LAMBDA_EMULATOR


@pytest.fixture(scope="session")
def moto() -> Generator[Moto]:
    """An S3 with the bucket `bucket`, and an SQS; for tests marked `needs("moto")`."""
    with Moto() as server:
        server.make_bucket("bucket")
        yield server


class Azurites:
    """One Azurite after another: after ten minutes it looks for garbage, and answers nobody meanwhile."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._since = -math.inf
        self._server: Azurite | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def young(self) -> Azurite:
        """The one that runs, or another one if that could get old while a module works with it."""
        if self._server is None or time.monotonic() - self._since > AZURITE_GETS_OLD:
            self._server = None
            self._stack.close()
            self._since, server = time.monotonic(), self._stack.enter_context(Azurite(AZURITE_MAIN, node=node()))
            server.make_container("container")
            self._server = server
        return self._server


@pytest.fixture(scope="session")
def azurites() -> Generator[Azurites]:
    with Azurites() as servers:
        yield servers


@pytest.fixture(scope="module")
def azurite(azurites: Azurites) -> Azurite:
    """An Azure Blob Storage with the container `container`; for tests marked `needs("azurite")`."""
    return azurites.young()
