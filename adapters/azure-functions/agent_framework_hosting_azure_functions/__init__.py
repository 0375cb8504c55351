"""Runs an `AgentFrameworkHost` on Azure Functions."""

from __future__ import annotations

try:
    from .app import HostFunctionApp
    from .auth import easy_auth_identity, function_key_identity
    from .call import FunctionsCall, current_call
    from .startup import HostNotStarted
except ImportError as error:
    if (error.name or "").partition(".")[0] != "agent_framework_hosting":
        raise
    raise ImportError(
        "HostFunctionApp needs agent-framework-hosting 1.0 or later; what is installed here under that name is missing "
        "or an alpha release of another package. Run: pip install --upgrade 'agent-framework-hosting>=1.0'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = [
    "FunctionsCall",
    "HostFunctionApp",
    "HostNotStarted",
    "current_call",
    "easy_auth_identity",
    "function_key_identity",
]
