"""The bounds that a host takes, and those that it refuses by name."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from agent_framework_hosting import ConfigurationError, HostLimits

COUNTS = ["body_bytes", "session_bytes", "update_attempts", "mailbox_updates", "memory_sessions"]
TICK = timedelta(microseconds=1)
LEASE = timedelta(seconds=9)
LEAST = LEASE + timedelta(seconds=2)
"""What `turn_timeout` must exceed."""


@pytest.mark.parametrize(
    ("name", "limits"),
    [
        *[(name, {name: value}) for name in COUNTS for value in (0, -1)],
        *[(name, {name: value}) for name in ("lease", "retention") for value in (timedelta(0), -TICK)],
        *[("turn_timeout", {"lease": LEASE, "turn_timeout": value}) for value in (LEAST, LEAST - TICK, timedelta(0))],
    ],
)
def test_a_bound_that_cannot_be_kept_is_refused_by_its_name(name: str, limits: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(f"HostLimits.{name}")):
        HostLimits(**limits)


@pytest.mark.parametrize(
    "limits",
    [
        *[{name: 1} for name in COUNTS],
        {"lease": TICK},
        {"retention": TICK},
        {"retention": None},
        {"lease": LEASE, "turn_timeout": LEAST + TICK},
    ],
    ids=str,
)
def test_a_bound_may_be_as_low_as_can_be_kept(limits: dict[str, Any]) -> None:
    made = HostLimits(**limits)
    assert {name: getattr(made, name) for name in limits} == limits


@pytest.mark.parametrize("name", ["lease", "turn_timeout", "retention"])
def test_a_bound_in_seconds_alone_is_refused_by_its_name(name: str) -> None:
    limits: dict[str, Any] = {name: 30}
    with pytest.raises(ConfigurationError, match=f"HostLimits.{name} is a datetime.timedelta, not int"):
        HostLimits(**limits)


@pytest.mark.parametrize("name", ["lease", "turn_timeout"])
def test_only_retention_may_be_none(name: str) -> None:
    limits: dict[str, Any] = {name: None}
    with pytest.raises(ConfigurationError, match=f"HostLimits.{name} is a datetime.timedelta, not NoneType"):
        HostLimits(**limits)


def test_a_refused_time_out_says_what_it_must_exceed() -> None:
    with pytest.raises(ConfigurationError, match=r"\(0:00:11\) must exceed lease \+ 2 s \(0:00:11\)"):
        HostLimits(turn_timeout=LEAST)
