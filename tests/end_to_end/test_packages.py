"""A deployment package: the agent's modules lie beside the app, and the repository is far away."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from scripts.demo_deployment import Deployment
from scripts.demo_platforms import SAMPLES, AwsLambda, AzureFunctions

from .conftest import FUNCTIONS, LAMBDA


@pytest.mark.parametrize("platform", [LAMBDA, FUNCTIONS])
@pytest.mark.parametrize("target", ["agent", "workflow"])
async def test_a_package_runs_without_the_folder_above_it(
    platform: AwsLambda | AzureFunctions, target: str, tmp_path: Path
) -> None:
    package = tmp_path / "package"
    shutil.copytree(platform.folder, package, ignore=shutil.ignore_patterns("__pycache__"))
    for module in SAMPLES.glob("*.py"):
        shutil.copy(module, package)
    async with Deployment(replace(platform, folder=package), tmp_path / "state") as deployment:
        await deployment.serve(target)
        answer = await deployment.call({"session_id": "tea", "message": "Refund order 1002."})
    assert answer.body["pending"][0]["data"]
