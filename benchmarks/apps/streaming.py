"""Our adapter on its web extension."""

from web import Host

from agent_framework_hosting_azure_functions import HostFunctionApp

app = HostFunctionApp(Host())
