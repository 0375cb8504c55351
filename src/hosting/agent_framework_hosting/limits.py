"""The bounds a host keeps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from .errors import ConfigurationError

LEASE_MARGIN = timedelta(seconds=2)


@dataclass(frozen=True)
class HostLimits:
    """Sizes are in bytes.

    Raises:
        ConfigurationError: A bound is not positive, or `turn_timeout` leaves no time to take over a lease.
    """

    body_bytes: int = 4 * 2**20
    session_bytes: int = 8 * 2**20
    lease: timedelta = timedelta(seconds=9)
    turn_timeout: timedelta = timedelta(seconds=20)
    update_attempts: int = 5
    mailbox_updates: int = 1000
    memory_sessions: int = 10_000
    retention: timedelta | None = timedelta(days=30)

    def __post_init__(self) -> None:
        for name in ("lease", "turn_timeout", "retention"):
            value = getattr(self, name)
            if not isinstance(value, timedelta) and not (name == "retention" and value is None):
                raise ConfigurationError(f"HostLimits.{name} is a datetime.timedelta, not {type(value).__name__}.")
        for name in ("body_bytes", "session_bytes", "update_attempts", "mailbox_updates", "memory_sessions"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"HostLimits.{name} must be at least 1.")
        if self.lease <= timedelta(0) or (self.retention is not None and self.retention <= timedelta(0)):
            raise ConfigurationError("HostLimits.lease and HostLimits.retention must be positive.")
        if self.turn_timeout <= self.lease + LEASE_MARGIN:
            raise ConfigurationError(
                f"HostLimits.turn_timeout ({self.turn_timeout}) must exceed lease + 2 s "
                f"({self.lease + LEASE_MARGIN}): otherwise nobody waits long enough to take over from a dead holder."
            )


DEFAULT_LIMITS = HostLimits()
