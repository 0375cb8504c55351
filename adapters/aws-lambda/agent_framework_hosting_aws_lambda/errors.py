"""What ends an invocation without an HTTP response."""

from __future__ import annotations

from agent_framework_hosting import ConfigurationError, HostingError


class UnsupportedEvent(ConfigurationError):
    """The function was invoked by something that does not speak HTTP."""


class NoResponse(HostingError):
    """The app ended without a complete HTTP response."""
