"""Where the endpoints are, and what is told elsewhere below the channel's paths: the framework's own answers there
(Starlette's) are plain text, which OpenAI's clients cannot read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route

from .answers import Answer
from .problems import no_such_path, wrong_method

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


class Endpoints(Route):
    """What answers at one path, by method; to any other method it is 405."""

    def __init__(self, path: str, answers: Mapping[str, Answer], *, name: str | None = None) -> None:
        async def answer(request: Request) -> Response:
            # As anywhere in Starlette, HEAD is answered by GET.
            chosen = answers.get("GET" if request.method == "HEAD" else request.method)
            return wrong_method(answers).response() if chosen is None else await chosen(request)

        super().__init__(path, answer, methods=[*answers], name=name)

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        # Also what has another method, which comes here only where no other route answers to it.
        await self.app(scope, receive, send)


class Elsewhere(Route):
    """All below a path that no endpoint answers: 404, to whoever asks.

    It is only ever matched in part: any other route that is there, be it another channel's, goes before.
    """

    def __init__(self, path: str) -> None:
        async def answer(request: Request) -> Response:
            return no_such_path().response()

        super().__init__(f"{path}/{{rest:path}}", answer)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http":  # The pattern of `path` ends at a line break.
            scope = {**scope, "path": scope["path"].replace("\n", " ")}
        match, child = super().matches(scope)
        return (Match.PARTIAL if match is Match.FULL else match), child

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)
