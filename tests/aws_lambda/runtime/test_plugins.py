"""pydantic is told not to look for plugins only where no distribution can have one."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from agent_framework_hosting_aws_lambda.runtime.plugins import VARIABLE, spare_plugins


def declare(folder: Path, text: str, kind: str = "dist-info") -> None:
    (folder / f"some-1.0.{kind}").mkdir(parents=True)
    (folder / f"some-1.0.{kind}" / "entry_points.txt").write_text(text)


def zipped(folder: Path) -> None:
    (folder / "modules.zip").write_bytes(b"PK")
    sys.path.append(str(folder / "modules.zip"))


NONE: dict[str, Callable[[Path], object]] = {
    "nothing": lambda folder: None,
    "no folder": lambda folder: sys.path.append(str(folder / "gone")),
    "others": lambda folder: declare(folder, "[console_scripts]\nsome = some:main\n"),
    "no declaration": lambda folder: (folder / "some-1.0.dist-info").mkdir(),
    "a file": lambda folder: (folder / "some.egg-info").write_text("Name: some"),
}
SOME: dict[str, Callable[[Path], object]] = {
    "a plugin": lambda folder: declare(folder, "[console_scripts]\nsome = some:main\n[pydantic]\nsome = some:plugin\n"),
    "an old one": lambda folder: declare(folder, "[pydantic]\nsome = some:plugin\n", "egg-info"),
    "an egg": lambda folder: (folder / "some-1.0-py3.13.egg").write_bytes(b"PK"),
    "a zip file": zipped,
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    return tmp_path


@pytest.mark.parametrize("make", NONE.values(), ids=NONE)
def test_where_there_are_none_it_need_not_look(folder: Path, make: Callable[[Path], object]) -> None:
    make(folder)
    spare_plugins()
    assert os.environ.get(VARIABLE) == "__all__"


@pytest.mark.parametrize("make", SOME.values(), ids=SOME)
def test_where_there_may_be_some_it_looks(folder: Path, make: Callable[[Path], object]) -> None:
    make(folder)
    spare_plugins()
    assert VARIABLE not in os.environ


def test_what_the_operator_says_stays(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "some")
    spare_plugins()
    assert os.environ[VARIABLE] == "some"
