"""What a receiver of replies does: checks the signature, and takes each reply once. `hypercorn receiver:app`."""

import os

import msgspec
from signatures import Signatures
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_framework_hosting import HostingError
from agent_framework_hosting.problems import problem_of

signatures = Signatures(os.environ.get("WEBHOOK_SECRETS", "").split(","))
seen: set[str] = set()


async def replies(request: Request) -> Response:
    try:
        body = await signatures.read(request, 2**20)
    except HostingError as error:
        return problem_of(error, channel="receiver").response()
    reply = msgspec.json.decode(body, type=dict[str, str])
    # Replies are sent at least once. What counts is the id in the body: the header is not signed.
    if reply["id"] not in seen:
        seen.add(reply["id"])
        print(f"{reply['conversation']}: {reply.get('answer', reply.get('error'))}", flush=True)
    return Response(status_code=204)


app = Starlette(routes=[Route("/replies", replies, methods=["POST"])])
