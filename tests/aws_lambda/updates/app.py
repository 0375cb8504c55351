"""The host of these tests in a process of its own: the webhook sample, and responses, around an agent that asks first.

The agent posts what it heard to `AGENT`, and answers when that has, if it was not to `stay`: an error there is one of
its own. A request with
the header `x-hold` is held until that was answered, too: `before` its response is sent, or `after` it.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.middleware import Middleware
from webhook_channel.signatures import Signatures
from webhook_channel.webhook import WebhookChannel

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_aws_lambda import SqsInbox
from agent_framework_hosting_invocations import InvocationsChannel
from agent_framework_hosting_responses import ResponsesChannel
from tests.aws_lambda.updates.settings import KEY, SECRET, limits
from tests.support.targets import ScriptedAgent, count

if TYPE_CHECKING:
    from agent_framework import AgentSession, Message
    from starlette.types import ASGIApp, Receive, Scope, Send
    from starlette.types import Message as Sent


async def ask(text: str) -> None:
    """Tell the test where this is, and wait until it has answered."""
    to = urlsplit(os.environ["AGENT"])
    reader, writer = await asyncio.open_connection(to.hostname, to.port)
    try:
        body = text.encode()
        writer.write(b"POST /agent HTTP/1.1\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body))
        status = await reader.readline()
    finally:
        writer.close()
    if b" 204 " not in status:
        raise ValueError(f"The model has failed: {status!r}")


async def act(messages: list[Message], session: AgentSession | None) -> list[str]:
    await ask(messages[-1].text)
    while messages[-1].text == "stay":  # Whoever cancels it.
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    return count(messages, session)


class Holding:
    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        where = headers.get(b"x-hold")

        async def held(message: Sent) -> None:
            if where == b"before" and message["type"] == "http.response.start":
                await ask("before")
            await send(message)

        await self.app(scope, receive, held)
        if where == b"after":
            await ask("after")


def make_host() -> AgentFrameworkHost:
    attempts = int(os.environ.get("ATTEMPTS", "5"))
    queue = os.environ.get("QUEUE_URL")
    return AgentFrameworkHost(
        ScriptedAgent(act),
        channels=[
            WebhookChannel(Signatures([SECRET]), reply_origin=os.environ["REPLY_ORIGIN"]),
            ResponsesChannel("/v1/responses", auth={"shop": KEY}),
            InvocationsChannel(auth={"shop": KEY}),
        ],
        middleware=[Middleware(Holding)],
        state_dir=os.environ["STATE_DIR"],
        limits=limits(attempts),
        inbox=SqsInbox(queue) if queue else None,
    )


host = make_host()
