"""Run an AgentFrameworkHost on Azure Functions."""

from __future__ import annotations

try:
    from agent_framework_hosting.lifespan import Lifespan as _Lifespan  # noqa: F401 - absent from the older package
except ImportError as error:
    raise ImportError(
        "agent-framework-hosting-azure-functions needs this project's agent-framework-hosting>=1.0; an older package "
        "of that name, or none, is installed. Install the wheel of this project."
    ) from error

from .app import HostFunctionApp
from .auth import easy_auth_identity, function_key_identity
from .call import FunctionsCall, current_call
from .startup import HostNotStarted

__all__ = [
    "FunctionsCall",
    "HostFunctionApp",
    "HostNotStarted",
    "current_call",
    "easy_auth_identity",
    "function_key_identity",
]
