"""What ends an invocation without an HTTP response, and what a queue may refuse."""

from __future__ import annotations

from agent_framework_hosting import ConfigurationError, HostingError


class LambdaError(HostingError):
    """Base of what goes wrong between a function and Lambda."""


class UnsupportedEvent(ConfigurationError):
    """The function was invoked by something that it has no use for."""


class NoResponse(LambdaError):
    """The app ended without a complete HTTP response."""

    INCOMPLETE = "The app returned without a complete response: it must send one, to its end."
    CANCELLED = "The app cancelled its own request: look for a cancelled task or scope."


class CallFailed(LambdaError):
    """A direct call was answered with an error; the message is its body."""


class QueueUnavailable(LambdaError):
    """SQS did not take a message: nobody was woken, and a sweep makes up for it."""
