"""The deployment package of the sample, made as `sam build` has it made. It needs a package index, or uv's cache."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

AARCH64 = 183
"""The machine in an ELF header (ELF for the Arm 64-bit architecture)."""
MEGABYTE = 1024 * 1024


def test_the_sample_is_packed_for_another_machine_and_is_small(workspace: Path, tmp_path: Path) -> None:
    artefact, elsewhere = tmp_path / "artefact", tmp_path / "elsewhere"
    for folder in (artefact, elsewhere):
        folder.mkdir()
    settings = {
        "ARTIFACTS_DIR": artefact,
        "ARCH": "arm64",
        "AF_HOSTING": f"{sys.executable} -m agent_framework_hosting.cli",
        # Compiling takes longer than all the rest.
        "ARGS": "--no-bytecode --json --quiet",
    }
    makefile = workspace / "samples" / "aws_lambda" / "Makefile"
    command = ["make", "-s", "--makefile", makefile, *(f"{name}={value}" for name, value in settings.items())]
    ran = subprocess.run([*command, "build-HostFunction"], cwd=elsewhere, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    report = json.loads(ran.stdout)
    # Bytecode doubles it.
    assert 2 * report["zipped"] < 50 * MEGABYTE
    versions = {each["name"]: each["version"] for each in report["packages"]}
    assert {name: versions[name] for name in versions if name.startswith("agent-framework-hosting")} == {
        f"agent-framework-hosting{name}": "1.0.0" for name in ("", "-aws-lambda", "-invocations", "-responses")
    }
    pinned = re.findall(r"^([^=\s]+)==(\S+)", (workspace / "constraints.txt").read_text(), re.MULTILINE)
    assert versions.items() - {(name, "1.0.0") for name in versions} <= set(pinned)
    listed = (artefact / "packaged.lock.txt").read_text().splitlines()
    assert listed == ["# arm64, Python 3.13", *(f"{name}=={versions[name]}" for name in sorted(versions))]
    assert {"app.py", "agent_host.py", "agent_app.py"} <= {path.name for path in artefact.iterdir()}
    machines = {int.from_bytes(path.read_bytes()[18:20], "little") for path in artefact.rglob("*.so")}
    assert machines == {AARCH64}
    assert (artefact / "agent_framework_hosting_aws_lambda" / "wrapper").stat().st_mode & 0o777 == 0o755
