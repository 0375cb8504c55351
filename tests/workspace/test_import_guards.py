"""What an import says where another package stands under the host's name, or where none does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARDED = {
    "agent_framework_hosting_invocations": "InvocationsChannel",
    "agent_framework_hosting_responses": "ResponsesChannel",
    "agent_framework_hosting_aws_lambda": "LambdaHandler",
    "agent_framework_hosting_azure_functions": "HostFunctionApp",
}
# What an alpha release may look like: without our modules, or with some of them and other names in these.
STUBS: dict[str, dict[str, str]] = {
    "bare": {"__init__.py": '__version__ = "1.0.0a1"\n'},
    "alike": {
        "__init__.py": 'def parse_request(body: bytes) -> None: ...\n__version__ = "1.0.0a2"\n',
        **dict.fromkeys(("auth.py", "body.py", "channels.py", "errors.py", "host.py", "lifespan.py"), ""),
    },
}


def importing(code: str, path: Path) -> str:
    """Run code that is to fail, with a folder early on the path, and give the last line that it wrote."""
    environment = {**os.environ, "PYTHONPATH": str(path)}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=environment)
    assert ran.returncode == 1, ran.stderr
    return ran.stderr.splitlines()[-1]


def check(said: str, module: str) -> None:
    assert said.startswith(f"ImportError: {GUARDED[module]} needs agent-framework-hosting 1.0 or later")
    assert "alpha release" in said
    assert "pip install --upgrade 'agent-framework-hosting>=1.0'" in said


@pytest.mark.parametrize("stub", STUBS)
@pytest.mark.parametrize("module", GUARDED)
def test_an_alpha_release_under_the_hosts_name_is_told_apart(module: str, stub: str, tmp_path: Path) -> None:
    package = tmp_path / "agent_framework_hosting"
    package.mkdir()
    for name, content in STUBS[stub].items():
        (package / name).write_text(content)
    check(importing(f"import {module}", tmp_path), module)


@pytest.mark.parametrize("module", GUARDED)
def test_a_host_that_is_not_installed_is_asked_for(module: str, tmp_path: Path) -> None:
    absent = "import sys; sys.modules['agent_framework_hosting'] = None"
    check(importing(f"{absent}; import {module}", tmp_path), module)


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("agent_framework_hosting_invocations", "msgspec"),
        ("agent_framework_hosting_aws_lambda", "msgspec"),
        ("agent_framework_hosting_azure_functions", "azure.functions"),
    ],
)
def test_another_package_that_is_missing_is_named_as_ever(module: str, needed: str, tmp_path: Path) -> None:
    said = importing(f"import sys; sys.modules[{needed!r}] = None; import {module}", tmp_path)
    assert needed in said and "agent-framework-hosting" not in said
