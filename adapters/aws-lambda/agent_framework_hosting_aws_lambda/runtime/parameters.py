"""Secrets from SSM: parameters that become environment variables before the function's own code is imported.

https://docs.aws.amazon.com/systems-manager/latest/APIReference/API_GetParameters.html
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from agent_framework_hosting import ConfigurationError

from ..clients import check_boto3, error_code, error_status, make_client
from ..errors import LambdaError

VARIABLE = "AF_HOSTING_SSM"
ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=((?:/|arn:)[A-Za-z0-9_.:/-]+)")
AT_ONCE = 10
"""Parameters that SSM gives for one request."""

# Lambda gives ten seconds to an init: two attempts, and the pause between them, are over in seven.
CONNECT, READ, ATTEMPTS = 1.0, 2.0, 2


class ParametersUnavailable(LambdaError):
    """SSM did not answer, or is busy: Lambda tries the init again."""


def set_parameters() -> None:
    """Set the variables that `AF_HOSTING_SSM` names: `NAME=/the/parameter`, with blanks between them.

    A parameter's name begins with a slash here, so that nothing else is taken for one, and told.

    A name may be an ARN, and end with a version or a label (`:3`). SecureStrings are decrypted. Each environment reads
    them once, when it starts: with SnapStart that is before the snapshot is taken, which then holds them.

    Raises:
        ConfigurationError: The variable has another form, a parameter is not there, the role may not read it, or boto3
            is missing.
        ParametersUnavailable: SSM did not answer.
    """
    if wanted := named_parameters(os.environ.get(VARIABLE, "")):
        check_boto3(VARIABLE)
        found = fetched(sorted({*wanted.values()}))
        os.environ.update({variable: found[name] for variable, name in wanted.items()})
        del os.environ[VARIABLE]  # A process that is started from here has them.


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
    """Read parameters, by the names that they were asked for by.

    Raises:
        ConfigurationError: One is not there, or cannot be read.
        ParametersUnavailable: SSM did not answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # pyright: ignore[reportMissingTypeStubs]

    values: dict[str, str] = {}
    ssm: Any = None
    try:
        ssm = make_client("ssm", connect=CONNECT, read=READ, attempts=ATTEMPTS)
        for start in range(0, len(names), AT_ONCE):
            asked = [*names[start : start + AT_ONCE]]
            answer: dict[str, Any] = ssm.get_parameters(Names=asked, WithDecryption=True)
            for each in answer.get("Parameters", ()):
                # Whatever it was asked for by, the answer has its name and its ARN, and apart from them the version or
                # label if there was one: the parameter without it may have been asked for, too.
                selector = each.get("Selector", "").lstrip(":")
                endings = [f":{selector}"] if selector else ["", f":{each.get('Version')}"]
                for called in (each["Name"], each.get("ARN", "")):
                    values |= {called + ending: each["Value"] for ending in endings}
    except (BotoCoreError, ClientError, ValueError) as error:
        refuse(names, error)
    finally:
        if ssm is not None:
            ssm.close()
    if missing := [name for name in names if name not in values]:
        raise ConfigurationError(
            f"SSM has no {', '.join(missing)} in this account and region: put the parameter there, or name another "
            f"one in {VARIABLE}."
        )
    return values


def refuse(names: Sequence[str], error: Exception) -> NoReturn:
    """Say why there are none.

    Raises:
        ConfigurationError: It will be so the next time, too.
        ParametersUnavailable: It passes.
    """
    from botocore import exceptions  # pyright: ignore[reportMissingTypeStubs]

    code = error_code(error)
    what = f"SSM gave no {', '.join(names)} ({code})."
    passing = isinstance(error, (exceptions.ConnectionError, exceptions.HTTPClientError))
    if passing or error_status(error) >= 500 or code.startswith("Throttl"):
        raise ParametersUnavailable(f"{what} Lambda tries again with the next invocation.") from None
    if code.startswith("AccessDenied"):
        raise ConfigurationError(
            f"{what} Allow ssm:GetParameters on it to the function's role, and kms:Decrypt on its key if that is one "
            "of yours."
        ) from None
    raise ConfigurationError(
        f"{what} Check the names in {VARIABLE}, the region (AWS_REGION) and the credentials, which are those of the "
        "function's role on Lambda."
    ) from None
