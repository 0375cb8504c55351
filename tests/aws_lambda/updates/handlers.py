"""The same host on the stock runtime, in the test's own process."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from agent_framework import AgentSession, Message
from webhook_channel.signatures import Signatures
from webhook_channel.webhook import WebhookChannel

from agent_framework_hosting import AgentFrameworkHost
from agent_framework_hosting_aws_lambda import LambdaHandler
from agent_framework_hosting_responses import ResponsesChannel
from tests.aws_lambda.updates.clients import Mailroom, message, webhook
from tests.aws_lambda.updates.settings import KEY, SECRET, limits
from tests.support.targets import ScriptedAgent, count


class Stock:
    """A handler on the stock runtime, and what it works with; `act` is what its agent does with a text."""

    def __init__(self, origin: str, replies: list[dict[str, str]], state_dir: str) -> None:
        self.origin = origin
        self.taken = replies
        self.state_dir = state_dir
        self.mailroom = Mailroom(self.state_dir)
        self.heard: list[str] = []
        self.act: Callable[[str], Any] | None = None
        self.handlers: list[LambdaHandler] = []
        self._closing = False

    def start(self, *, attempts: int = 5, **options: Any) -> LambdaHandler:
        host = AgentFrameworkHost(
            ScriptedAgent(self._act),
            channels=[
                WebhookChannel(Signatures([SECRET]), reply_origin=self.origin),
                ResponsesChannel("/v1/responses", auth={"shop": KEY}),
            ],
            state_dir=self.state_dir,
            limits=limits(attempts),
            **options,
        )
        self.handlers.append(LambdaHandler(host))
        return self.handlers[-1]

    async def _act(self, messages: list[Message], session: AgentSession | None) -> list[str]:
        self.heard.append(messages[-1].text)
        if self.act is not None:
            await self.act(messages[-1].text)
        return count(messages, session)

    async def stay(self, text: str) -> None:
        """Go on whoever cancels it, until the handlers are closed."""
        while not self._closing:
            try:
                await hang(text)
            except asyncio.CancelledError:
                if self._closing:
                    raise

    def close(self) -> None:
        self._closing = True
        for handler in self.handlers:
            handler.close()

    def invoke(self, event: Any, *, seconds: float = 30.0) -> Any:
        """Invoke the last handler, with so much time."""
        end = time.monotonic() + seconds
        context: Any = SimpleNamespace(
            aws_request_id="1", get_remaining_time_in_millis=lambda: max(0, int(1000 * (end - time.monotonic())))
        )
        result = self.handlers[-1](event, context)
        assert time.monotonic() < end, "Lambda would have ended this invocation."
        return result

    def send(self, id: str, conversation: str, *, seconds: float = 30.0, **fields: Any) -> int:
        event = webhook(message(self.origin, id, conversation, **fields))
        return self.invoke(event, seconds=seconds)["statusCode"]

    def replies(self, conversation: str) -> list[str]:
        return [reply["answer"] for reply in self.taken if reply["conversation"] == conversation]

    def attempts(self, conversation: str) -> list[int]:
        """The attempts at each update on hold, of a conversation that nobody holds."""
        head = asyncio.run(self.mailroom.head(conversation))
        assert head.lease is None
        return [hold.attempts for hold in head.hold.values()]

    def at_rest(self, conversation: str, turns: int) -> None:
        asyncio.run(self.mailroom.check_at_rest(conversation, turns))


async def hang(text: str) -> None:
    await asyncio.Event().wait()


async def fail(text: str) -> None:
    raise ValueError("The model has failed.")


def response(result: dict[str, Any]) -> dict[str, Any]:
    assert result["statusCode"] == 200, result
    return json.loads(result["body"])
