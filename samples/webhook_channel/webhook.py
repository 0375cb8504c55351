"""A signed webhook: acknowledges a message with 202, and posts the answer to its `reply_url` once it is there."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from msgspec import Meta, Struct, ValidationError, convert, json
from signatures import Signatures
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_framework_hosting import (
    ChannelContext,
    ChannelContribution,
    ChannelRequest,
    ChannelSession,
    ConfigurationError,
    InboundUpdate,
    InvalidRequest,
    SessionTooLarge,
    isolation_key,
)
from agent_framework_hosting.body import decode_json
from agent_framework_hosting.problems import problem_of


class Message(Struct, frozen=True, forbid_unknown_fields=True):
    """`id` is the sender's own, and becomes a header of the reply; `sequence` grows within a conversation."""

    id: Annotated[str, Meta(pattern=r"\A[!-~]{1,200}\Z")]
    conversation: Annotated[str, Meta(min_length=1, max_length=500)]
    sequence: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    message: Annotated[str, Meta(min_length=1)]
    reply_url: str | None = None


@dataclass(eq=False)
class WebhookChannel:
    """Takes what `signatures` accept. Replies are signed by them too, and go below `reply_origin` only."""

    signatures: Signatures
    reply_origin: str
    path: str = "/webhook"
    name: str = "webhook"

    def __post_init__(self) -> None:
        if not re.fullmatch(r"https?://[^\s/@?#\\]+", self.reply_origin):
            raise ConfigurationError("reply_origin is a scheme and a host, such as https://hooks.example.com.")

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        route = Route("/", partial(self.receive, context), methods=["POST"])
        return ChannelContribution([route], on_update=partial(self.answer, context), authenticated=True)

    async def receive(self, context: ChannelContext, request: Request) -> Response:
        try:
            body = await self.signatures.read(request, context.limits.body_bytes)
            message = self.parse(body)
            key = isolation_key(self.name, message.conversation)
            await context.accept(InboundUpdate(self.name, message.id, key, body, str(message.sequence)))
            return Response(status_code=202)
        except Exception as error:
            return problem_of(error, channel=self.name).response()

    def parse(self, body: bytes) -> Message:
        try:
            message = convert(decode_json(body), Message)
        except ValidationError as error:
            raise InvalidRequest("body", f"{error}.") from None
        # Compared as text, up to the slash that ends the host: nothing is parsed that could be read in two ways.
        below = re.escape(self.reply_origin) + "/[!-~]*"
        if message.reply_url is not None and not re.fullmatch(below, message.reply_url):
            raise InvalidRequest("reply_url", "Replies go to the host that this webhook's operator has named, only.")
        return message

    async def answer(self, context: ChannelContext, update: InboundUpdate) -> None:
        message = self.parse(update.payload)
        reply = {"id": message.id, "conversation": message.conversation}
        turn = ChannelRequest(self.name, "message", message.message, ChannelSession(update.isolation_key))
        try:
            reply["answer"] = (await context.run(turn)).result.text
        except (InvalidRequest, SessionTooLarge) as error:  # It would be the same at the next attempt.
            reply["error"] = str(error)
        if message.reply_url is not None:
            await self.signatures.post(message.reply_url, json.encode(reply), {"idempotency-key": message.id})
