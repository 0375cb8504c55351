"""A function app for the contract tests: a real host whose agent ends in odd ways. Setting: STREAMING."""

import os

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_azure_functions import HostFunctionApp
from agent_framework_hosting_invocations import InvocationsChannel
from tests.support.ends import EndingAgent

host = AgentFrameworkHost(EndingAgent(), channels=[InvocationsChannel(allow_anonymous=True)])
app = HostFunctionApp(host, auth_level="anonymous", streaming=os.environ["STREAMING"] == "1")
