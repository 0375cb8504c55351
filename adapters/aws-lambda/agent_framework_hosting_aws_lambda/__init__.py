"""Runs an `AgentFrameworkHost` on AWS Lambda."""

from __future__ import annotations

from .auth import iam_identity, jwt_identity
from .errors import NoResponse, UnsupportedEvent
from .handler import LambdaHandler

__all__ = ["LambdaHandler", "NoResponse", "UnsupportedEvent", "iam_identity", "jwt_identity"]
