"""Callers as the platform knows them, for a channel's `auth=`.

They read only `requestContext` of the event, which API Gateway and function URLs fill themselves: a caller can put
nothing there. Whoever may call the function directly (`lambda:InvokeFunction`) can; keep that to the platform.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, cast

from agent_framework_hosting import ChannelIdentity, isolation_key
from agent_framework_hosting.auth import Auth, Authenticator

from .direct import DIRECT

if TYPE_CHECKING:
    from starlette.requests import Request

CHANNEL = "aws"
SHARED_SESSION = "/CognitoIdentityCredentials"
Fields = Mapping[str, Any]
NOTHING: Fields = {}


def iam_identity(request: Request) -> ChannelIdentity | None:
    """Give the caller of a route with IAM authorisation (`AWS_IAM`), else None.

    `native_id` is the ARN of the user or of the assumed role; its last part, the session name, is chosen by whoever
    assumes the role. Callers with credentials of a Cognito identity pool all share one such ARN: for them it is the
    Cognito identity id. Their guests are None, and all of them behind a function URL, which does not tell the id.
    """
    event, context = request_context(request)
    if event.get("version") == "2.0":
        caller = fields(fields(context, "authorizer"), "iam")
        cognito = fields(caller, "cognitoIdentity")
        cognito_id, pool = text(cognito, "identityId"), text(cognito, "identityPoolId")
        methods = cognito.get("amr")
        is_guest = not isinstance(methods, list) or "authenticated" not in methods
    else:
        caller = fields(context, "identity")
        cognito_id, pool = text(caller, "cognitoIdentityId"), text(caller, "cognitoIdentityPoolId")
        is_guest = caller.get("cognitoAuthenticationType") != "authenticated"
    arn = text(caller, "userArn")
    if arn is None:
        return None
    attributes = {"arn": arn, "account_id": text(caller, "accountId")}
    if cognito_id is None and pool is None:
        return None if arn.endswith(SHARED_SESSION) else ChannelIdentity(CHANNEL, arn, attributes)
    if cognito_id is None or is_guest:
        return None
    return ChannelIdentity(CHANNEL, cognito_id, {**attributes, "identity_pool_id": pool})


def jwt_identity(claim: str = "sub") -> Callable[[Request], ChannelIdentity | None]:
    """Make an `auth` callable for routes with a JWT authoriser (HTTP API) or a Cognito user pool (REST API).

    `native_id` is the claim's value, qualified by the issuer. Choose a claim that the issuer never gives to two
    people and that they cannot change themselves: `sub` is made for that, `email` often is not. Without an
    authoriser on the route, or without the claim, the caller is None.
    """

    def identify(request: Request) -> ChannelIdentity | None:
        event, context = request_context(request)
        authorizer = fields(context, "authorizer")
        if event.get("version") == "2.0":
            authorizer = fields(authorizer, "jwt")
        claims = fields(authorizer, "claims")
        issuer, value = text(claims, "iss"), text(claims, claim)
        if issuer is None or value is None:
            return None
        return ChannelIdentity(CHANNEL, isolation_key(issuer, value), {"issuer": issuer, claim: value})

    return identify


def direct_identity(name: str = "direct") -> Callable[[Request], ChannelIdentity | None]:
    """Make an `auth` callable for direct calls (`{"message": …}`): all who may call the function are one caller.

    AWS does not tell who calls. What comes over HTTP is None, whatever it says.
    """
    identity = ChannelIdentity(CHANNEL, name)

    def identify(request: Request) -> ChannelIdentity | None:
        return identity if request.scope.get(DIRECT) is True else None

    return identify


def any_of(*auths: Auth) -> Callable[[Request], Awaitable[ChannelIdentity | None]]:
    """Make an `auth` callable of several: the caller is whom the first of them knows that knows one.

    Raises:
        ConfigurationError: One of them cannot be used.
    """
    known = [Authenticator(auth, channel=CHANNEL).identify for auth in auths]

    async def identify(request: Request) -> ChannelIdentity | None:
        for each in known:
            found = None if each is None else each(request)
            if inspect.isawaitable(found):
                found = await found
            if found is not None:
                return found
        return None

    return identify


def request_context(request: Request) -> tuple[Fields, Fields]:
    event = cast(Fields, request.scope.get("aws.event") or NOTHING)
    return event, fields(event, "requestContext")


def fields(of: Fields, name: str) -> Fields:
    """Give a nested object; nothing where it is absent, null or of another type."""
    value = of.get(name)
    return cast(Fields, value) if isinstance(value, dict) else NOTHING


def text(of: Fields, name: str) -> str | None:
    """Give a text that is not empty."""
    value = of.get(name)
    return value if isinstance(value, str) and value else None
