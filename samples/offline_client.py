"""A chat client that needs no network, no key and no money: `offline_rules` behind the framework's own interface.

Tools, approvals, streaming, middleware, telemetry and usage go through the framework's real pipeline, because the
layers above are the ones every client of the framework is built from. The same conversation gives the same answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from agent_framework import (
    BaseChatClient,
    ChatMiddlewareLayer,
    ChatOptions,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    FunctionInvocationLayer,
    FunctionTool,
    Message,
    ResponseStream,
    UsageDetails,
)
from agent_framework.observability import ChatTelemetryLayer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence

    from offline_rules import Tool

MODEL = "offline-rules"


class RuleChatClient(BaseChatClient[ChatOptions[Any]]):
    """Answers from rules. `pace` is the pause between two streamed words, in seconds."""

    def __init__(self, *, pace: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.pace = pace

    def _inner_get_response(
        self, *, messages: Sequence[Message], stream: bool, options: Mapping[str, Any], **kwargs: Any
    ) -> Awaitable[ChatResponse] | ResponseStream[ChatResponseUpdate, ChatResponse]:
        if stream:
            return self._build_response_stream(
                self.stream(messages, options), response_format=options.get("response_format")
            )
        return self.answer(messages, options)

    async def answer(self, messages: Sequence[Message], options: Mapping[str, Any]) -> ChatResponse:
        content = decide(messages, await self._validate_options(options))
        return ChatResponse(
            messages=Message("assistant", [content]),
            response_id=response_id(messages),
            model=MODEL,
            finish_reason=finish_reason(content),
            usage_details=usage(messages, content),
        )

    async def stream(
        self, messages: Sequence[Message], options: Mapping[str, Any]
    ) -> AsyncIterator[ChatResponseUpdate]:
        content = decide(messages, await self._validate_options(options))
        pieces = [content] if content.type != "text" else [Content.from_text(word) for word in words(content.text)]
        identity: dict[str, Any] = {"response_id": response_id(messages), "model": MODEL, "role": "assistant"}
        for index, piece in enumerate(pieces):
            if index:
                await asyncio.sleep(self.pace)
            yield ChatResponseUpdate(contents=[piece], **identity)
        yield ChatResponseUpdate(
            contents=[Content.from_usage(usage(messages, content))], finish_reason=finish_reason(content), **identity
        )


class OfflineChatClient(
    FunctionInvocationLayer[ChatOptions[Any]],
    ChatMiddlewareLayer[ChatOptions[Any]],
    ChatTelemetryLayer[ChatOptions[Any]],
    RuleChatClient,
):
    """`RuleChatClient` with the framework's tool, middleware and telemetry layers."""

    OTEL_PROVIDER_NAME: ClassVar[str] = "offline"


def decide(messages: Sequence[Message], options: Mapping[str, Any]) -> Content:
    """Give the next content: a tool call that is still to be made in this turn, or the words that answer it."""
    spoken = [index for index, message in enumerate(messages) if message.role == "user" and message.text.strip()]
    turn = messages[spoken[-1] :] if spoken else messages
    text = turn[0].text if spoken else ""
    from offline_rules import Call, Say, plan  # Late: an init need not wait for what only an answer needs.

    steps = plan(text, [messages[index].text for index in spoken[:-1]], declared_tools(options))
    results = [content for message in turn for content in message.contents if content.type == "function_result"]
    calls = [step for step in steps if isinstance(step, Call)]
    if len(results) < len(calls):
        step = calls[len(results)]
        call_id = f"call_{digest(messages)}"
        return Content.from_function_call(call_id, step.tool, id=call_id, arguments=json.dumps(step.arguments))
    outcomes = iter(results)
    # A tool set that shrank between two calls leaves results without a step: they are told all the same.
    told = [step.text if isinstance(step, Say) else outcome(next(outcomes)) for step in steps]
    said = " ".join([*told, *map(outcome, outcomes)])
    schema = answer_schema(options)
    return Content.from_text(said if schema is None else json.dumps(filled(schema, said)))


def answer_schema(options: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Give the JSON schema that the answer is to have; None where it is free."""
    form = cast("Mapping[str, Any]", options.get("response_format") or {})
    return form["json_schema"]["schema"] if form.get("type") == "json_schema" else None


def filled(schema: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Fill an object's fields from a text: numbers with the first one in it, what is text with the whole."""
    numbers = [int(digits) for digits in re.findall(r"[0-9]+", text)] or [0]
    kinds = {name: field.get("type") for name, field in schema.get("properties", {}).items()}
    return {name: numbers[0] if kind in ("integer", "number") else text for name, kind in kinds.items()}


def declared_tools(options: Mapping[str, Any]) -> list[Tool]:
    from offline_rules import Tool

    if options.get("tool_choice") in ("none", {"mode": "none"}):
        return []
    return [
        Tool(tool.name, tool.description, tool.parameters(), careful=tool.approval_mode == "always_require")
        for tool in options.get("tools") or ()
        if isinstance(tool, FunctionTool)
    ]


def outcome(result: Content) -> str:
    text = str(result.result or "").strip()
    if text.startswith("Error:"):
        return f"That was not done ({text.removeprefix('Error:').strip().rstrip('.')})."
    return text or "Done."


def digest(messages: Sequence[Message]) -> str:
    """Hash what was said and done so far: no two calls of a conversation come after the same, in whatever process.

    Counting would not do: a call that nobody approves is not kept, and the next one would get its number.
    """
    so_far = [
        [message.role, *([part.type, part.text, part.call_id, str(part.result)] for part in message.contents)]
        for message in messages
    ]
    return hashlib.sha256(json.dumps(so_far).encode()).hexdigest()[:12]


def finish_reason(content: Content) -> Literal["stop", "tool_calls"]:
    return "stop" if content.type == "text" else "tool_calls"


def response_id(messages: Sequence[Message]) -> str:
    return f"offline_{len(messages)}"


def words(text: str | None) -> list[str]:
    """Split into words that keep the space before them: joined, they are the text again."""
    return re.findall(r"\s*\S+", text or "")


def usage(messages: Sequence[Message], content: Content) -> UsageDetails:
    """Count a word as a token."""
    given = sum(weigh(part) for message in messages for part in message.contents)
    written = weigh(content)
    return UsageDetails(input_token_count=given, output_token_count=written, total_token_count=given + written)


def weigh(content: Content) -> int:
    return len(words(content.text)) + len(words(str(content.arguments or ""))) + len(words(str(content.result or "")))
