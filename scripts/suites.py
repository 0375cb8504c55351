"""Runs every suite, also on the oldest Python that was found, and says what the machine lacked.

`python -m scripts.suites [arguments for pytest]`. In CI nothing may be lacking: no part, no Python, no test.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from scripts.environments import Environment, development, oldest
from scripts.workspace import ROOT

REPORTS = ROOT / "build" / "reports"
# What no platform decides, and so has to hold on every Python.
PORTABLE = ("tests/hosting", "tests/hosting_invocations", "tests/hosting_responses", "tests/aws_lambda")
# The real parts that a whole run must have had a test pass on (see `needs` in tests/conftest.py).
PARTS = ("azurite", "functions-worker", "lambda-emulator", "moto", "sam")
NO_TESTS = 5
# What the tests do is mostly waiting: with 4 a machine of two processors has something to do nearly all the time.
PROCESSES = 4
# The oldest Python runs beside those; object stores are proved there by the suite of all stores, and what becomes of
# stores that fail, and of processes that are killed or frozen, is up to the protocol and not to Python; so is what
# round trips cost.
LEFT_OUT = (
    *("s3", "blob", "faults", "kills", "freezes", "rounds", "costs"),
    *("test_ends", "official", "updates", "packaging"),
)
BESIDE = ("-k", f"not ({' or '.join(LEFT_OUT)}) or test_stores")


class Outcome(NamedTuple):
    """What came of one run of pytest."""

    passed: int
    failed: int
    skipped: tuple[str, ...]
    parts: frozenset[str]
    exit_code: int


@dataclass(frozen=True)
class Run:
    """A run of pytest in an environment, which has begun; several may go on at once."""

    report: Path
    process: subprocess.Popen[bytes]
    output: Path | None

    @classmethod
    def begun(
        cls, environment: Environment, folders: Sequence[str], arguments: Sequence[str], *, aside: bool = False
    ) -> Run:
        """Begin a run; what it says is shown as it comes, or kept for the end if another one runs beside it."""
        name = environment.folder.name.lstrip(".")
        report, output = REPORTS / f"{name}.xml", REPORTS / f"{name}.log" if aside else None
        report.unlink(missing_ok=True)
        # Two runs at once must not tidy up each other's folders.
        folder = ROOT / "build" / "tmp" / name
        folder.mkdir(parents=True, exist_ok=True)
        where = {**os.environ, "PYTEST_DEBUG_TEMPROOT": str(folder)}
        options = [f"--junitxml={report}", "-o", f"cache_dir={ROOT / 'build' / 'cache' / name}"]
        print(f"\n{environment.folder.name}: pytest {' '.join([*folders, *arguments])}", flush=True)
        if folders and not aside:  # A whole run; modules stay together, for what they start, and in their order.
            options += ["--numprocesses", str(PROCESSES), "--dist", "loadfile", "--no-loadscope-reorder"]
        command = [environment.python, "-m", "pytest", *options, *folders, *arguments]
        if output is None:
            return cls(report, subprocess.Popen(command, cwd=ROOT, env=where), None)
        with output.open("wb") as said:
            return cls(report, subprocess.Popen(command, cwd=ROOT, env=where, stdout=said, stderr=said), output)

    def ended(self) -> Outcome:
        """Wait for the end of it."""
        exit_code = self.process.wait()
        if self.output is not None:
            print(f"\n{self.output.stem}:\n{self.output.read_text('utf-8', 'replace')}", flush=True)
        return outcome(self.report, exit_code)


def outcome(report: Path, exit_code: int) -> Outcome:
    """Read pytest's report; a run that ended before writing one has failed."""
    if not report.exists():
        return Outcome(0, 1, (), frozenset(), exit_code or 1)
    passed = failed = 0
    skipped: list[str] = []
    parts: set[str] = set()
    for case in ElementTree.parse(report).iter("testcase"):
        reason = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif reason is not None:
            skipped.append(reason.get("message", "no reason given"))
        else:
            passed += 1
            parts.update(found.get("value", "") for found in case.iter("property") if found.get("name") == "needs")
    return Outcome(passed, failed, tuple(skipped), frozenset(parts), exit_code)


def missing(newest: Outcome, portable: Outcome | None) -> list[str]:
    """Name what a whole run did without: real parts, and the oldest Python where there is no portable outcome."""
    found = [f"no test passed on the real {part}" for part in PARTS if part not in newest.parts]
    if portable is None:
        found.append("no Python 3.11 or 3.12: the portable suites ran on 3.13 only")
    return found


def skips(outcomes: Sequence[Outcome]) -> list[str]:
    """Count the skipped tests by their reasons."""
    reasons = Counter(why for each in outcomes for why in each.skipped)
    return [f"{count} skipped: {why}" for why, count in sorted(reasons.items())]


def verdict(outcomes: Sequence[Outcome], lacking: Sequence[str], *, selection: bool, ci: bool) -> int:
    """Return the exit code. A selection may come to no test at all; in CI nothing may be lacking."""
    accepted = (0, NO_TESTS) if selection else (0,)
    return int(any(each.exit_code not in accepted for each in outcomes) or (ci and bool(lacking)))


def main() -> None:
    arguments = sys.argv[1:]
    REPORTS.mkdir(parents=True, exist_ok=True)
    # At the same time: what they do is mostly waiting.
    beside = None
    if not arguments and oldest().up_to_date():
        beside = Run.begun(oldest(), PORTABLE, BESIDE, aside=True)
    outcomes = [Run.begun(development(), [] if arguments else ["tests"], arguments).ended()]
    lacking: list[str] = []
    if arguments:
        print("\nA selection: run without arguments for every suite and the oldest Python.")
    else:
        portable = None if beside is None else beside.ended()
        lacking += missing(outcomes[0], portable)
        outcomes += [] if portable is None else [portable]
    lacking += skips(outcomes)

    print(f"\nLacking on this machine: {len(lacking)}", *lacking, sep="\n  ")
    passed, failed = sum(each.passed for each in outcomes), sum(each.failed for each in outcomes)
    print(f"{passed} passed, {failed} failed, {sum(len(each.skipped) for each in outcomes)} skipped")
    sys.exit(verdict(outcomes, lacking, selection=bool(arguments), ci="CI" in os.environ))


if __name__ == "__main__":
    main()
