"""Every package's wheel holds what it promises and works from a wheel alone."""

from __future__ import annotations

import email
import re
import stat
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from scripts.workspace import ROOT, packages

PACKAGES = packages()
# Top-level names that our packages may import, and the distribution each comes from.
DISTRIBUTIONS = {
    "agent_framework": "agent-framework-core",
    "agent_framework_hosting": "agent-framework-hosting",
    "anyio": "anyio",
    "azure.functions": "azure-functions",
    "azurefunctions.extensions.base": "azurefunctions-extensions-base",
    "hypercorn": "hypercorn",
    "boto3": "boto3",
    "msgspec": "msgspec",
    "obstore": "obstore",
    "opentelemetry": "opentelemetry-api",
    "starlette": "starlette",
    "uvicorn": "uvicorn",
}
REFERENCE = (ROOT / "LICENSE").read_text("utf-8")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheel of each package by the name of the package's folder."""
    built: dict[str, Path] = {}
    for package in PACKAGES:
        folder = tmp_path_factory.mktemp(package.name)
        # Without build isolation: the pinned hatchling of this environment, and no network.
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
        subprocess.run(command, cwd=package, check=True, capture_output=True, timeout=60)
        (built[package.name],) = folder.glob("*.whl")
    return built


def module_of(package: Path) -> str:
    (marker,) = package.glob("*/py.typed")
    return marker.parent.name


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


@pytest.fixture(params=PACKAGES, ids=lambda package: package.name)
def package(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_a_wheel_holds_its_module_and_nothing_else(package: Path, wheels: dict[str, Path]) -> None:
    module = module_of(package)
    names = set(zipfile.ZipFile(wheels[package.name]).namelist())
    sources = {
        path.relative_to(package).as_posix()
        for path in (package / module).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert f"{module}/py.typed" in names
    assert {name for name in names if not re.match(r"[\w.-]+\.dist-info/", name)} == sources


def test_what_lambda_is_to_start_can_be_started(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["aws-lambda"]) as archive:
        mode = archive.getinfo("agent_framework_hosting_aws_lambda/wrapper").external_attr >> 16
    assert stat.S_IMODE(mode) == 0o755


def test_a_wheel_carries_the_licence(package: Path, wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels[package.name]) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/licenses/LICENSE"))
        assert archive.read(name).decode() == REFERENCE
    assert metadata(wheels[package.name])["License-Expression"] == "MIT"


def test_the_metadata_says_what_a_reader_of_the_index_needs(package: Path, wheels: dict[str, Path]) -> None:
    said = metadata(wheels[package.name])
    assert said["Version"] == "1.0.0"
    assert said["Requires-Python"] == ">=3.11"
    assert said["Summary"]
    assert said["Description-Content-Type"] == "text/markdown"
    described = said.get_payload(decode=True)
    assert isinstance(described, bytes)
    assert described.decode() == (package / "README.md").read_text("utf-8")


def test_our_packages_ask_for_the_releases_that_hold_a_host(package: Path, wheels: dict[str, Path]) -> None:
    """Alpha releases of others stand under some of the names: `>=1.0` shuts them out."""
    requirements = map(Requirement, metadata(wheels[package.name]).get_all("Requires-Dist") or [])
    ours = [each for each in requirements if each.name.startswith("agent-framework-hosting")]
    assert [str(each.specifier) for each in ours] == ([] if package.name == "hosting" else [">=1.0"])


def test_what_a_package_imports_it_declares(package: Path, wheels: dict[str, Path]) -> None:
    """The module names of each distribution that a package may import come from its own requirements."""
    declared = {Requirement(each).name for each in metadata(wheels[package.name]).get_all("Requires-Dist") or []}
    imported: set[str] = set()
    for source in (package / module_of(package)).rglob("*.py"):
        found = re.findall(r"^\s*(?:from|import) (\w+(?:\.\w+)*)", source.read_text("utf-8"), re.MULTILINE)
        imported.update(name for name in found)
    for prefix, distribution in DISTRIBUTIONS.items():
        if any(name == prefix or name.startswith(f"{prefix}.") for name in imported):
            assert distribution in declared, f"{package.name} imports {prefix}"


def test_the_wheels_alone_bring_a_command_that_answers(wheels: dict[str, Path], tmp_path: Path) -> None:
    venv.create(tmp_path, with_pip=True)
    python = tmp_path / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-index", "--no-deps", *wheels.values()]
    subprocess.run(install, check=True, timeout=100)
    # The dependencies come from this environment, whose own editable installs are not followed from here.
    ours = sysconfig.get_path("purelib", "venv", {"base": str(tmp_path)})
    Path(ours, "dependencies.pth").write_text(sysconfig.get_path("purelib"))

    modules = ", ".join(module_of(package) for package in PACKAGES)
    code = f"import {modules}; import agent_framework_hosting as host; print(host.__file__)"
    where = subprocess.run([python, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)

    command = [tmp_path / "bin" / "af-hosting", "--help"]
    answered = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60)
    assert "serve" in answered.stdout


def test_every_package_is_typed_for_strict_checkers(package: Path) -> None:
    project = tomllib.loads((package / "pyproject.toml").read_text("utf-8"))["project"]
    assert "Typing :: Typed" in project["classifiers"]
    assert (package / module_of(package) / "py.typed").read_text() == ""
