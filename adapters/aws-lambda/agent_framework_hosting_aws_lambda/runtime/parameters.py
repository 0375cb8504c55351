"""Secrets from SSM: parameters that become environment variables before the function's own code is imported.

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from agent_framework_hosting import ConfigurationError

from ..clients import check_boto3, error_code, make_client
from ..errors import LambdaError

VARIABLE = "AF_HOSTING_SSM"
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=([A-Za-z0-9_.:/-]+)")
AT_ONCE = 10
"""Parameters that SSM gives for one request."""

# All attempts together end within the ten seconds that Lambda gives to an init.
CONNECT, READ, ATTEMPTS = 1.0, 2.0, 3


class ParametersUnavailable(LambdaError):
    """SSM did not answer: Lambda tries the init again."""


def set_parameters() -> None:
    """Set the variables that `AF_HOSTING_SSM` names: `NAME=/the/parameter`, with blanks between them.

    SecureStrings are decrypted. Each environment reads them once, when it starts: with SnapStart that is before the
    snapshot is taken.

    Raises:
        ConfigurationError: The variable has another form, a parameter is not there, the role may not read it, or boto3
            is missing.
        ParametersUnavailable: SSM did not answer.
    """
    if wanted := named_parameters(os.environ.get(VARIABLE, "")):
        check_boto3(VARIABLE)
        found = fetched(sorted({*wanted.values()}))
        os.environ.update({variable: found[name] for variable, name in wanted.items()})


def named_parameters(text: str) -> dict[str, str]:
    """Read which variable gets which parameter.

    Raises:
        ConfigurationError: It is not said so.
    """
    matches = [ASSIGNMENT.fullmatch(word) for word in text.split()]
    if None in matches:
        # Not what it says instead: that may be a secret itself.
        raise ConfigurationError(
            f"{VARIABLE} names parameters of SSM: API_KEYS=/bot/api-keys OPENAI_API_KEY=/bot/openai, with blanks "
            "between them."
        )
    return {match[1]: match[2] for match in matches if match is not None}


def fetched(names: Sequence[str]) -> Mapping[str, str]:
    from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

    values: dict[str, str] = {}
    try:
        ssm = make_client("ssm", connect=CONNECT, read=READ, attempts=ATTEMPTS)
        for start in range(0, len(names), AT_ONCE):
            asked = [*names[start : start + AT_ONCE]]
            answer: dict[str, Any] = ssm.get_parameters(Names=asked, WithDecryption=True)
            # One that was asked for by its ARN is called by its name in the answer.
            values |= {each.get("ARN", ""): each["Value"] for each in answer["Parameters"]}
            values |= {each["Name"]: each["Value"] for each in answer["Parameters"]}
    except (BotoCoreError, ClientError) as error:
        refuse(names, error_code(error))
    if missing := [name for name in names if name not in values]:
        raise ConfigurationError(
            f"SSM has no {', '.join(missing)} in this account and region: put the parameter there, or name another "
            f"one in {VARIABLE}."
        )
    return values


def refuse(names: Sequence[str], code: str) -> NoReturn:
    what = f"SSM gave no {', '.join(names)} ({code})."
    if code.startswith("AccessDenied"):
        raise ConfigurationError(
            f"{what} Allow ssm:GetParameters on it to the function's role, and kms:Decrypt on its key if that is one "
            "of yours."
        )
    raise ParametersUnavailable(f"{what} Lambda tries again with the next invocation.")
