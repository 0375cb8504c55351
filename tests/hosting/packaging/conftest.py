"""The folder in which artefacts are made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.hosting.packaging.making import Workshop


@pytest.fixture
def workshop(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Workshop:
    root = tmp_path / "operator"
    root.mkdir()
    monkeypatch.chdir(root)
    return Workshop(root, capsys)
