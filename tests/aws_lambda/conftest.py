"""A handler around any app, closed after the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from agent_framework_hosting_aws_lambda import LambdaHandler

Serve = Callable[..., LambdaHandler]


class StubHost:
    """What a handler sees of a host."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self.updates: Any = None

    def check_platform(self, where: str, *, within: str) -> None:
        assert where == "AWS Lambda"

    def path_of(self, channel: str) -> str | None:
        return None

    async def let_go(self) -> None:
        return None


@pytest.fixture
def serve() -> Iterator[Serve]:
    handlers: list[LambdaHandler] = []

    def make(app: ASGIApp, **options: Any) -> LambdaHandler:
        handlers.append(LambdaHandler(StubHost(app), **options))
        return handlers[-1]

    yield make
    for handler in handlers:
        handler.close()


async def echo(request: Request) -> JSONResponse:
    """Tell the scope of the request, its body in latin-1."""
    scope = request.scope
    return JSONResponse(
        {
            "method": scope["method"],
            "path": scope["path"],
            "raw_path": scope["raw_path"].decode("ascii"),
            "root_path": scope["root_path"],
            "query": scope["query_string"].decode("latin-1"),
            "parameters": request.query_params.multi_items(),
            "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
            "cookies": request.cookies,
            "client": scope["client"] and list(scope["client"]),
            "server": scope["server"] and list(scope["server"]),
            "scheme": scope["scheme"],
            "url": str(request.url),
            "base_url": str(request.base_url),
            "route": request.path_params,
            "body": (await request.body()).decode("latin-1"),
        }
    )


METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


@pytest.fixture
def echo_app() -> Starlette:
    return Starlette(
        routes=[
            Route("/items/{item}", echo, methods=METHODS),
            Route("/{rest:path}", echo, methods=METHODS),
        ]
    )
