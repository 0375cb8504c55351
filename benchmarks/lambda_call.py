"""A warm Lambda call in process, against a bare Starlette route that reads and answers the same JSON."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mangum import Mangum
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_aws_lambda import LambdaHandler
from agent_framework_hosting_invocations import InvocationsChannel
from emulators.lambda_events import Event, HttpRequest, http_api

from .measure import Block, Ratio, interleave, repeated
from .stubs import ANSWER, FixedAgent, RememberingAgent
from .table import Row, compared

KEY = "benchmark-key-0123456789"
CALLS = 40
ROUNDS = 150
TURNS = logging.getLogger("agent_framework.hosting.turns")


def measure() -> list[Row]:
    context = SimpleNamespace(function_name="benchmark", aws_request_id="1", memory_limit_in_mb="512")
    bare = Mangum(bare_app(), lifespan="off")
    ours, remembering = hosted(FixedAgent()), hosted(RememberingAgent(2))
    known, new = event({"message": "Where is it?", "session_id": "order-42"}), event({"message": "Where is it?"})
    with Path(os.devnull).open("w") as nowhere:
        handler = logging.StreamHandler(nowhere)
        handler.setFormatter(logging.Formatter("[%(levelname)s] %(asctime)s %(name)s %(message)s"))
        try:
            samples = interleave(
                {
                    "bare": calling(bare, known, context),
                    "ours": calling(ours, known, context),
                    "new": calling(ours, new, context),
                    "remembering": calling(remembering, known, context),
                    "logged": logged(calling(ours, known, context), handler),
                },
                rounds=ROUNDS,
            )
        finally:
            ours.close()
            remembering.close()
    to = "Starlette JSON route"
    return [
        compared("warm Lambda call, memory state", Ratio.of(samples["ours"], samples["bare"]), to=to, target=1.4),
        compared("the same with one INFO line", Ratio.of(samples["logged"], samples["bare"]), to=to),
        compared("the same with two messages in the session", Ratio.of(samples["remembering"], samples["bare"]), to=to),
        compared("the same without a session_id", Ratio.of(samples["new"], samples["bare"]), to=to),
    ]


def hosted(agent: FixedAgent) -> LambdaHandler:
    return LambdaHandler(AgentFrameworkHost(agent, channels=[InvocationsChannel(auth={"shop": KEY})]))


def bare_app() -> Starlette:
    async def reply(request: Request) -> JSONResponse:
        body = await request.json()
        return JSONResponse({"response": ANSWER, "session_id": body.get("session_id")})

    return Starlette(routes=[Route("/invocations", reply, methods=["POST"])])


def event(body: dict[str, str]) -> Event:
    headers = [
        ("content-type", "application/json"),
        ("authorization", f"Bearer {KEY}"),
        ("accept", "*/*"),
        ("user-agent", "benchmark"),
    ]
    return http_api(HttpRequest("POST", "/invocations", headers=headers, body=json.dumps(body).encode()))


def calling(handler: Any, event: Event, context: object) -> Block:
    result = handler(event, context)
    if result["statusCode"] != 200 or json.loads(result["body"])["response"] != ANSWER:
        raise RuntimeError(f"The call was not answered as it should be: {result}")
    return repeated(lambda: handler(event, context), CALLS)


def logged(block: Block, handler: logging.Handler) -> Block:
    """Switch INFO on for one block."""

    def run() -> float:
        before, propagate = TURNS.level, TURNS.propagate
        TURNS.setLevel(logging.INFO)
        TURNS.addHandler(handler)
        TURNS.propagate = False
        try:
            return block()
        finally:
            TURNS.removeHandler(handler)
            TURNS.setLevel(before)
            TURNS.propagate = propagate

    return run
