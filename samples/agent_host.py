"""The host around the agent, set up from the environment in the same way on every platform.

- `SAMPLE_TARGET`: `agent` (default) or `workflow`.
- `STATE_DIR`: where conversations are kept; unset keeps them in memory, which a cold start forgets.
- `API_KEYS`: `name=key` pairs with commas between them; a key has at least 16 characters.
- `FORWARD_OPTIONS`: parameters of the Responses API that callers may set, with commas between them: `tools,text`.
- `SAMPLE_ALLOW_ANONYMOUS=1`: serve callers without a key. Anybody who finds the address can then use the agent.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

from agent_app import refund_workflow, support_agent

from agent_framework_hosting import AgentFrameworkHost, ConfigurationError, Inbox
from agent_framework_hosting.auth import Auth
from agent_framework_hosting_invocations import InvocationsChannel
from agent_framework_hosting_responses import ResponsesChannel

if TYPE_CHECKING:
    from collections.abc import Mapping

TARGETS = {"agent": support_agent, "workflow": refund_workflow}


class Access(TypedDict, total=False):
    """Who may call; both channels take it."""

    auth: Auth
    allow_anonymous: bool


def build_host(
    environ: Mapping[str, str] = os.environ,
    *,
    loopback: bool = False,
    auth: Auth | None = None,
    inbox: Inbox | None = None,
) -> AgentFrameworkHost:
    """Build the host; `loopback` says that only this machine can call it, so that keys are not required.

    `auth` is how the platform tells who calls; `API_KEYS` is not read then. `inbox` wakes the work on accepted updates.

    Raises:
        ConfigurationError: A setting is missing or wrong; the message names it.
    """
    target = environ.get("SAMPLE_TARGET", "agent")
    if target not in TARGETS:
        raise ConfigurationError(f"SAMPLE_TARGET is {target!r}: set it to one of {', '.join(TARGETS)}.")
    callers: Access = {"auth": auth} if auth is not None else access(environ, loopback=loopback)
    options = [name.strip() for name in environ.get("FORWARD_OPTIONS", "").split(",") if name.strip()]
    return AgentFrameworkHost(
        TARGETS[target],
        channels=[
            InvocationsChannel(**callers),
            ResponsesChannel("/v1/responses", forward_options=options, **callers),
        ],
        state_dir=environ.get("STATE_DIR") or None,
        inbox=inbox,
    )


def access(environ: Mapping[str, str], *, loopback: bool) -> Access:
    if keys := api_keys(environ.get("API_KEYS", "")):
        return {"auth": keys}
    if environ.get("SAMPLE_ALLOW_ANONYMOUS") == "1":
        return {"allow_anonymous": True}
    if loopback:
        return {}
    raise ConfigurationError(
        "Nobody may call this agent yet. Set API_KEYS to pairs such as alice=<a key of 16 characters or more>; callers "
        "then send 'Authorization: Bearer <key>'. Or set SAMPLE_ALLOW_ANONYMOUS=1 to let everybody in."
    )


def api_keys(text: str) -> dict[str, str]:
    """Parse `name=key,name=key`.

    Raises:
        ConfigurationError: A pair has no name or no key.
    """
    keys: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        name, _, key = pair.partition("=")
        if not name or not key:
            raise ConfigurationError("API_KEYS must look like name=key,name=key.")
        keys[name] = key
    return keys
