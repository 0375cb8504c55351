"""Our adapter without a web extension."""

from agent_framework_hosting_azure_functions import HostFunctionApp
from web import Host

app = HostFunctionApp(Host(), streaming=False, function_name="reply")
