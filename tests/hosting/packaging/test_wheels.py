"""Which wheels are installed: the target's, and ours from where they are."""

from __future__ import annotations

import ensurepip
import itertools
import tarfile
import zipfile
from io import BytesIO
from pathlib import Path

import pytest

from agent_framework_hosting import ConfigurationError
from agent_framework_hosting.packaging import ours
from agent_framework_hosting.packaging.installing import Wanted, explained, install, with_pip
from agent_framework_hosting.packaging.platforms import Target
from agent_framework_hosting.packaging.programs import Failed
from tests.hosting.packaging.making import Workshop, make_wheel


def make_sdist(folder: Path, name: str) -> None:
    with tarfile.open(folder / f"{name}-1.0.tar.gz", "w:gz") as archive:
        for path, text in {
            "pyproject.toml": f'[project]\nname = "{name}"\nversion = "1.0"\n',
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        }.items():
            info = tarfile.TarInfo(f"{name}-1.0/{path}")
            info.size = len(text)
            archive.addfile(info, BytesIO(text.encode()))


@pytest.mark.parametrize("architecture", ["arm64", "x86_64"])
def test_the_wheel_of_the_target_is_taken_whatever_this_machine_is(workshop: Workshop, architecture: str) -> None:
    """Of several the newest that its glibc runs; markers are judged by the target, too."""
    workshop.require("fast", "old", "stable", "marked ; platform_machine == 'aarch64'")
    for machine in ("aarch64", "x86_64"):
        for glibc in ("2_28", "2_34", "2_39"):
            make_wheel(workshop.wheels, "fast", tag=f"cp313-cp313-manylinux_{glibc}_{machine}")
        make_wheel(workshop.wheels, "old", tag=f"cp313-cp313-manylinux2014_{machine}")
        make_wheel(workshop.wheels, "stable", tag=f"cp39-abi3-manylinux_2_17_{machine}")
    make_wheel(workshop.wheels, "marked")
    workshop.pack("--arch", architecture)
    machine = "aarch64" if architecture == "arm64" else architecture
    assert f"cp313-cp313-manylinux_2_34_{machine}" in workshop.read("fast.py")
    assert machine in workshop.read("old.py")
    assert machine in workshop.read("stable.py")
    assert ("marked.py" in workshop.names()) is (architecture == "arm64")


def test_the_wheel_of_the_python_that_is_deployed_to_is_taken(workshop: Workshop) -> None:
    """The image of Python 3.11 has an older glibc."""
    workshop.require("fast")
    for glibc in ("2_17", "2_28"):
        for python in ("cp311", "cp313"):
            make_wheel(workshop.wheels, "fast", tag=f"{python}-{python}-manylinux_{glibc}_x86_64")
    workshop.pack("--python", "3.11")
    assert "cp311-cp311-manylinux_2_17_x86_64" in workshop.read("fast.py")


@pytest.mark.parametrize("how", ["itself", "required"])
def test_what_has_only_a_source_distribution_is_named(workshop: Workshop, how: str) -> None:
    make_sdist(workshop.wheels, "raw")
    make_wheel(workshop.wheels, "wants-raw", requires=["raw"])
    workshop.require("raw==1.0" if how == "itself" else "wants-raw")
    assert "raw has no wheel for x86_64, Python 3.13" in workshop.refused()


def test_what_has_wheels_for_others_only_or_is_unknown_is_named(workshop: Workshop) -> None:
    make_wheel(workshop.wheels, "narrow", tag="cp313-cp313-manylinux_2_28_aarch64")
    workshop.require("narrow")
    assert "narrow has no wheel for x86_64, Python 3.13" in workshop.refused()
    workshop.require("unheard-of")
    assert "unheard-of is not to be had" in workshop.refused()
    workshop.require("agent-framework-hosting-dream")
    assert "--find-links" in workshop.refused()


def test_ours_come_from_the_folder_that_is_named_and_are_not_built_then(workshop: Workshop) -> None:
    workshop.require("agent-framework-hosting-aws-lambda", "agent-framework-hosting >= 0.9")
    make_wheel(workshop.wheels, "agent-framework-hosting", "0.9")
    make_wheel(workshop.wheels, "agent-framework-hosting", "1.10")
    make_wheel(workshop.wheels, "agent-framework-hosting", "1.9rc1")
    make_wheel(workshop.wheels, "agent-framework-hosting-azure-functions", "1.0")
    wrapper = {"agent_framework_hosting_aws_lambda/wrapper": "#!/bin/sh\n"}
    make_wheel(
        workshop.wheels, "agent-framework-hosting-aws-lambda", "1.0", wrapper, requires=["agent-framework-hosting"]
    )
    workshop.pack()
    assert workshop.read("packaged.lock.txt").splitlines()[1:] == [
        "agent-framework-hosting==1.10",
        "agent-framework-hosting-aws-lambda==1.0",
    ]
    # Whatever it was in the wheel.
    assert workshop.modes().pop("agent_framework_hosting_aws_lambda/wrapper") == 0o755
    workshop.require("agent-framework-hosting == 0.9")
    workshop.pack()
    assert workshop.read("packaged.lock.txt").splitlines()[1:] == ["agent-framework-hosting==0.9"]


def test_ours_are_found_in_a_dist_nearby(workshop: Workshop) -> None:
    """One that has no sources here: those would be built."""
    make_wheel(workshop.root / "dist", "agent-framework-hosting-dream", "2.0")
    make_wheel(workshop.root / "dist", "tea", "2.0")
    workshop.require("agent-framework-hosting-dream", "tea")
    workshop.pack()
    assert workshop.read("packaged.lock.txt").splitlines()[1:] == ["agent-framework-hosting-dream==2.0", "tea==1.0"]


def test_the_sources_of_ours_are_found_with_what_they_require(workspace: Path) -> None:
    folders = ours.sources(ours.workspace(workspace / "samples" / "server"))
    assert folders["agent-framework-hosting-aws-lambda"] == workspace / "adapters" / "aws-lambda"
    assert ours.needed(["agent-framework-hosting-aws-lambda", "starlette"], folders) == [
        "agent-framework-hosting",
        "agent-framework-hosting-aws-lambda",
    ]
    assert ours.workspace(workspace.parent) is None


def test_requirements_are_read_with_those_that_they_include(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text(
        "-r more.txt\n# tea\n--no-binary x\nAgent_Framework.Hosting[disk]==1.0\n"
    )
    (tmp_path / "more.txt").write_text("-r requirements.txt\ntea >= 2 ; python_version > '3'\ncup === 4  # four\n")
    found = ours.required(tmp_path / "requirements.txt")
    assert found == {"agent-framework-hosting": "1.0", "tea": None, "cup": "4"}
    with pytest.raises(ConfigurationError, match="cannot be read"):
        ours.required(tmp_path / "gone.txt")


@pytest.mark.parametrize("name", ["../escaped.py", "/escaped.py", "tea/../../escaped.py", "..\\escaped.py", "c:/x.py"])
@pytest.mark.parametrize("distribution", ["bad", "agent-framework-hosting"])
def test_a_wheel_that_would_write_elsewhere_is_refused(workshop: Workshop, name: str, distribution: str) -> None:
    make_wheel(workshop.wheels, distribution, files={"good.py": "", name: "x = 1"})
    workshop.require(distribution)
    assert "would be written outside" in workshop.refused()


def test_what_is_no_wheel_is_refused(workshop: Workshop) -> None:
    (workshop.wheels / "agent_framework_hosting-1.0-py3-none-any.whl").write_text("<html>")
    assert "cannot be read as a wheel" in workshop.refused()
    (workshop.wheels / "agent_framework_hosting-1.0-py3-none-any.whl").rename(workshop.wheels / "agent_framework.whl")


def test_pip_is_told_of_every_platform_that_the_image_runs() -> None:
    command = with_pip(Path("python"), Target("3.13", "arm64", 34), Wanted([Path("r.txt")], [], []), Path("into"))
    tags = [after for tag, after in itertools.pairwise(command) if tag == "--platform"]
    assert tags[0] == "manylinux_2_34_aarch64"
    assert {"manylinux_2_28_aarch64", "manylinux2014_aarch64"} <= set(tags)
    assert not [tag for tag in tags if "x86" in str(tag) or "2_35" in str(tag)]


@pytest.mark.needs("pip")
def test_pip_does_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (pip,) = Path(ensurepip.__file__).parent.glob("_bundled/pip-*.whl")
    with zipfile.ZipFile(pip) as archive:
        archive.extractall(tmp_path / "pip")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "pip"))
    wheels = tmp_path / "wheels"
    for machine in ("aarch64", "x86_64"):
        make_wheel(wheels, "fast", tag=f"cp313-cp313-manylinux_2_28_{machine}")
    wanted = tmp_path / "requirements.txt"
    wanted.write_text("fast")
    target = Target("3.13", "arm64", 34)
    install(target, Wanted([wanted], [], [wheels], True), tmp_path / "into", uv=None, python=None)
    assert "2_28_aarch64" in (tmp_path / "into" / "fast.py").read_text()


def test_what_pip_lacks_is_named_too_and_credentials_are_not() -> None:
    said = (
        "WARNING: Location 'https://tea:secret@index.example/simple/raw/' is ignored\n"
        "ERROR: Could not find a version that satisfies the requirement raw==0.6.2 (from versions: none)\n"
        "ERROR: No matching distribution found for raw==0.6.2\n"
    )
    message = explained(Failed("Installing", said), Target("3.13", "arm64", 34))
    assert message.startswith("raw is not to be had as a wheel for arm64")
    assert "index.example" in message
    assert "secret" not in message


def test_names_that_are_recorded_elsewhere_are_not_followed(workshop: Workshop) -> None:
    (workshop.root / "secret.py").write_text("x = 1")
    path = make_wheel(workshop.wheels, "sly", files={"sly.py": ""})
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name).decode() for name in archive.namelist()}
    contents["sly-1.0.dist-info/RECORD"] += f"../../../secret.py,,\n{workshop.root / 'secret.py'},,\n"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in contents.items():
            archive.writestr(name, text)
    workshop.require("sly")
    workshop.pack()
    assert not [name for name in workshop.names() if "secret" in name]
