"""The scripts that set a machine up: what they find, what they refuse, and what they report."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.addresses import HOSTS, faults, paths_into
from scripts.interpreters import candidates, probe
from scripts.suites import NO_TESTS, PARTS, Outcome, missing, outcome, skips, verdict

REPORT = """<testsuites><testsuite>
<testcase name="a"><properties><property name="needs" value="functions-worker"/></properties></testcase>
<testcase name="b"/>
<testcase name="c"><properties><property name="needs" value="curl"/></properties><failure/></testcase>
<testcase name="d"><error/></testcase>
<testcase name="e"><skipped message="this machine lacks: lambda-emulator"/></testcase>
</testsuite></testsuites>"""
HOME = Path("/", "home", "ada")
PASSED = Outcome(9, 0, (), frozenset(PARTS), 0)


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


@pytest.mark.parametrize("line", ["see {}/notes.md", "file://{}/notes.md", "STATE_DIR={}", "'{}'"])
def test_a_folder_of_the_machine_is_a_fault(line: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(line.format(HOME))
    assert list(faults(path, paths_into(HOME))) == [f"{path}:1: names a folder of this machine"]


@pytest.mark.parametrize("line", ["{}m/notes.md", "{}-2", "docs{}", "~{}", "https://host.example{}"])
def test_a_path_that_only_looks_like_it_is_none(line: str, tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text(line.format(HOME))
    assert list(faults(path, paths_into(HOME))) == []


def test_a_folder_right_below_the_root_may_be_named(tmp_path: Path) -> None:
    path = tmp_path / "page.md"
    path.write_text("the packages are in adapters/ and /src, the superuser's files in /root/notes.md")
    assert list(faults(path, paths_into(Path("/src"), Path("/root"), Path("/")))) == []


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


def test_a_whole_run_that_passes_lacks_nothing() -> None:
    assert missing(PASSED, PASSED) == []
    assert skips([PASSED, PASSED]) == []
    assert verdict([PASSED, PASSED], [], selection=False, ci=True) == 0


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_no_test_passed_on_is_missing(part: str) -> None:
    others = PASSED._replace(parts=PASSED.parts - {part})
    assert missing(others, PASSED) == [f"no test passed on the real {part}"]


def test_the_oldest_python_is_missing_where_nothing_ran_on_it() -> None:
    (said,) = missing(PASSED, None)
    assert said.startswith("no Python 3.11 or 3.12")


def test_skipped_tests_are_counted_by_their_reasons() -> None:
    newest, portable = (
        PASSED._replace(skipped=skipped) for skipped in (("no curl", "no curl", "no disk"), ("no disk",))
    )
    assert skips([newest, portable]) == ["2 skipped: no curl", "2 skipped: no disk"]


@pytest.mark.parametrize("selection", [False, True])
def test_what_is_lacking_fails_a_run_in_ci_and_nowhere_else(*, selection: bool) -> None:
    for lacking in (missing(PASSED._replace(parts=frozenset()), PASSED), missing(PASSED, None), ["1 skipped: no curl"]):
        assert verdict([PASSED], lacking, selection=selection, ci=True) == 1
        assert verdict([PASSED], lacking, selection=selection, ci=False) == 0


@pytest.mark.parametrize("ci", [False, True])
@pytest.mark.parametrize("selection", [False, True])
def test_a_pytest_that_fails_fails_the_run(*, selection: bool, ci: bool) -> None:
    failed = PASSED._replace(exit_code=1)
    assert verdict([failed, PASSED], [], selection=selection, ci=ci) == 1
    assert verdict([PASSED, failed], [], selection=selection, ci=ci) == 1


def test_only_a_selection_may_come_to_no_test() -> None:
    none = Outcome(0, 0, (), frozenset(), NO_TESTS)
    assert verdict([none], [], selection=True, ci=True) == 0
    assert verdict([none], [], selection=False, ci=False) == 1
