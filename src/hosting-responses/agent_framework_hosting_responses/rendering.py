"""From a result to the items of a response, and what a response tells beside them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Literal, cast

from agent_framework import (
    AgentResponse,
    AgentResponseUpdate,
    ChatResponse,
    ChatResponseUpdate,
    Content,
    add_usage_details,
)

from agent_framework_hosting import PendingRequest
from agent_framework_hosting.outputs import outputs_of

from .contents import (
    Calls,
    Mint,
    Own,
    arguments_of,
    blocks_of,
    citations_of,
    error_of,
    is_refusal,
    media_of,
    pending_call,
    shown_media,
)
from .schema import (
    FunctionCallItem,
    InputTokensDetails,
    Item,
    MessageItem,
    OutputText,
    OutputTokensDetails,
    Part,
    ReasoningItem,
    Refusal,
    ResponseError,
    SummaryText,
    Usage,
)

CHAT = (ChatResponse, ChatResponseUpdate)
AGENT = (AgentResponse, AgentResponseUpdate)
LOOKED_AT = 100
"""How many of the last updates of a stream are asked for the model's name."""


def render_output(result: object, pending: Sequence[PendingRequest], mint: Mint, own: Own = frozenset) -> list[Item]:
    """Give the items of an `AgentResponse`, of a `WorkflowRunResult` or of what a hook put in its place.

    The agent's own tool calls are function calls with an output after them; a call without one is the client's to
    run. What the target waits for comes last.
    """
    rendering = Rendering(mint)
    for block in blocks_of_result(result):
        rendering.add(block)
    rendering.items += rendering.calls.wait(own)
    rendering.items += [pending_call(request, mint) for request in pending]
    return rendering.items


class Rendering:
    """Collects items; each block of contents begins a new one."""

    def __init__(self, mint: Mint) -> None:
        self.mint = mint
        self.calls = Calls(mint)
        self.items: list[Item] = []
        self.message: MessageItem | None = None
        self.reasoning: ReasoningItem | None = None
        self.reasoning_id: str | None = None

    def add(self, contents: Iterable[Content]) -> None:
        self.message = self.reasoning = None
        for content in contents:
            self.add_content(content)

    def add_content(self, content: Content) -> None:
        if content.type == "text":
            self.add_text(content)
        elif content.type == "text_reasoning":
            self.add_reasoning(content)
        elif content.type == "function_call":
            if (call_id := self.calls.show(content)) is not None:
                arguments = arguments_of(content) or "{}"
                self.add_item(FunctionCallItem(self.mint("fc"), call_id, content.name or "", arguments))
        elif content.type == "function_result":
            if (output := self.calls.settle(content)) is not None:
                self.add_item(output)
        elif content.type == "function_approval_request":
            if (output := self.calls.hold(content)) is not None:
                self.add_item(output)
        elif media := media_of(content):
            for item in shown_media(media, self.mint):
                self.add_item(item)

    def add_item(self, item: Item) -> None:
        self.message = self.reasoning = None
        self.items.append(item)

    def add_part(self, part: Part) -> None:
        if self.message is None:
            message = MessageItem(self.mint("msg"))
            self.add_item(message)
            self.message = message
        self.message.content.append(part)

    def add_text(self, content: Content) -> None:
        """Add a part; annotations of an empty text, in which providers give them late, are the text's before it."""
        text = content.text or ""
        if is_refusal(content.additional_properties):
            if text:
                self.add_part(Refusal(text))
            return
        citations = citations_of(content)
        last = self.message.content[-1] if self.message is not None else None
        if not text and isinstance(last, OutputText):
            last.annotations += citations
        elif text or citations:
            self.add_part(OutputText(text, citations))

    def add_reasoning(self, content: Content) -> None:
        if not content.text and not content.protected_data:
            return
        if self.reasoning is None or (content.id and self.reasoning_id and content.id != self.reasoning_id):
            item = ReasoningItem(self.mint("rs"))
            self.add_item(item)
            self.reasoning, self.reasoning_id = item, None
        self.reasoning_id = content.id or self.reasoning_id
        if content.text:
            self.reasoning.summary.append(SummaryText(content.text))
        if content.protected_data:
            self.reasoning.encrypted_content = content.protected_data


def blocks_of_result(result: object) -> Iterator[list[Content]]:
    for output in parts_of(result):
        yield from blocks_of(output)


def parts_of(result: object) -> list[object]:
    """Give a workflow's outputs, and anything else as the one that it is."""
    if isinstance(result, list):  # Only a workflow's is one, and most results are an agent's.
        from agent_framework import WorkflowRunResult

        if isinstance(result, WorkflowRunResult):
            return outputs_of(result)
    return [result]  # pyright: ignore[reportUnknownVariableType]


def responses_of(result: object) -> list[AgentResponse]:
    return [part for part in parts_of(result) if isinstance(part, AgentResponse)]  # pyright: ignore[reportUnknownVariableType]


def usage_of(result: object) -> Usage | None:
    """Give the tokens of a result; of a workflow the sum of its agents' whose responses are outputs."""
    known = [response.usage_details for response in responses_of(result) if response.usage_details]
    if not known:
        return None
    usage = known[0]
    for more in known[1:]:
        usage = add_usage_details(usage, more)
    read, written = usage.get("input_token_count") or 0, usage.get("output_token_count") or 0
    return Usage(
        read,
        written,
        usage.get("total_token_count") or read + written,
        InputTokensDetails(usage.get("cache_read_input_token_count") or 0),
        OutputTokensDetails(usage.get("reasoning_output_token_count") or 0),
    )


def incomplete_reason(result: object) -> Literal["max_output_tokens", "content_filter"] | None:
    """Tell why the model stopped before its end; of a workflow, its last agent's."""
    responses = responses_of(result)
    reason = responses[-1].finish_reason if responses else None
    if reason == "length":
        return "max_output_tokens"
    return "content_filter" if reason == "content_filter" else None


def error_in(result: object) -> ResponseError | None:
    """Give the last error that an agent reported as a content of its answer."""
    found: Content | None = None
    for block in blocks_of_result(result):
        for content in block:
            if content.type == "error":
                found = content
    return None if found is None else error_of(found)


def model_of(result: object) -> str | None:
    """Give the name of the model that answered last, where the provider told it: in every update, or in none."""
    for response in reversed(responses_of(result)):
        if model := model_in(response.raw_representation):
            return model
    return None


def model_in(value: object) -> str | None:
    if value is None:
        return None
    if isinstance(value, CHAT):
        return value.model
    if isinstance(value, AGENT):
        return model_in(value.raw_representation)
    if isinstance(value, list):
        last = islice(reversed(cast("list[object]", value)), LOOKED_AT)
        return next((model for item in last if (model := model_in(item))), None)
    return None
