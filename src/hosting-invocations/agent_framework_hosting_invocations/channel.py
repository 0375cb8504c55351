"""`POST /invocations`: a message or answers in, the target's response out."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from anyio import CancelScope
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from agent_framework_hosting import (
    ChannelContext,
    ChannelContribution,
    ChannelIdentity,
    ChannelRequest,
    ChannelResponseHook,
    ChannelRunHook,
    ChannelSession,
    ChannelStreamUpdateHook,
    HostedRunResult,
    OnSaved,
    TurnRepeated,
    isolation_key,
)
from agent_framework_hosting.auth import Auth, Authenticator
from agent_framework_hosting.body import Json, read_json
from agent_framework_hosting.problems import Problem, problem_of
from agent_framework_hosting.sse import SILENCE, EventStream, encode_event

from .answers import RepeatableCall, StoredAnswers, digest_of
from .parsing import (
    Conversation,
    Invocation,
    check_text,
    find_conversation,
    parse_headers,
    parse_invocation,
)
from .rendering import render_answer

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

DONE = encode_event("[DONE]")
REPLAYED = {"idempotent-replayed": "true"}


def mint_session_id() -> str:
    return "ses_" + secrets.token_urlsafe(24)


class InvocationsChannel:
    """Serves `{"message" | "responses", "session_id"?, "stream"?}` under `path`; the README has the protocol.

    `auth` says who may call; a caller's conversations are its own. Without it callers are anonymous and go on only
    under ids that were minted here (192 random bits). `allow_anonymous` lets a caller without `Authorization` in
    beside the known ones, and choose its ids itself.

    A run hook gets the decoded body as `protocol_request`. `mint` makes session ids of the form `ses_` and 32
    URL-safe characters; `keep_alive` and `replay_wait` are in seconds.

    Raises:
        ConfigurationError: `auth` cannot be used.
    """

    def __init__(
        self,
        path: str = "/invocations",
        *,
        run_hook: ChannelRunHook | None = None,
        response_hook: ChannelResponseHook | None = None,
        stream_update_hook: ChannelStreamUpdateHook | None = None,
        auth: Auth | None = None,
        allow_anonymous: bool = False,
        name: str = "invocations",
        mint: Callable[[], str] = mint_session_id,
        keep_alive: float = SILENCE,
        replay_wait: float = 2.0,
    ) -> None:
        self.name = name
        self.path = path
        self.run_hook = run_hook
        self.response_hook = response_hook
        self.stream_update_hook = stream_update_hook
        self.authenticate = Authenticator(auth, channel=name, allow_anonymous=allow_anonymous)
        self.allow_anonymous = allow_anonymous
        self.mint = mint
        self.keep_alive = keep_alive
        self.replay_wait = replay_wait

    def contribute(self, context: ChannelContext) -> ChannelContribution:
        endpoint = Endpoint(self, context)
        route = Route("/", endpoint, methods=["POST"], name=self.name)
        return ChannelContribution([route], authenticated=self.authenticate.closed)


class Call(msgspec.Struct, frozen=True):
    """One parsed request. `body` is what hooks are shown of it."""

    body: Json
    conversation: Conversation
    request: ChannelRequest
    repeatable: RepeatableCall | None


def repeatable_call(
    key: str, invocation: Invocation, conversation: Conversation, caller: ChannelIdentity | None
) -> RepeatableCall:
    owner = None if caller is None else caller.native_id
    return RepeatableCall(owner, conversation.key, key, digest_of(invocation))


def render(call: Call, hosted: HostedRunResult[Any]) -> bytes:
    known = hosted.saved or call.conversation.chosen
    return render_answer(hosted, call.conversation.session_id if known else None)


class Endpoint:
    """The channel on one host: an ASGI app, which spares each call Starlette's wrapper for functions."""

    def __init__(self, channel: InvocationsChannel, context: ChannelContext) -> None:
        self.channel = channel
        self.context = context
        self.body_bytes = context.limits.body_bytes
        self.answers = StoredAnswers(context.documents, wait=channel.replay_wait)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = await self.respond(Request(scope, receive, send))
        await response(scope, receive, send)

    async def respond(self, request: Request) -> Response:
        try:
            caller = await self.channel.authenticate(request)
            body = await read_json(request, self.body_bytes)
            call = self.parse(body, caller, request)
            return self.stream(call) if call.request.stream else await self.answer(call)
        except Exception as error:
            return self.problem(error).response()

    def problem(self, error: Exception) -> Problem:
        return problem_of(error, channel=self.channel.name)

    def parse(self, body: Json, caller: ChannelIdentity | None, request: Request) -> Call:
        invocation = parse_invocation(body)
        if invocation.responses is None and not (isinstance(invocation.message, str) and invocation.message):
            self.check_message(invocation.message)
        attributes = parse_headers(request.scope["headers"])
        key = attributes.get("idempotency_key")
        conversation = find_conversation(
            invocation,
            channel=self.channel.name,
            caller=caller,
            idempotency_key=key,
            allow_anonymous=self.channel.allow_anonymous,
            mint=self.channel.mint,
        )
        attributes["session_id"] = conversation.session_id
        if key is not None:
            # A run hook may lead several callers into one conversation: their keys stay their own.
            attributes["idempotency_key"] = isolation_key(conversation.key, key)
        return Call(
            body,
            conversation,
            ChannelRequest(
                channel=self.channel.name,
                operation="invoke",
                input=invocation.message,
                session=ChannelSession(conversation.key, fresh=conversation.fresh),
                metadata={},
                attributes=attributes,
                stream=invocation.stream,
                identity=caller,
                responses=invocation.responses,
            ),
            None if key is None else repeatable_call(key, invocation, conversation, caller),
        )

    def check_message(self, message: Json) -> None:
        from agent_framework import SupportsAgentRun

        if isinstance(self.context.target, SupportsAgentRun):
            check_text(message)

    async def answer(self, call: Call) -> Response:
        headers: dict[str, str] | None = None
        try:
            hosted = await self.context.run(
                call.request,
                run_hook=self.channel.run_hook,
                protocol_request=call.body,
                response_hook=self.channel.response_hook,
                channel_name=self.channel.name,
                on_saved=self.keeping(call),
            )
            content = render(call, hosted)
        except TurnRepeated as repeated:
            content = await self.replay(call, repeated)
            headers = REPLAYED
        return Response(content, headers=headers, media_type="application/json")

    def stream(self, call: Call) -> Response:
        headers: dict[str, str] = {}
        return EventStream(
            self.events(call, headers),
            refuse=lambda error: self.problem(error).response(),
            report=lambda error: encode_event(self.problem(error).body().decode(), event="error"),
            headers=headers,
            interval=self.channel.keep_alive,
        )

    async def events(self, call: Call, headers: dict[str, str]) -> AsyncGenerator[bytes, None]:
        try:
            stream = await self.context.run_stream(
                call.request,
                run_hook=self.channel.run_hook,
                protocol_request=call.body,
                stream_update_hook=self.channel.stream_update_hook,
                response_hook=self.channel.response_hook,
                channel_name=self.channel.name,
                on_saved=self.keeping(call),
            )
            try:
                async for update in stream:
                    if text := update.text:
                        yield encode_event(text)
                await stream.get_final_response()
                assert stream.hosted is not None
                content = render(call, stream.hosted)
            finally:
                # A server that goes down cancels again and again (AnyIO's cancel scopes); the turn still ends in order.
                with CancelScope(shield=True):
                    await stream.aclose()
        except TurnRepeated as repeated:
            content = await self.replay(call, repeated)
            headers.update(REPLAYED)
            response = msgspec.json.decode(content)["response"]
            if isinstance(response, str) and response:
                yield encode_event(response)
        yield encode_event(content.decode(), event="result")
        yield DONE

    def keeping(self, call: Call) -> OnSaved | None:
        """Keep the answer of a saved turn for a repeat of its request."""
        if (repeatable := call.repeatable) is None:
            return None

        async def keep(hosted: HostedRunResult[Any]) -> None:
            if hosted.saved:
                await self.answers.keep(repeatable, render(call, hosted))

        return keep

    async def replay(self, call: Call, repeated: TurnRepeated) -> bytes:
        content = None if call.repeatable is None else await self.answers.find(call.repeatable)
        if content is None:
            raise repeated
        return content
