"""The `x-request-id` of every answer, which OpenAI's clients show with what goes wrong (API reference, "Debugging")."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .ids import mint

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class RequestIds:
    """Gives each request an id of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"x-request-id", mint("req").encode())]
            await send(message)

        await self.app(scope, receive, send_with_id)
