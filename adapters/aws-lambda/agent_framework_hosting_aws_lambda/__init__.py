"""Runs an `AgentFrameworkHost` on AWS Lambda."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

if sys.argv[:1] == ["-m"] and __name__ in sys.orig_argv:
    # This is our runtime: its init looks for no garbage (runtime/loop.py), and it begins with this import.
    gc.disable()

try:
    from .auth import any_of, direct_identity, iam_identity, jwt_identity
    from .errors import CallFailed, NoResponse, QueueUnavailable, UnsupportedEvent
    from .function import LambdaFunction
    from .handler import LambdaHandler
except ImportError as error:
    if (error.name or "").partition(".")[0] != "agent_framework_hosting":
        raise
    raise ImportError(
        "LambdaHandler needs agent-framework-hosting 1.0 or later; what is installed here under that name is missing "
        "or an alpha release of another package. Run: pip install --upgrade 'agent-framework-hosting>=1.0'",
        name=error.name,
        path=error.path,
    ) from error

if TYPE_CHECKING:
    from .sqs import SqsInbox


def __getattr__(name: str) -> object:
    if name == "SqsInbox":  # Late: most functions have no queue.
        from .sqs import SqsInbox

        return SqsInbox
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "CallFailed",
    "LambdaFunction",
    "LambdaHandler",
    "NoResponse",
    "QueueUnavailable",
    "SqsInbox",
    "UnsupportedEvent",
    "any_of",
    "direct_identity",
    "iam_identity",
    "jwt_identity",
]
