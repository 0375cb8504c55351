"""What a function is told of an invocation, as the stock runtime tells it (AWS Lambda context object in Python)."""

from __future__ import annotations

import json
import os
import time
from types import SimpleNamespace
from typing import Any, cast

from .api import Raw


class InvocationContext:
    """The context object of one invocation."""

    def __init__(self, raw: Raw) -> None:
        environ = os.environ
        self.aws_request_id = raw.id
        self.invoked_function_arn = raw.arn
        self.trace_id = raw.trace_id
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION", "")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME", "")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME", "")
        self.identity = identity_of(raw.headers.get("lambda-runtime-cognito-identity"))
        self.client_context = client_context_of(raw.headers.get("lambda-runtime-client-context"))
        self.tenant_id = raw.headers.get("lambda-runtime-aws-tenant-id")
        self._deadline = raw.deadline

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self._deadline - time.time()) * 1000))


def told(header: str | None) -> dict[str, Any] | None:
    """Read a header that is JSON; one that is not tells nothing."""
    try:
        value: object = json.loads(header) if header else None
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def identity_of(header: str | None) -> SimpleNamespace:
    found = told(header) or {}
    return SimpleNamespace(
        cognito_identity_id=found.get("cognitoIdentityId"),
        cognito_identity_pool_id=found.get("cognitoIdentityPoolId"),
    )


def client_context_of(header: str | None) -> SimpleNamespace | None:
    """Give what a caller of the Invoke API may send along, with the names that mobile SDKs have for it."""
    if (found := told(header)) is None:
        return None
    client: object = found.get("client")
    return SimpleNamespace(
        custom=found.get("custom"),
        env=found.get("env"),
        client=SimpleNamespace(**cast("dict[str, Any]", client)) if isinstance(client, dict) else None,
    )
