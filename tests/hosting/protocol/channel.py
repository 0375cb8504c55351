"""The least that a channel can be."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from agent_framework_hosting import AgentFrameworkHost, ChannelContext, ChannelContribution
from agent_framework_hosting.errors import HostingError
from agent_framework_hosting.problems import problem_of
from tests.hosting.protocol.diary import request as turn_request
from tests.support.asgi import Connection, Reply


class TurnChannel:
    """`POST /turn`: `{"key", "word"}` in, the answer out; an `idempotency-key` makes a repeat the same turn."""

    name = "test"
    path = "/turn"

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        async def post(request: Request) -> Response:
            body = await request.json()
            turn = turn_request(body["key"], body["word"], turn=request.headers.get("idempotency-key"))
            try:
                hosted = await context.run(turn)
            except HostingError as error:
                return problem_of(error, channel=self.name).response()
            result = hosted.result
            return JSONResponse(result.text if hasattr(result, "text") else result.get_outputs()[-1])

        return ChannelContribution([Route("/", post, methods=["POST"])], authenticated=True)


@asynccontextmanager
async def started(host: AgentFrameworkHost) -> AsyncIterator[Starlette]:
    async with host.app.router.lifespan_context(host.app):
        yield host.app


async def post_turn(app: Starlette, key: str, word: str, *, turn: str | None = None) -> Reply:
    headers = {"content-type": "application/json", **({} if turn is None else {"idempotency-key": turn})}
    async with Connection(app, path="/turn", headers=headers) as connection:
        connection.send(msgspec.json.encode({"key": key, "word": word}))
        assert connection.task is not None
        await connection.task  # as long as it takes: others may have to be waited for
        return connection.reply
