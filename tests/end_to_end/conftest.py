"""The samples on the real runtimes, each test on a state directory of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from scripts.demo_deployment import Deployment
from scripts.demo_platforms import AwsLambda, AzureFunctions, OwnLambda, Platform

LAMBDA = pytest.param(AwsLambda(), marks=pytest.mark.needs("lambda-emulator"), id="lambda")
OWN_LAMBDA = pytest.param(OwnLambda(), id="own-lambda")
FUNCTIONS = pytest.param(AzureFunctions(), marks=pytest.mark.needs("functions-worker"), id="functions")


@pytest.fixture(params=[LAMBDA, FUNCTIONS])
def platform(request: pytest.FixtureRequest) -> Platform:
    return request.param


@pytest.fixture
async def deployment(platform: Platform, tmp_path: Path) -> AsyncGenerator[Deployment]:
    async with Deployment(platform, tmp_path / "state", settings={"OFFLINE_PACE": "0"}) as deployed:
        yield deployed
