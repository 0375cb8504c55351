"""Calls the hooks that users give to channels; each may be sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from starlette.exceptions import HTTPException

from .contained import Contained
from .errors import ConfigurationError, HostingError
from .problems import STOP_RETRIES
from .requests import ChannelRequest, HostedRunResult

if TYPE_CHECKING:
    from agent_framework import AgentResponseUpdate

    from .channels import ChannelResponseHook, ChannelRunHook, ChannelStreamUpdateHook


async def apply_run_hook(
    hook: ChannelRunHook, request: ChannelRequest, *, target: object, protocol_request: object
) -> ChannelRequest:
    """Let the operator change a request before its session is resolved.

    Raises:
        ConfigurationError: The hook returned something else than a request.
    """
    changed = await awaited(hook(request, target=target, protocol_request=protocol_request))
    if not isinstance(changed, ChannelRequest):
        raise ConfigurationError(f"The run hook must return a ChannelRequest, not {type(changed).__name__}.")
    return changed


async def apply_response_hook(
    hook: ChannelResponseHook, result: HostedRunResult[Any], *, request: ChannelRequest, channel_name: str
) -> HostedRunResult[Any]:
    """Let the operator change a result; the turn is saved by then.

    Raises:
        ConfigurationError: The hook returned something else than a result.
    """
    with after_the_start(), Contained(HTTPException):
        changed = await awaited(hook(result, request=request, channel_name=channel_name))
        if not isinstance(changed, HostedRunResult):
            raise ConfigurationError(f"The response hook must return a HostedRunResult, not {type(changed).__name__}.")
    hosted = cast("HostedRunResult[Any]", changed)
    hosted.saved = result.saved  # Not the hook's to decide.
    return hosted


async def apply_update_hook(hook: ChannelStreamUpdateHook, update: AgentResponseUpdate) -> AgentResponseUpdate | None:
    """Let the operator change or drop one streamed update.

    Raises:
        ConfigurationError: The hook returned something else than an update or None.
    """
    from agent_framework import AgentResponseUpdate

    with after_the_start():
        changed = await awaited(hook(update))
        if changed is not None and not isinstance(changed, AgentResponseUpdate):
            raise ConfigurationError(
                f"The stream update hook must return an AgentResponseUpdate or None, not {type(changed).__name__}."
            )
    return changed


async def awaited(given: object) -> object:
    """Give what a hook returned, or what it is a promise of."""
    return await given if inspect.isawaitable(given) else given


@contextmanager
def after_the_start() -> Generator[None]:
    """Mark what is raised once the target has run: a client must not blindly repeat such a request."""
    try:
        yield
    except HostingError as error:
        error.started = True
        raise
    except HTTPException as error:
        own = {name: value for name, value in (error.headers or {}).items() if name.lower() not in STOP_RETRIES}
        # Another one: a hook may raise the same object again, before a run.
        raise HTTPException(error.status_code, error.detail, {**own, **STOP_RETRIES}) from error
