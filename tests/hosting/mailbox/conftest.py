"""The stores that mailboxes are proved on: those of the protocol."""

from __future__ import annotations

import pytest

from tests.hosting.protocol.conftest import padding, store
from tests.support.places import PLACES, StatePlace, make_place

__all__ = ["padding", "store"]


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> StatePlace:
    """Where several processes share their state."""
    return make_place(request.param, request)


@pytest.fixture(params=["memory", *PLACES])
def anywhere(request: pytest.FixtureRequest) -> str | None:
    """The `state_dir` of a host."""
    return None if request.param == "memory" else make_place(request.param, request).state_dir
