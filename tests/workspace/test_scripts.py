"""The scripts that set a machine up: what they find, what they refuse, and what they report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.addresses import HOSTS, faults
from scripts.interpreters import candidates, probe
from scripts.suites import outcome

REPORT = """<testsuites><testsuite>
<testcase name="a"><properties><property name="needs" value="functions-worker"/></properties></testcase>
<testcase name="b"/>
<testcase name="c"><properties><property name="needs" value="curl"/></properties><failure/></testcase>
<testcase name="d"><error/></testcase>
<testcase name="e"><skipped message="this machine lacks: lambda-emulator"/></testcase>
</testsuite></testsuites>"""


def test_an_interpreter_tells_its_version() -> None:
    found = probe(Path(sys.executable))
    assert found is not None
    assert found.version == sys.version_info[:3]


def test_a_shim_of_a_version_that_is_not_there_is_no_interpreter(tmp_path: Path) -> None:
    shim = tmp_path / "python3.13"
    shim.write_text("#!/bin/sh\necho 'command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    assert probe(shim) is None
    assert probe(tmp_path / "absent") is None


def test_pyenv_is_searched_from_the_newest_release(tmp_path: Path) -> None:
    for version in ("3.9.2", "3.9.10", "3.10.1"):
        python = tmp_path / "versions" / version / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
    found = [path.parts[-3] for path in candidates(3, 9, tmp_path) if path.is_relative_to(tmp_path)]
    assert found == ["3.9.10", "3.9.2"]


@pytest.mark.parametrize("host", [".".join(host) for host in HOSTS])
def test_the_host_of_a_registry_is_a_fault(host: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(f"one\nsee https://{host}/project\n")
    assert list(faults(path)) == [f"{path}:2: names a package registry's host"]


def test_a_lock_file_is_a_fault(tmp_path: Path) -> None:
    path = tmp_path / "uv.lock"
    path.touch()
    assert len(list(faults(path))) == 1


def test_a_report_is_counted(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    counted = outcome(report, 1)
    assert (counted.passed, counted.failed) == (2, 2)
    assert counted.skipped == ("this machine lacks: lambda-emulator",)
    assert counted.parts == {"functions-worker"}


def test_a_run_without_a_report_has_failed(tmp_path: Path) -> None:
    counted = outcome(tmp_path / "report.xml", 0)
    assert counted.failed == 1
    assert counted.exit_code != 0
