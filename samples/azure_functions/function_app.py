"""The support agent on Azure Functions. Triggers of your own can be added to `app` as to every `FunctionApp`."""

import sys
from pathlib import Path

# In the repository the agent's modules lie one folder up; in a deployment they lie beside this file and win.
sys.path.append(str(Path(__file__).resolve().parents[1]))

from agent_host import build_host

from agent_framework_hosting_azure_functions import HostFunctionApp

host = build_host()
app = HostFunctionApp(host)
