"""How the sample's host is set up from the environment."""

import pytest
from agent_host import api_keys, build_host

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError
from agent_framework_hosting_aws_lambda import iam_identity
from tests.support.asgi import post_json
from tests.support.channels import started

KEYS = {"API_KEYS": "ada=0123456789abcdef"}


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "API_KEYS"),
        ({"SAMPLE_ALLOW_ANONYMOUS": "0"}, "SAMPLE_ALLOW_ANONYMOUS=1"),
        ({"API_KEYS": "0123456789abcdef"}, "name=key"),
        ({"API_KEYS": "ada="}, "name=key"),
        ({**KEYS, "SAMPLE_TARGET": "robot"}, "agent, workflow"),
    ],
)
def test_a_setting_that_is_missing_or_wrong_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(ConfigurationError, match=named):
        build_host(environ)


@pytest.mark.parametrize("environ", [KEYS, {"SAMPLE_ALLOW_ANONYMOUS": "1"}, {**KEYS, "SAMPLE_TARGET": "workflow"}])
def test_with_keys_or_on_request_it_may_be_exposed(environ: dict[str, str]) -> None:
    build_host(environ).check_exposure("a cloud")


def test_a_platform_that_knows_its_callers_needs_no_keys() -> None:
    build_host({}, auth=iam_identity).check_exposure("a cloud")


def test_what_is_open_on_loopback_is_refused_elsewhere() -> None:
    host: AgentFrameworkHost = build_host({}, loopback=True)
    with pytest.raises(ConfigurationError, match="invocations"):
        host.check_exposure("a cloud")


def test_keys_are_pairs_and_may_hold_equals_signs() -> None:
    assert api_keys(" ada=a=b, ,bob=c ") == {"ada": "a=b", "bob": "c"}


async def test_both_channels_let_the_same_callers_in() -> None:
    host = build_host({**KEYS, "OPENAI_API_KEY": ""})
    key = {"authorization": "Bearer 0123456789abcdef"}
    async with started(host):
        for path, body in (("/invocations", {"message": "Hello"}), ("/v1/responses", {"input": "Hello"})):
            assert (await post_json(host.app, path, body)).status == 401
            assert (await post_json(host.app, path, body, key)).status == 200
