"""What every test may use: the workspace's folder, and a word on what the machine lacks."""

from __future__ import annotations

import importlib.util
import os
import shutil
import threading
from collections.abc import Callable, Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from emulators.object_stores import Azurite, Moto
from scripts.toolchain import AZURITE_MAIN, LAMBDA_EMULATOR, SAM, node
from scripts.workspace import ROOT

# Contract suites live there: their asserts say as much as those of a test module.
pytest.register_assert_rewrite("tests.support")

# How long an example takes says nothing on a machine that does other things as well.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

PARTS: dict[str, Callable[[], bool]] = {
    "azurite": lambda: AZURITE_MAIN.is_file() and node() is not None,
    "curl": lambda: shutil.which("curl") is not None,
    "functions-worker": lambda: importlib.util.find_spec("azure_functions_runtime") is not None,
    "lambda-emulator": LAMBDA_EMULATOR.is_file,
    "moto": lambda: importlib.util.find_spec("moto") is not None,
    "openssl": lambda: shutil.which("openssl") is not None,
    "sam": SAM.is_file,
}


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


@pytest.fixture(scope="module")
def azurite() -> Generator[Azurite]:
    """An Azure Blob Storage with the container `container`; for tests marked `needs("azurite")`.

    One for each module: after ten minutes Azurite looks for garbage, and answers nobody meanwhile.
    """
    with Azurite(AZURITE_MAIN, node=node()) as server:
        server.make_container("container")
        yield server
