"""The same host on the stock runtime."""

from agent_framework_hosting_aws_lambda import LambdaHandler
from tests.aws_lambda.updates.app import host

handler = LambdaHandler(host)
