"""Secrets from SSM, which is moto's: variables that are set before the function's code is imported."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import pytest

from agent_framework_hosting import ConfigurationError
from agent_framework_hosting_aws_lambda.runtime.parameters import ParametersUnavailable, set_parameters
from emulators.lambda_events import HttpRequest, function_url
from emulators.lambda_runtime_api import RuntimeApi
from emulators.object_stores import Moto
from tests.aws_lambda.runtime.conftest import HOST, notes, process_of
from tests.aws_lambda.sqs_recorder import recording

SECRET = "key-of-the-parameter-store-tests"
TELLING = (
    HOST
    + """
API_KEYS = os.environ["API_KEYS"]
async def keys(request):
    return PlainTextResponse(API_KEYS)
host = LambdaFunction(Host(Route("/keys", keys)))
"""
)


@pytest.fixture
def ssm(moto: Moto, monkeypatch: pytest.MonkeyPatch) -> Any:
    import boto3

    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    client: Any = cast("Any", boto3).client("ssm", region_name="us-east-1")
    client.put_parameter(Name="/bot/keys", Value=SECRET, Type="SecureString", Overwrite=True)
    for number in range(12):
        client.put_parameter(Name=f"/bot/{number}", Value=f"value {number}", Type="String", Overwrite=True)
    return client


def given(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv("AF_HOSTING_SSM", text)


@pytest.mark.needs("moto")
async def test_a_secure_string_is_there_when_the_function_is_imported(ssm: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(TELLING)
    # Where boto3 would write down all that it is told.
    env = {"AF_HOSTING_SSM": "API_KEYS=/bot/keys", "AWS_REGION": "us-east-1", "AWS_LAMBDA_LOG_LEVEL": "DEBUG"}
    async with RuntimeApi() as api, process_of(api, tmp_path, **env) as process:
        answer = await api.invoke(function_url(HttpRequest(path="/keys"))).answer()
        assert answer.status == 200, process.logs()
        assert answer.payload.decode() == SECRET
        assert SECRET not in process.logs()


@pytest.mark.needs("moto")
async def test_several_processes_have_it_read_once(ssm: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(TELLING + "note(str(os.environ.get('AF_HOSTING_SSM')))\nnote(API_KEYS)\n")
    env = {"AF_HOSTING_SSM": "API_KEYS=/bot/keys", "AWS_REGION": "us-east-1", "AWS_LAMBDA_MAX_CONCURRENCY": "2"}
    async with RuntimeApi() as api, process_of(api, tmp_path, **env):
        await api.ready(2)
        # Nothing is left to read.
        assert sorted(notes(tmp_path)) == ["None"] * 2 + [SECRET] * 2 + ["start"] * 2


@pytest.mark.needs("moto")
async def test_a_parameter_that_is_not_there_is_an_init_error_that_names_it(ssm: Any, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(TELLING)
    env = {"AF_HOSTING_SSM": "API_KEYS=/bot/none", "AWS_REGION": "us-east-1"}
    async with RuntimeApi() as api, process_of(api, tmp_path, **env) as process:
        assert await process.ended() == 1
        assert api.init_error is not None and "SSM has no /bot/none" in api.init_error.message


@pytest.mark.needs("moto")
def test_more_than_one_request_gives_and_names_by_their_arn(ssm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {f"VALUE_{number}": f"/bot/{number}" for number in range(12)}
    names["BY_ARN"] = ssm.get_parameter(Name="/bot/3")["Parameter"]["ARN"]
    for name in names:
        monkeypatch.setenv(name, "before")
    given(monkeypatch, "\n".join(f"{name}={of}" for name, of in names.items()))
    set_parameters()
    assert {name: os.environ[name] for name in names} == {
        **{f"VALUE_{number}": f"value {number}" for number in range(12)},
        "BY_ARN": "value 3",
    }


@pytest.mark.parametrize(
    "text", ["/bot/keys", "API_KEYS", "API_KEYS=", "=/bot/keys", "1=/bot", "A=/b,C=/d", "A=/b c=d=e"]
)
def test_what_does_not_name_parameters_is_told_without_what_it_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, text)
    with pytest.raises(ConfigurationError, match="names parameters of SSM") as caught:
        set_parameters()
    assert "bot/keys" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "  "])
def test_nothing_is_asked_for_where_nothing_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
    given(monkeypatch, text)
    set_parameters()


@pytest.mark.needs("moto")
def test_a_version_is_named_as_ssm_does_it(ssm: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("older", "newer"):
        ssm.put_parameter(Name="/bot/versions", Value=value, Type="String", Overwrite=True)
    version = ssm.get_parameter(Name="/bot/versions")["Parameter"]["Version"]
    monkeypatch.setenv("OLD", "")
    given(monkeypatch, f"OLD=/bot/versions:{version - 1}")
    set_parameters()
    assert os.environ["OLD"] == "older"


def test_a_version_does_not_stand_for_the_parameter_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """As SSM answers, which moto does not: with the selector (SSM API, Parameter)."""

    class Ssm:
        def get_parameters(self, **asked: Any) -> dict[str, Any]:
            newest = {"Name": "/bot/keys", "ARN": "arn:k", "Version": 3, "Value": "newest"}
            return {"Parameters": [newest, {**newest, "Version": 1, "Selector": ":1", "Value": "first"}]}

        def close(self) -> None: ...

    monkeypatch.setattr("agent_framework_hosting_aws_lambda.runtime.parameters.make_client", lambda *_, **__: Ssm())
    for name in ("FIRST", "NEWEST"):
        monkeypatch.setenv(name, "")
    given(monkeypatch, "FIRST=/bot/keys:1 NEWEST=/bot/keys")
    set_parameters()
    assert (os.environ["FIRST"], os.environ["NEWEST"]) == ("first", "newest")


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_REGION", "us-east-1")


@pytest.mark.usefixtures("credentials")
def test_a_role_that_may_not_read_them_is_told_what_to_allow(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "API_KEYS=/bot/keys")
    with recording() as recorder:
        recorder.refusal = "AccessDeniedException"
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", recorder.url)
        with pytest.raises(ConfigurationError, match=r"ssm:GetParameters.*kms:Decrypt") as caught:
            set_parameters()
        assert "you signed" not in str(caught.value)


@pytest.mark.usefixtures("credentials")
@pytest.mark.parametrize("code", ["ValidationException", "InvalidKeyId", "UnrecognizedClientException"])
def test_what_does_not_pass_is_no_matter_of_time(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "API_KEYS=/bot/keys")
    with recording() as recorder:
        recorder.refusal = code
        monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", recorder.url)
        with pytest.raises(ConfigurationError, match=rf"\({code}\).*AWS_REGION"):
            set_parameters()


@pytest.mark.usefixtures("credentials")
def test_a_parameter_store_that_is_away_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    given(monkeypatch, "API_KEYS=/bot/keys")
    monkeypatch.setenv("AWS_ENDPOINT_URL_SSM", "http://127.0.0.1:9")
    with pytest.raises(ParametersUnavailable, match="EndpointConnectionError"):
        set_parameters()
