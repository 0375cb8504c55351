"""The OpenAI Responses API for an agent or workflow: what every OpenAI client can talk to."""

from __future__ import annotations

try:
    from .channel import ResponsesChannel
except ImportError as error:
    if (error.name or "").partition(".")[0] != "agent_framework_hosting":
        raise
    raise ImportError(
        "ResponsesChannel needs agent-framework-hosting 1.0 or later; what is installed here under that name is "
        "missing or an alpha release of another package. Run: pip install --upgrade 'agent-framework-hosting>=1.0'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = ["ResponsesChannel"]
