"""What ends an invocation without an HTTP response, and what a queue may refuse."""

from __future__ import annotations

from agent_framework_hosting import ConfigurationError, HostingError


class UnsupportedEvent(ConfigurationError):
    """The function was invoked by something that does not speak HTTP."""


class NoResponse(HostingError):
    """The app ended without a complete HTTP response."""


class QueueUnavailable(HostingError):
    """SQS did not take a message: nobody was woken, and a sweep makes up for it."""
