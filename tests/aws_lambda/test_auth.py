"""Who the platform says is calling."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.requests import Request

from agent_framework_hosting.requests import ChannelIdentity
from agent_framework_hosting_aws_lambda import iam_identity, jwt_identity
from emulators.lambda_events import Event, HttpRequest, function_url, http_api, http_api_v1, load_balancer, rest_api

from .test_requests import Maker, every_kind

ARN = "arn:aws:sts::111122223333:assumed-role/caller/session"
IAM = {
    "accessKey": "ASIA",
    "accountId": "111122223333",
    "callerId": "AROA:session",
    "cognitoIdentity": None,
    "userArn": ARN,
}
IDENTITY = {"accessKey": "ASIA", "accountId": "111122223333", "caller": "AROA:session", "user": "AROA", "userArn": ARN}
POOL_ARN = "arn:aws:sts::111122223333:assumed-role/Cognito_pool/CognitoIdentityCredentials"
CLAIMS = {"iss": "https://issuer.example/pool", "sub": "user-1", "email": "a@example.com", "exp": "1795341600"}


def asked(event: Event | None) -> Request:
    scope: dict[str, Any] = {"type": "http", "headers": [(b"x-amzn-oidc-identity", b"forged")]}
    if event is not None:
        scope["aws.event"] = event
    return Request(scope)


@pytest.mark.parametrize(
    "event",
    [
        function_url(HttpRequest(), authorizer={"iam": IAM}),
        http_api(HttpRequest(), authorizer={"iam": IAM}),
        rest_api(HttpRequest(), identity=IDENTITY),
    ],
)
def test_iam_caller(event: Event) -> None:
    identity = iam_identity(asked(event))
    assert isinstance(identity, ChannelIdentity)
    assert (identity.channel, identity.native_id) == ("aws", ARN)
    assert identity.attributes == {"arn": ARN, "account_id": "111122223333"}
    assert jwt_identity()(asked(event)) is None


def cognito(kind: str, identity_id: str | None, *, guest: bool = False) -> Event:
    """A caller of a Cognito identity pool: all of them have one ARN."""
    if kind == "rest api":
        return rest_api(
            HttpRequest(),
            identity=IDENTITY
            | {
                "userArn": POOL_ARN,
                "cognitoIdentityId": identity_id,
                "cognitoIdentityPoolId": "eu-central-1:pool",
                "cognitoAuthenticationType": "unauthenticated" if guest else "authenticated",
            },
        )
    methods = ["unauthenticated"] if guest else ["authenticated", "idp.example"]
    found = {"amr": methods, "identityId": identity_id, "identityPoolId": "eu-central-1:pool"}
    return http_api(HttpRequest(), authorizer={"iam": IAM | {"userArn": POOL_ARN, "cognitoIdentity": found}})


@pytest.mark.parametrize("kind", ["rest api", "http api"])
def test_callers_of_an_identity_pool_are_told_apart(kind: str) -> None:
    first = iam_identity(asked(cognito(kind, "eu-central-1:one")))
    second = iam_identity(asked(cognito(kind, "eu-central-1:two")))
    assert first is not None
    assert second is not None
    assert (first.native_id, second.native_id) == ("eu-central-1:one", "eu-central-1:two")
    assert first.attributes["identity_pool_id"] == "eu-central-1:pool"
    assert iam_identity(asked(cognito(kind, "eu-central-1:one", guest=True))) is None
    assert iam_identity(asked(cognito(kind, None))) is None


def test_shared_arn_names_nobody() -> None:
    """Function URLs leave out which identity of the pool is calling."""
    assert iam_identity(asked(function_url(HttpRequest(), authorizer={"iam": IAM | {"userArn": POOL_ARN}}))) is None


@pytest.mark.parametrize(
    "event",
    [
        http_api(HttpRequest(), authorizer={"jwt": {"claims": CLAIMS, "scopes": None}}),
        http_api_v1(HttpRequest(), authorizer={"claims": CLAIMS, "scopes": None}),
        rest_api(HttpRequest(), authorizer={"claims": CLAIMS}),
    ],
)
def test_jwt_caller(event: Event) -> None:
    identity = jwt_identity()(asked(event))
    assert identity is not None
    assert (identity.channel, identity.native_id) == ("aws", "https%3A%2F%2Fissuer.example%2Fpool:user-1")
    assert identity.attributes == {"issuer": CLAIMS["iss"], "sub": "user-1"}
    other = jwt_identity("email")(asked(event))
    assert other is not None
    assert other.native_id.endswith(":a@example.com")
    assert jwt_identity("nickname")(asked(event)) is None
    assert iam_identity(asked(event)) is None


def test_issuers_do_not_share_callers() -> None:
    def identity(issuer: str, subject: str) -> str:
        claims = {"iss": issuer, "sub": subject}
        found = jwt_identity()(asked(http_api(HttpRequest(), authorizer={"jwt": {"claims": claims}})))
        assert found is not None
        return found.native_id

    assert identity("a:b", "c") != identity("a", "b:c")


@every_kind
def test_no_authorizer_no_caller(make: Maker) -> None:
    forged = HttpRequest(
        headers=[
            ("authorization", "Bearer e30.e30."),
            ("x-amzn-iam-user-arn", ARN),
            ("x-amzn-oidc-identity", "user-1"),
        ],
        query="requestContext.authorizer.iam.userArn=x",
    )
    for event in (make(forged), None):
        assert iam_identity(asked(event)) is None
        assert jwt_identity()(asked(event)) is None


@pytest.mark.parametrize(
    "authorizer",
    [
        None,
        {},
        {"iam": None},
        {"iam": {"userArn": None}},
        {"iam": {"userArn": ""}},
        {"jwt": None},
        {"jwt": {"claims": None}},
        {"jwt": {"claims": {"sub": "user-1"}}},
        {"jwt": {"claims": {"iss": "i", "sub": ""}}},
        {"jwt": {"claims": {"iss": "i", "sub": 7}}},
        {"claims": CLAIMS},
        # What a Lambda authoriser of one's own has put there is its own business.
        {"lambda": {"iam": IAM, "jwt": {"claims": CLAIMS}, "claims": CLAIMS}},
        "text",
    ],
)
def test_payload_2_without_a_usable_caller(authorizer: Any) -> None:
    event = http_api(HttpRequest())
    event["requestContext"]["authorizer"] = authorizer
    assert iam_identity(asked(event)) is None
    assert jwt_identity()(asked(event)) is None


@pytest.mark.parametrize(
    "authorizer",
    [{"principalId": "p", "claims": '{"iss": "i", "sub": "s"}'}, {"jwt": {"claims": CLAIMS}}, {"iam": IAM}, None],
)
def test_rest_api_without_a_usable_caller(authorizer: Any) -> None:
    event = rest_api(HttpRequest(), authorizer=authorizer)
    assert iam_identity(asked(event)) is None
    assert jwt_identity()(asked(event)) is None


def test_load_balancer_knows_nobody() -> None:
    event = load_balancer(HttpRequest(headers=[("x-amzn-oidc-data", "e30.e30."), ("x-amzn-oidc-identity", "user-1")]))
    assert iam_identity(asked(event)) is None
    assert jwt_identity()(asked(event)) is None
