"""A function on the stock runtime, closed after the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

# The samples are no package: their folder is what a deployment puts beside its app.
from tests.samples.conftest import SAMPLES  # isort: skip

from tests.aws_lambda.updates.clients import taking_replies  # isort: skip
from tests.aws_lambda.updates.handlers import Stock  # isort: skip

__all__ = ["SAMPLES"]


@pytest.fixture
def stock(tmp_path: Path) -> Iterator[Stock]:
    with taking_replies() as (origin, taken):
        function = Stock(origin, taken, str(tmp_path / "state"))
        yield function
        function.close()
