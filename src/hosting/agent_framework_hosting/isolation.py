"""The isolation keys that Foundry's hosting environment sends with every request."""

from __future__ import annotations

import os
from contextvars import ContextVar, Token
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

ISOLATION_HEADER_USER = "x-agent-user-isolation-key"
ISOLATION_HEADER_CHAT = "x-agent-chat-isolation-key"
_ENVIRONMENT = "FOUNDRY_HOSTING_ENVIRONMENT"


class IsolationKeys:
    """Who is calling and in which chat, as the hosting environment says."""

    __slots__ = ("chat_key", "user_key")

    def __init__(self, user_key: str | None = None, chat_key: str | None = None) -> None:
        self.user_key = user_key
        self.chat_key = chat_key

    @property
    def is_empty(self) -> bool:
        return self.user_key is None and self.chat_key is None

    def __repr__(self) -> str:
        return f"IsolationKeys(user_key={self.user_key!r}, chat_key={self.chat_key!r})"


_current: ContextVar[IsolationKeys | None] = ContextVar("hosting_isolation_keys", default=None)


def get_current_isolation_keys() -> IsolationKeys | None:
    """Give the keys of the request being handled; None outside one, and where Foundry is not the host."""
    return _current.get()


def set_current_isolation_keys(keys: IsolationKeys | None) -> Token[IsolationKeys | None]:
    return _current.set(keys)


def reset_current_isolation_keys(token: Any) -> None:
    _current.reset(token)


def in_foundry() -> bool:
    """Whether Foundry hosts this process; anywhere else its headers come from the caller and mean nothing."""
    return bool(os.environ.get(_ENVIRONMENT))


class IsolationMiddleware:
    """Reads the two headers of each HTTP request."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        keys = IsolationKeys(headers.get(ISOLATION_HEADER_USER) or None, headers.get(ISOLATION_HEADER_CHAT) or None)
        token = set_current_isolation_keys(keys)
        try:
            await self._app(scope, receive, send)
        finally:
            reset_current_isolation_keys(token)
