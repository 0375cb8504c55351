"""What this adapter, and nobody else, tells the app about one call: `scope["azure.functions"]`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from azure.functions import AuthLevel

SCOPE_KEY = "azure.functions"


@dataclass(frozen=True, slots=True)
class FunctionsCall:
    """One invocation by the Functions host, which has enforced `auth_level` before the worker saw the call."""

    auth_level: AuthLevel
    function_name: str
    invocation_id: str


def current_call(scope: Mapping[str, Any]) -> FunctionsCall | None:
    """Give the call that a scope belongs to; `None` where the app runs under another server."""
    call = scope.get(SCOPE_KEY)
    return call if isinstance(call, FunctionsCall) else None
