"""What is in an artefact, with which permissions, and that it is the same each time."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from agent_framework_hosting.packaging.distributions import Distribution, brought
from tests.hosting.packaging.making import Workshop, make_wheel

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
HERE = ("--python", RUNNING, "--arch", "arm64" if platform.machine() == "aarch64" else platform.machine())


def test_a_distribution_is_packed_without_what_a_function_does_not_read(workshop: Workshop) -> None:
    make_wheel(
        workshop.wheels,
        "cup",
        files={
            "cup/__init__.py": "",
            "cup/py.typed": "",
            "cup/_fast.pyi": "",
            "cup/_fast.pyx": "",
            "cup/_fast.c": "",
            "cup/lazy.py": "attach_stub(__name__, __file__)",
            "cup/lazy.pyi": "",
            "cup/tests/test_cup.py": "",
            "cup/tests/data.json": "",
            "cup/testing/test_tools.py": "",
            "cup/handle/tests/test_handle.py": "",
            "cup/handle/__init__.py": "from .tests import test_handle",
            "cup/taste/test/strong.py": "",
            "cup-1.0.data/scripts/cup": "#!python\n",
            "cup-1.0.dist-info/licenses/LICENSE": "MIT",
            "cup-1.0.dist-info/entry_points.txt": "[cups]\na = cup\n",
        },
    )
    workshop.require("cup")
    workshop.pack()
    assert {name for name in workshop.names() if name.startswith(("cup", "bin"))} == {
        "cup/__init__.py",
        "cup/py.typed",
        "cup/lazy.py",
        "cup/lazy.pyi",
        "cup/testing/test_tools.py",
        "cup/handle/__init__.py",
        "cup/handle/tests/test_handle.py",
        "cup/taste/test/strong.py",
        "cup-1.0.dist-info/METADATA",
        "cup-1.0.dist-info/RECORD",
        "cup-1.0.dist-info/WHEEL",
        "cup-1.0.dist-info/licenses/LICENSE",
        "cup-1.0.dist-info/entry_points.txt",
    }


def test_nothing_tells_from_where_or_with_what_it_was_packed(workshop: Workshop) -> None:
    make_wheel(workshop.wheels, "agent-framework-hosting")
    workshop.require("agent-framework-hosting", "tea")
    workshop.pack()
    assert workshop.read("packaged.lock.txt") == "# x86_64, Python 3.13\nagent-framework-hosting==1.0\ntea==1.0\n"
    with zipfile.ZipFile(workshop.output) as archive:
        assert not [each for each in archive.namelist() if str(workshop.root).encode() in archive.read(each)]


def test_all_can_be_read_by_another_user_and_executables_stay_such(workshop: Workshop) -> None:
    workshop.write("run.sh", "#!/bin/sh\n").chmod(0o700)
    workshop.write("data.json").chmod(0o600)
    workshop.pack()
    modes = workshop.modes()
    assert modes.pop("run.sh") == 0o755
    assert set(modes.values()) == {0o644}
    assert workshop.output.stat().st_mode & 0o777 == 0o644


def test_the_same_inputs_give_the_same_bytes(workshop: Workshop) -> None:
    workshop.write("bots/many.py", "CHOICES = {'a', 'b', 'c'}\ndef f(x): return x in {'tea', 'cup', 'pot'}\n")
    workshop.run(*HERE)
    first = workshop.output.read_bytes()
    (workshop.app / "app.py").touch()
    os.utime(workshop.wheels / "tea-1.0-py3-none-any.whl", (0, 0))
    workshop.run(*HERE)
    assert workshop.output.read_bytes() == first
    with zipfile.ZipFile(workshop.output) as archive:
        assert {each.date_time for each in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert archive.namelist() == sorted(archive.namelist())


def test_a_failure_leaves_the_earlier_artefact(workshop: Workshop) -> None:
    workshop.pack()
    before = workshop.output.read_bytes()
    workshop.require("unheard-of")
    assert workshop.run()[0] == 1
    assert workshop.output.read_bytes() == before
    assert not [path for path in workshop.root.iterdir() if path.name.startswith(".")]


def test_bytecode_is_taken_without_a_look_at_its_source(workshop: Workshop, tmp_path: Path) -> None:
    """Where it lies nothing can be written, and times say nothing."""
    workshop.write("template.py", "class {{ name }}: pass")
    workshop.write("app.py", "def where(): pass\n")
    assert workshop.report(*HERE)["bytecode"] is True
    with zipfile.ZipFile(workshop.output) as archive:
        archive.extractall(tmp_path)
    compiled = next((tmp_path / "__pycache__").glob("app.*.pyc"))
    # PEP 552: the first bit says that there is a hash, the second that it is to be checked.
    assert compiled.read_bytes()[4:8] == bytes([1, 0, 0, 0])
    assert not list((tmp_path / "__pycache__").glob("template.*"))
    (tmp_path / "app.py").write_text("not Python at all")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import app; print(app.where.__name__)"
    ran = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout == "where\n"
    record = (tmp_path / "tea-1.0.dist-info" / "RECORD").read_text().splitlines()
    assert all((tmp_path / line.removesuffix(",,")).is_file() for line in record)
    assert [line for line in record if line.endswith(".pyc,,")]


def test_a_module_is_imported_from_the_artefact_alone(workshop: Workshop) -> None:
    assert workshop.run(*HERE, "--no-bytecode", "--check", "app")[0] == 0
    workshop.write("app.py", "import agent_framework_hosting")
    code, _, said = workshop.run(*HERE, "--no-bytecode", "--check", "app")
    assert code == 1
    assert "No module named 'agent_framework_hosting'" in said
    other = "x86_64" if platform.machine() != "x86_64" else "arm64"
    code, _, said = workshop.run("--no-bytecode", "--arch", other, "--check", "app")
    assert code == 1
    assert "not Linux on" in said


def test_a_folder_is_written_for_another_tool_and_only_over_an_earlier_one(workshop: Workshop) -> None:
    workshop.write("run.sh", "#!/bin/sh\n").chmod(0o700)
    folder = workshop.root / "build" / "HostFunction"
    folder.mkdir(parents=True)
    for _ in range(2):
        workshop.pack("--output-dir", str(folder))
        assert (folder / "tea.py").is_file()
        assert (folder / "run.sh").stat().st_mode & 0o777 == 0o755
        assert (folder / "app.py").stat().st_mtime == 315_532_800
        assert [path.name for path in folder.parent.iterdir()] == ["HostFunction"]
    assert "is no artefact" in workshop.refused("--output-dir", str(workshop.app))
    assert (workshop.app / "app.py").is_file()


def test_what_the_runtime_has_is_left_out_unless_it_is_asked_for(workshop: Workshop) -> None:
    make_wheel(workshop.wheels, "urllib3")
    make_wheel(workshop.wheels, "six")
    make_wheel(workshop.wheels, "botocore", requires=["urllib3", "six"])
    make_wheel(workshop.wheels, "boto3", requires=["botocore"])
    make_wheel(workshop.wheels, "fetch", requires=["urllib3 ; extra == 'more'"])
    workshop.require("boto3", "fetch", "tea")
    report = workshop.report("--no-bytecode")
    assert report["left_out"] == ["boto3", "botocore", "six"]
    assert {each["name"] for each in report["packages"]} == {"fetch", "tea", "urllib3"}
    report = workshop.report("--no-bytecode", "--with-boto3")
    assert report["left_out"] == []
    assert {"boto3", "botocore", "six"} <= {each["name"] for each in report["packages"]}


@pytest.mark.parametrize(("roots", "expected"), [([], {"boto3", "b", "c"}), (["c"], {"boto3", "b"})])
def test_what_comes_with_it_is_left_out_as_far_as_nobody_else_asks(roots: list[str], expected: set[str]) -> None:
    there = [
        Distribution(name, "1", {}, frozenset(requires))
        for name, requires in {"boto3": ["b"], "b": ["c"], "c": [], "d": ["e"], "e": []}.items()
    ]
    assert brought(there, roots, frozenset({"boto3"}), frozenset("bce")) == expected
    assert brought(there[1:], roots, frozenset({"boto3"}), frozenset("bce")) == set()
