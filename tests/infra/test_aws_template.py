"""The AWS template as it would be deployed: transformed, settled for its parameters, held against its promises."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from scripts.toolchain import SAM
from scripts.workspace import ROOT
from tests.support.cloudformation import Choices, Refused

pytestmark = pytest.mark.needs("sam")

TEMPLATE = ROOT / "infra" / "aws" / "template.yaml"
KEYS = {"AuthType": "NONE", "ApiKeysSecret": "my/bot:SecretString:api_keys"}
NETWORK = {"VpcId": "vpc-0a1b2c3d", "FirstSubnetId": "subnet-0a1b2c3d", "SecondSubnetId": "subnet-1a2b3c4d"}
EFS = {"State": "efs", **NETWORK}
TOPIC = "arn:aws:sns:us-east-1:123456789012:alarms"
DEPLOYMENTS: dict[str, dict[str, str]] = {
    "as it is": {},
    "keys": KEYS | {"OpenAIKeySecret": "my/openai", "OpenAIModel": "gpt-5"},
    "keys in ssm": {
        "AuthType": "NONE",
        "SecretStore": "ssm",
        "ApiKeysSecret": "/my/bot/keys",
        "OpenAIKeySecret": "/my/openai",
    },
    "http api": {"Front": "http-api"},
    "http api with keys": {"Front": "http-api", **KEYS},
    "file system": EFS,
    "all of it": {
        "SnapStart": "true",
        "Tracing": "true",
        "VersionDays": "7",
        "ReservedConcurrency": "20",
        "Architecture": "x86_64",
        "AlarmTopicArn": TOPIC,
    },
    "file system, without a queue": {**EFS, **KEYS, "Front": "http-api", "WakeUpQueue": "false", "Tracing": "true"},
}
# Every resource is in one of them, which a test below sees to; to lint one takes a second.
LINTED = ("keys", "keys in ssm", "all of it", "file system, without a queue")
# Who may have what on everything, and why no less would do.
ARGUED = {
    "JoinNetwork": "Lambda asks for it on everything, and EC2's Describe actions know no resources",
    "Trace": "X-Ray's actions know no resources",
}

Resources = dict[str, dict[str, Any]]


def environment() -> dict[str, str]:
    """As it is but without a word to anybody, and with compiled modules kept: they take longer than the work."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "SAM_CLI_TELEMETRY": "0", "SAM_CLI_CHECK_FOR_UPDATES": "0"}


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """What SAM makes of each of the deployments, the transformed template under `""`, and `faults`."""
    command = [SAM.with_name("python"), "-m", "tests.infra.sam_side", TEMPLATE, *LINTED]
    wanted = json.dumps(DEPLOYMENTS)
    ran = subprocess.run(
        command, cwd=ROOT, env=environment(), input=wanted, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout)


@pytest.fixture(scope="module")
def template(answers: dict[str, Any]) -> dict[str, Any]:
    return answers[""]


@pytest.fixture(params=DEPLOYMENTS)
def resources(answers: dict[str, Any], request: pytest.FixtureRequest) -> Resources:
    """The resources of each deployment."""
    return answers[request.param]["Resources"]


def made(answers: dict[str, Any], name: str) -> Resources:
    return answers[name]["Resources"]


def variables(resources: Resources) -> dict[str, Any]:
    return resources["HostFunction"]["Properties"]["Environment"]["Variables"]


def of_type(resources: Resources, kind: str) -> list[dict[str, Any]]:
    return [each["Properties"] for each in resources.values() if each["Type"] == kind]


def statements(resources: Resources) -> Iterator[dict[str, Any]]:
    """Every statement of every policy."""
    for each in resources.values():
        for name in ("PolicyDocument", "FileSystemPolicy", "AssumeRolePolicyDocument"):
            yield from each["Properties"].get(name, {}).get("Statement", [])


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def allowed(resources: Resources) -> dict[str, dict[str, Any]]:
    """What the function's role allows, by the statement's name."""
    policy = resources["HostPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    return {each["Sid"]: each for each in policy if each["Effect"] == "Allow"}


def test_sam_accepts_it_and_finds_no_fault() -> None:
    command = [SAM, "validate", "--lint", "--region", "us-east-1", "--template-file", TEMPLATE]
    ran = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.mark.parametrize("name", LINTED)
def test_what_is_deployed_has_no_fault(answers: dict[str, Any], name: str) -> None:
    assert answers["faults"][name] == []


def test_no_resource_is_left_out_of_that(answers: dict[str, Any]) -> None:
    assert {resource for name in LINTED for resource in made(answers, name)} == answers[""]["Resources"].keys()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"AuthType": "NONE"}, "needs ApiKeysSecret"),
        ({"ApiKeysSecret": "keys"}, "same header"),
        ({"State": "efs"}, "FirstSubnetId and SecondSubnetId"),
        ({**EFS, "VpcId": ""}, "VpcId"),
        ({**EFS, "SecondSubnetId": EFS["FirstSubnetId"]}, "two availability zones"),
        ({**EFS, "SnapStart": "true"}, "SnapStart does not work"),
        ({**EFS, "VersionDays": "7"}, "keeps no versions"),
        (NETWORK, "for State efs only"),
        ({"AuthType": "NOPE"}, "AuthType"),
        ({"TimeoutSeconds": "45"}, "TimeoutSeconds"),
        ({**KEYS, "ApiKeysSecret": "a}}{{resolve:ssm:b"}, "ApiKeysSecret"),
        ({"QueueConcurrency": "1"}, "QueueConcurrency"),
    ],
)
def test_what_makes_no_sense_is_refused(template: dict[str, Any], given: dict[str, str], said: str) -> None:
    with pytest.raises(Refused, match=said):
        Choices(template, given)


def test_nothing_is_allowed_on_everything_without_a_reason(resources: Resources) -> None:
    for each in statements(resources):
        if each["Effect"] == "Allow":
            everything = "*" in listed(each.get("Resource", [])) or any(
                "*" in action for action in listed(each["Action"])
            )
            assert not everything or each["Sid"] in ARGUED, each


def test_each_reason_is_needed(answers: dict[str, Any]) -> None:
    assert ARGUED.keys() <= allowed(made(answers, "file system, without a queue")).keys()


def test_the_role_brings_no_policy_of_somebody_else(resources: Resources) -> None:
    assert [each.keys() for each in of_type(resources, "AWS::IAM::Role")] == [{"AssumeRolePolicyDocument"}]


def test_state_in_a_bucket_needs_only_its_prefix(answers: dict[str, Any]) -> None:
    granted = allowed(made(answers, "as it is"))
    assert granted.keys() == {"Log", "WakeUp", "ListState", "ReadAndWriteState"}
    assert granted["ListState"]["Condition"] == {"StringLike": {"s3:prefix": "bot/*"}}
    assert granted["ReadAndWriteState"]["Resource"] == {"Fn::Sub": "${StateBucket.Arn}/bot/*"}
    assert variables(made(answers, "as it is"))["STATE_DIR"] == {"Fn::Sub": "s3://${StateBucket}/bot"}


def test_a_bucket_is_private_encrypted_and_kept(answers: dict[str, Any]) -> None:
    for name in ("as it is", "all of it"):
        bucket = made(answers, name)["StateBucket"]
        assert (bucket["DeletionPolicy"], bucket["UpdateReplacePolicy"]) == ("Retain", "Retain")
        assert set(bucket["Properties"]["PublicAccessBlockConfiguration"].values()) == {True}
        assert "SSEAlgorithm" in json.dumps(bucket["Properties"]["BucketEncryption"])
        (deny,) = made(answers, name)["StateBucketPolicy"]["Properties"]["PolicyDocument"]["Statement"]
        assert (deny["Effect"], deny["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_no_lifecycle_rule_removes_what_counts(resources: Resources) -> None:
    harmless = {
        *("Id", "Status", "Prefix", "AbortIncompleteMultipartUpload"),
        *("NoncurrentVersionExpiration", "ExpiredObjectDeleteMarker"),
    }
    for bucket in of_type(resources, "AWS::S3::Bucket"):
        for rule in bucket["LifecycleConfiguration"]["Rules"]:
            assert rule.keys() <= harmless


def test_versions_are_kept_where_asked_for(answers: dict[str, Any]) -> None:
    def kept(name: str) -> tuple[Any, Any]:
        bucket = made(answers, name)["StateBucket"]["Properties"]
        rules = {each["Id"]: each for each in bucket["LifecycleConfiguration"]["Rules"]}
        days = str(rules["versions"]["NoncurrentVersionExpiration"]["NoncurrentDays"])
        return bucket.get("VersioningConfiguration"), days

    assert kept("as it is") == (None, "1")
    assert kept("all of it") == ({"Status": "Enabled"}, "7")


def test_state_on_a_file_system_is_mounted_through_its_access_point(answers: dict[str, Any]) -> None:
    resources = made(answers, "file system")
    assert not of_type(resources, "AWS::S3::Bucket")
    system = resources["FileSystem"]
    assert system["Properties"]["Encrypted"] is True
    assert (system["DeletionPolicy"], system["UpdateReplacePolicy"]) == ("Retain", "Retain")
    (mounted,) = resources["HostFunction"]["Properties"]["FileSystemConfigs"]
    assert mounted == {"Arn": {"Fn::GetAtt": ["AccessPoint", "Arn"]}, "LocalMountPath": "/mnt/state"}
    assert variables(resources)["STATE_DIR"].startswith(mounted["LocalMountPath"] + "/")
    mount = allowed(resources)["Mount"]
    assert mount["Condition"]["StringEquals"]["elasticfilesystem:AccessPointArn"] == mounted["Arn"]
    targets = of_type(resources, "AWS::EFS::MountTarget")
    assert {each["SubnetId"] for each in targets} == {EFS["FirstSubnetId"], EFS["SecondSubnetId"]}
    # What the function refers to is there before it.
    assert variables(resources)["MOUNT_TARGETS"] == {"Fn::Sub": "${FirstMountTarget} ${SecondMountTarget}"}


def test_the_functions_code_may_not_touch_the_network_interfaces(answers: dict[str, Any]) -> None:
    policy = made(answers, "file system")["HostPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    (allow,) = [each for each in policy if each["Sid"] == "JoinNetwork"]
    (deny,) = [each for each in policy if each["Effect"] == "Deny"]
    assert deny["Action"] == allow["Action"]
    assert "lambda:SourceFunctionArn" in deny["Condition"]["ArnLike"]


def test_a_url_streams_and_is_closed_to_unsigned_calls(answers: dict[str, Any]) -> None:
    resources = made(answers, "as it is")
    url = resources["Url"]["Properties"]
    assert (url["AuthType"], url["InvokeMode"]) == ("AWS_IAM", "RESPONSE_STREAM")
    assert variables(resources)["AF_HOSTING_STREAMING"] == "function_url"
    assert "API_KEYS" not in variables(resources)
    assert {each["Principal"] for each in of_type(resources, "AWS::Lambda::Permission")} == {"events.amazonaws.com"}


def test_an_open_url_has_both_permissions_and_no_direct_invocation(answers: dict[str, Any]) -> None:
    resources = made(answers, "keys")
    opened = [each for each in of_type(resources, "AWS::Lambda::Permission") if each["Principal"] == "*"]
    assert [
        (each["Action"], each.get("FunctionUrlAuthType"), each.get("InvokedViaFunctionUrl")) for each in opened
    ] == [
        ("lambda:InvokeFunctionUrl", "NONE", None),
        ("lambda:InvokeFunction", None, True),
    ]
    assert {json.dumps(each["FunctionName"]) for each in opened} == {
        json.dumps(resources["Url"]["Properties"]["TargetFunctionArn"])
    }


def test_whom_the_policy_is_attached_to_calls_through_the_front_only(answers: dict[str, Any]) -> None:
    by_url = made(answers, "as it is")["CallerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert {each["Action"]: list(each["Condition"]) for each in by_url} == {
        "lambda:InvokeFunctionUrl": ["StringEquals"],
        "lambda:InvokeFunction": ["Bool"],
    }
    by_api = made(answers, "http api")["CallerPolicy"]["Properties"]["PolicyDocument"]["Statement"]
    assert [each["Action"] for each in by_api] == ["execute-api:Invoke"]
    assert "CallerPolicy" not in made(answers, "keys")


@pytest.mark.parametrize(("name", "auth"), [("http api", "AWS_IAM"), ("http api with keys", "NONE")])
def test_an_http_api_stands_in_place_of_the_url(answers: dict[str, Any], name: str, auth: str) -> None:
    resources = made(answers, name)
    assert not of_type(resources, "AWS::Lambda::Url")
    assert "AF_HOSTING_STREAMING" not in variables(resources)
    (route,) = of_type(resources, "AWS::ApiGatewayV2::Route")
    assert (route["RouteKey"], route["AuthorizationType"]) == ("$default", auth)
    (integration,) = of_type(resources, "AWS::ApiGatewayV2::Integration")
    assert (integration["IntegrationType"], integration["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")


def test_a_function_in_a_vpc_does_not_stream(answers: dict[str, Any]) -> None:
    resources = made(answers, "file system")
    assert resources["Url"]["Properties"]["InvokeMode"] == "BUFFERED"
    assert "AF_HOSTING_STREAMING" not in variables(resources)


def test_secrets_are_references(answers: dict[str, Any]) -> None:
    assert (
        variables(made(answers, "keys")).items()
        >= {
            "API_KEYS": "{{resolve:secretsmanager:my/bot:SecretString:api_keys}}",
            "OPENAI_API_KEY": "{{resolve:secretsmanager:my/openai}}",
            "OPENAI_MODEL": "gpt-5",
        }.items()
    )


def test_secrets_in_ssm_are_read_by_the_function_and_nothing_else_is(answers: dict[str, Any]) -> None:
    resources = made(answers, "keys in ssm")
    joined = [" ", ["API_KEYS=/my/bot/keys", "OPENAI_API_KEY=/my/openai"]]
    assert variables(resources)["AF_HOSTING_SSM"] == {"Fn::Join": joined}
    assert not {"API_KEYS", "OPENAI_API_KEY"} & variables(resources).keys()
    statement = allowed(resources)["ReadSecrets"]
    assert statement["Action"] == "ssm:GetParameters"
    assert [str(each).partition(":parameter")[2].rstrip("'}") for each in statement["Resource"]] == [
        "/my/bot/keys",
        "/my/openai",
    ]
    for name in DEPLOYMENTS.keys() - {"keys in ssm"}:
        assert "AF_HOSTING_SSM" not in variables(made(answers, name))
        assert "ReadSecrets" not in allowed(made(answers, name))


def test_our_runtime_stands_in_for_the_stock_one(resources: Resources) -> None:
    function = resources["HostFunction"]["Properties"]
    assert (function["Runtime"], function["Handler"]) == ("python3.13", "app.handler")
    assert function["RecursiveLoop"] == "Allow"
    wrapper = variables(resources)["AWS_LAMBDA_EXEC_WRAPPER"]
    assert wrapper == "/var/task/agent_framework_hosting_aws_lambda/wrapper"


@pytest.mark.parametrize("seconds", ["30", "60", "120", "300", "600", "900"])
def test_the_queue_waits_six_times_as_long_as_the_function(template: dict[str, Any], seconds: str) -> None:
    queue = Choices(template, {"TimeoutSeconds": seconds}).settled()["Resources"]["WakeUps"]["Properties"]
    assert queue["VisibilityTimeout"] == 6 * int(seconds)


def test_every_time_out_that_may_be_chosen_has_been_tried(template: dict[str, Any]) -> None:
    assert template["Parameters"]["TimeoutSeconds"]["AllowedValues"] == [30, 60, 120, 300, 600, 900]


def test_wake_ups_report_what_failed_and_end_as_dead_letters(answers: dict[str, Any]) -> None:
    resources = made(answers, "as it is")
    mapping = resources["WakeUpMapping"]["Properties"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["ScalingConfig"] == {"MaximumConcurrency": "10"}
    dead = {"Fn::GetAtt": ["DeadLetters", "Arn"]}
    assert resources["WakeUps"]["Properties"]["RedrivePolicy"]["deadLetterTargetArn"] == dead
    assert variables(resources)["QUEUE_URL"] == {"Ref": "WakeUps"}
    assert all(each["SqsManagedSseEnabled"] for each in of_type(resources, "AWS::SQS::Queue"))


def test_of_an_asynchronous_call_that_fails_nothing_is_kept(resources: Resources) -> None:
    calls = resources["AsynchronousCalls"]["Properties"]
    assert (calls["MaximumRetryAttempts"], "DestinationConfig" in calls) == (0, False)
    assert "DeadLetterConfig" not in resources["HostFunction"]["Properties"]


def test_without_a_queue_nothing_of_one_is_left(answers: dict[str, Any]) -> None:
    resources = made(answers, "file system, without a queue")
    assert [*variables(resources)].count("QUEUE_URL") == 0
    assert not of_type(resources, "AWS::Lambda::EventSourceMapping")
    assert not of_type(resources, "AWS::SQS::Queue")
    assert "DeadLettersAlarm" not in resources
    assert "WakeUp" not in allowed(resources)


def test_the_sweep_comes_every_minute(resources: Resources) -> None:
    (rule,) = of_type(resources, "AWS::Events::Rule")
    (target,) = rule["Targets"]
    assert rule["ScheduleExpression"] == "rate(1 minute)"
    assert json.loads(target["Input"]) == {"af-hosting": "sweep"}


def test_alarms_watch_what_the_function_and_the_queues_tell(resources: Resources) -> None:
    queue = {
        ("AWS/SQS", "ApproximateNumberOfMessagesVisible"): (
            [{"Name": "QueueName", "Value": {"Fn::GetAtt": ["DeadLetters", "QueueName"]}}],
            "notBreaching",
        )
    }
    function = {"Ref": "HostFunction"}
    watched = {
        (each["Namespace"], each["MetricName"]): (each["Dimensions"], each["TreatMissingData"])
        for each in of_type(resources, "AWS::CloudWatch::Alarm")
    }
    by_function = [{"Name": "FunctionName", "Value": function}]
    assert watched == {
        ("AWS/Lambda", "Errors"): (by_function, "notBreaching"),
        ("AWS/Lambda", "Throttles"): (by_function, "notBreaching"),
        **(queue if "WakeUps" in resources else {}),
        # Sweeps that have stopped write no metric.
        ("AgentFrameworkHosting", "OldestUpdateAge"): (by_function, "breaching"),
        ("AgentFrameworkHosting", "SetAsideUpdates"): (by_function, "notBreaching"),
    }


def test_alarms_tell_the_topic(answers: dict[str, Any]) -> None:
    for name, actions in (("as it is", None), ("all of it", [TOPIC])):
        alarms = of_type(made(answers, name), "AWS::CloudWatch::Alarm")
        assert [each.get("AlarmActions") for each in alarms] == [actions] * 5


def test_logs_are_kept_for_a_while_and_let_metrics_through(resources: Resources) -> None:
    logging = resources["HostFunction"]["Properties"]["LoggingConfig"]
    assert logging["LogGroup"] == {"Ref": "HostLogs"}
    assert (logging["LogFormat"], logging["ApplicationLogLevel"]) == ("JSON", "INFO")
    assert resources["HostLogs"]["Properties"]["RetentionInDays"] == "30"


def targets(resources: Resources) -> set[str]:
    """What everything that calls the function calls."""
    names = ("TargetFunctionArn", "IntegrationUri", "FunctionName")
    kinds = ("AWS::Lambda::Url", "AWS::Lambda::Permission", "AWS::Lambda::EventSourceMapping")
    found = [each[name] for kind in kinds for each in of_type(resources, kind) for name in names if name in each]
    found += [each["Targets"][0]["Arn"] for each in of_type(resources, "AWS::Events::Rule")]
    found += [each["IntegrationUri"] for each in of_type(resources, "AWS::ApiGatewayV2::Integration")]
    return {json.dumps(each) for each in found}


def test_everything_calls_the_alias_with_snapshots_and_the_function_without(answers: dict[str, Any]) -> None:
    snapped = made(answers, "all of it")
    assert snapped["HostFunction"]["Properties"]["SnapStart"] == {"ApplyOn": "PublishedVersions"}
    assert targets(snapped) == {json.dumps({"Ref": "HostFunctionAliaslive"})}
    for name in DEPLOYMENTS.keys() - {"all of it"}:
        assert made(answers, name)["HostFunction"]["Properties"]["SnapStart"] == {"ApplyOn": "None"}
        assert targets(made(answers, name)) == {json.dumps({"Fn::GetAtt": ["HostFunction", "Arn"]})}


# What decides what the function is, and what does not: networks and file systems exclude snapshots.
FUNCTION_ONLY = {
    *("Architecture", "MemoryMB", "TimeoutSeconds", "Front", "AuthType", "ApiKeysSecret", "OpenAIKeySecret"),
    *("OpenAIModel", "Revision", "SecretStore", "State", "WakeUpQueue", "SnapStart", "Tracing"),
}
ELSEWHERE = {
    "VersionDays",
    "QueueConcurrency",
    "ReservedConcurrency",
    "LogDays",
    "AlarmTopicArn",
    "OldestUpdateSeconds",
}


def test_a_changed_parameter_publishes_a_version(template: dict[str, Any]) -> None:
    (version,) = of_type(template["Resources"], "AWS::Lambda::Version")
    described = version["Description"]["Fn::Sub"]
    assert {name for name in template["Parameters"] if f"${{{name}}}" in described} == FUNCTION_ONLY
    assert template["Parameters"].keys() == FUNCTION_ONLY | ELSEWHERE | NETWORK.keys()
    # Or Lambda would find nothing to publish.
    assert variables(template["Resources"])["SETTINGS"] == version["Description"]


def test_the_description_of_a_version_fits(template: dict[str, Any]) -> None:
    def longest(parameter: dict[str, Any]) -> int:
        values = parameter.get("AllowedValues", [parameter.get("MaxValue", "")])
        return parameter.get("MaxLength") or max(len(str(each)) for each in values)

    lengths = [longest(template["Parameters"][name]) for name in FUNCTION_ONLY]
    assert all(lengths)
    assert sum(lengths) + len(lengths) - 1 <= 256


def test_concurrency_is_limited_where_asked_for(answers: dict[str, Any]) -> None:
    limits = [made(answers, name)["HostFunction"]["Properties"] for name in ("as it is", "all of it")]
    assert [each.get("ReservedConcurrentExecutions") for each in limits] == [None, "20"]


@pytest.mark.parametrize("name", DEPLOYMENTS)
def test_the_address_is_given(answers: dict[str, Any], name: str) -> None:
    front = ["Api", "ApiEndpoint"] if "Front" in DEPLOYMENTS[name] else ["Url", "FunctionUrl"]
    assert answers[name]["Outputs"]["Address"]["Value"] == {"Fn::GetAtt": front}
