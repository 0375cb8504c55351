"""The route that all function apps serve."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

ANSWER = {"response": "It is on its way and will be with you on Thursday.", "session_id": "order-42"}


async def reply(request: Request) -> JSONResponse:
    return JSONResponse(ANSWER)


app = Starlette(routes=[Route("/reply", reply)])


class Host:
    """What an adapter needs of a host."""

    app, updates = app, None

    def check_platform(self, where: str, **how: object) -> None:
        return None

    def path_of(self, channel: str) -> str | None:
        return None

    async def let_go(self) -> None:
        return None
