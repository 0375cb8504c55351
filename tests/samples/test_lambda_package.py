"""The deployment package of the sample, by `sam build` and by make: they need a package index, or uv's cache."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scripts.toolchain import SAM

MACHINES = {"arm64": 183, "x86_64": 62}
"""The machines in an ELF header (ELF for the Arm 64-bit architecture; for x86-64 as for the processor)."""
MEGABYTE = 1024 * 1024


def settings(arch: str) -> dict[str, str]:
    """What the sample's Makefile is told by the environment."""
    return {
        **os.environ,
        "ARCH": arch,
        "AF_HOSTING": f"{sys.executable} -m agent_framework_hosting.cli",
        # Compiling takes longer than all the rest.
        "ARGS": "--no-bytecode --json --quiet",
    }


@pytest.mark.needs("sam")
def test_sam_builds_what_its_template_deploys(workspace: Path, tmp_path: Path) -> None:
    env = settings("arm64") | {"SAM_CLI_TELEMETRY": "0", "SAM_CLI_CHECK_FOR_UPDATES": "0"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # Compiling its own modules takes longer than the work.
    build = tmp_path / "build"
    # What is built is said in the sample's samconfig.toml, which is read there; only the folders are others.
    command = [SAM, "build", "--build-dir", build, "--cache-dir", tmp_path / "cache"]
    ran = subprocess.run(
        command, cwd=workspace / "samples" / "aws_lambda", env=env, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert re.search(r"CodeUri: HostFunction$", (build / "template.yaml").read_text(), re.MULTILINE)
    check(workspace, "arm64", build / "HostFunction", ran.stdout + ran.stderr)


def test_for_another_machine_it_is_packed_by_make(workspace: Path, tmp_path: Path) -> None:
    artefact, elsewhere = tmp_path / "artefact", tmp_path / "elsewhere"
    for folder in (artefact, elsewhere):
        folder.mkdir()
    makefile = workspace / "samples" / "aws_lambda" / "Makefile"
    command = ["make", "-s", "--makefile", makefile, "build-HostFunction"]
    env = settings("x86_64") | {"ARTIFACTS_DIR": str(artefact)}
    ran = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    check(workspace, "x86_64", artefact, ran.stdout)


def check(workspace: Path, arch: str, artefact: Path, said: str) -> None:
    """Hold a package, and what was said of it, against what was asked for."""
    report: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line.startswith("{")))
    # Bytecode doubles it.
    assert 2 * report["zipped"] < 50 * MEGABYTE
    versions = {each["name"]: each["version"] for each in report["packages"]}
    assert {name: versions[name] for name in versions if name.startswith("agent-framework-hosting")} == {
        f"agent-framework-hosting{name}": "1.0.0" for name in ("", "-aws-lambda", "-invocations", "-responses")
    }
    pinned = re.findall(r"^([^=\s]+)==(\S+)", (workspace / "constraints.txt").read_text(), re.MULTILINE)
    assert versions.items() - {(name, "1.0.0") for name in versions} <= set(pinned)
    listed = (artefact / "packaged.lock.txt").read_text().splitlines()
    assert listed == [f"# {arch}, Python 3.13", *(f"{name}=={versions[name]}" for name in sorted(versions))]
    assert {"app.py", "agent_host.py", "agent_app.py"} <= {path.name for path in artefact.iterdir()}
    machines = {int.from_bytes(path.read_bytes()[18:20], "little") for path in artefact.rglob("*.so")}
    assert machines == {MACHINES[arch]}
    assert (artefact / "agent_framework_hosting_aws_lambda" / "wrapper").stat().st_mode & 0o777 == 0o755
