"""One POST route for an agent or workflow: JSON in, JSON or server-sent events out."""

from __future__ import annotations

try:
    from .channel import InvocationsChannel
except ImportError as error:
    if (error.name or "").partition(".")[0] != "agent_framework_hosting":
        raise
    raise ImportError(
        "InvocationsChannel needs agent-framework-hosting 1.0 or later; what is installed here under that name is "
        "missing or an alpha release of another package. Run: pip install --upgrade 'agent-framework-hosting>=1.0'",
        name=error.name,
        path=error.path,
    ) from error

__all__ = ["InvocationsChannel"]
