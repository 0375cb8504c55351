"""Where the state of the hosts under test is."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["memory", "directory"])
def state_dir(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "state" if request.param == "directory" else None
