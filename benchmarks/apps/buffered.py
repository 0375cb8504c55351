"""Our adapter without a web extension."""

from web import Host

from agent_framework_hosting_azure_functions import HostFunctionApp

app = HostFunctionApp(Host(), streaming=False, function_name="reply")
