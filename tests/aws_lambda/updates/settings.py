"""What the function and its tests have in common."""

from __future__ import annotations

from datetime import timedelta

from agent_framework_hosting import HostLimits

LEASE = 2.5
SECRET = "s3cret-of-the-lambda-tests-" * 2
KEY = "responses-key-0123456789"


def limits(attempts: int = 5) -> HostLimits:
    return HostLimits(lease=timedelta(seconds=LEASE), turn_timeout=timedelta(seconds=15), update_attempts=attempts)
