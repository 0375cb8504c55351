"""Clients of AWS, made with boto3, which nothing here imports before one is needed."""

from __future__ import annotations

import logging
import os
from importlib.util import find_spec
from typing import Any, cast

from agent_framework_hosting import ConfigurationError


def check_boto3(what: str) -> None:
    """Make sure that boto3 can be imported, without doing it.

    Raises:
        ConfigurationError: It is missing.
    """
    if find_spec("boto3") is None:
        raise ConfigurationError(
            f"{what} needs boto3, which Lambda's own Python runtimes have. Elsewhere, run: pip install boto3"
        )


def make_client(
    service: str,
    *,
    connect: float,
    read: float,
    attempts: int,
    region: str | None = None,
    endpoint_url: str | None = None,
    **options: Any,
) -> Any:
    """Make a client with time-outs in seconds; the region is the environment's where none is named.

    `options` are those of botocore's `Config`.

    Raises:
        BotoCoreError: boto3 refuses what it finds in the environment.
    """
    from boto3.session import Session  # pyright: ignore[reportMissingTypeStubs]
    from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]

    sdk = logging.getLogger("botocore")
    if sdk.level == logging.NOTSET:
        # At DEBUG it writes down what it sends and what it signs, the session token among it.
        sdk.setLevel(logging.INFO)
    # Of the two variables that Lambda sets, boto3 reads only the second.
    region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    retries = {"mode": "standard", "total_max_attempts": attempts}
    config = Config(connect_timeout=connect, read_timeout=read, retries=retries, **options)
    # boto3's shared session would keep credentials of before a snapshot, and is not for several threads.
    return cast("Any", Session()).client(service, region_name=region, endpoint_url=endpoint_url, config=config)


def error_code(error: Exception) -> str:
    """Give a service's code of an error, or the SDK's kind of error.

    Of what a service says only the code: a refused signature is explained by what was signed, token and all.
    """
    response: object = getattr(error, "response", None)
    return str(cast("Any", response)["Error"]["Code"]) if isinstance(response, dict) else type(error).__name__


def error_status(error: Exception) -> int:
    """Give the HTTP status of a service's error; 0 where it is none."""
    response: object = getattr(error, "response", None)
    return int(cast("Any", response)["ResponseMetadata"].get("HTTPStatusCode", 0)) if isinstance(response, dict) else 0
