"""Runs an `AgentFrameworkHost` on AWS Lambda."""

from __future__ import annotations

try:
    from .auth import iam_identity, jwt_identity
    from .errors import NoResponse, QueueUnavailable, UnsupportedEvent
    from .handler import LambdaHandler
    from .sqs import SqsInbox
except ImportError as error:
    if (error.name or "").partition(".")[0] != "agent_framework_hosting":
        raise
    raise ImportError(
        "LambdaHandler needs agent-framework-hosting 1.0 or later; what is installed here under that name is missing "
        "or an alpha release of another package. Run: pip install --upgrade 'agent-framework-hosting>=1.0'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = [
    "LambdaHandler",
    "NoResponse",
    "QueueUnavailable",
    "SqsInbox",
    "UnsupportedEvent",
    "iam_identity",
    "jwt_identity",
]
