"""Serve Microsoft Agent Framework agents and workflows from one Starlette app, on servers and serverless platforms."""

from typing import TYPE_CHECKING

from .auth import Auth, Unauthenticated
from .channels import (
    Attach,
    Channel,
    ChannelContribution,
    ChannelResponseHook,
    ChannelRunHook,
    ChannelStreamUpdateHook,
    HostedStream,
    OnSaved,
    OnUpdate,
    Provisioning,
)
from .context import ChannelContext
from .errors import (
    ConfigurationError,
    HostingError,
    InvalidRequest,
    SessionTooLarge,
    StateDamaged,
    StateUnavailable,
    TurnBusy,
    TurnConflict,
    TurnRepeated,
    UnknownConversation,
)
from .host import AgentFrameworkHost
from .isolation import (
    ISOLATION_HEADER_CHAT,
    ISOLATION_HEADER_USER,
    IsolationKeys,
    get_current_isolation_keys,
    reset_current_isolation_keys,
    set_current_isolation_keys,
)
from .keys import isolation_key
from .limits import HostLimits
from .requests import (
    ChannelCommand,
    ChannelCommandContext,
    ChannelIdentity,
    ChannelRequest,
    ChannelSession,
    HostedRunResult,
    PendingRequest,
)
from .state.locations import HostStatePaths
from .state.store import StateStore
from .updates import InboundUpdate, Inbox

if TYPE_CHECKING:
    from agent_framework import SupportsAgentRun, Workflow

    Target = SupportsAgentRun | Workflow


def __getattr__(name: str) -> object:
    if name == "Target":  # Late: it loads the workflow engine.
        from agent_framework import SupportsAgentRun, Workflow

        return SupportsAgentRun | Workflow
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "ISOLATION_HEADER_CHAT",
    "ISOLATION_HEADER_USER",
    "AgentFrameworkHost",
    "Attach",
    "Auth",
    "Channel",
    "ChannelCommand",
    "ChannelCommandContext",
    "ChannelContext",
    "ChannelContribution",
    "ChannelIdentity",
    "ChannelRequest",
    "ChannelResponseHook",
    "ChannelRunHook",
    "ChannelSession",
    "ChannelStreamUpdateHook",
    "ConfigurationError",
    "HostLimits",
    "HostStatePaths",
    "HostedRunResult",
    "HostedStream",
    "HostingError",
    "InboundUpdate",
    "Inbox",
    "InvalidRequest",
    "IsolationKeys",
    "OnSaved",
    "OnUpdate",
    "PendingRequest",
    "Provisioning",
    "SessionTooLarge",
    "StateDamaged",
    "StateStore",
    "StateUnavailable",
    "Target",
    "TurnBusy",
    "TurnConflict",
    "TurnRepeated",
    "Unauthenticated",
    "UnknownConversation",
    "get_current_isolation_keys",
    "isolation_key",
    "reset_current_isolation_keys",
    "set_current_isolation_keys",
]
