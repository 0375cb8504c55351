"""The objects that the Responses API answers with, after the Open Responses document of 2026-04-24.

Every field that the document requires is there; what nobody set is null where it may be, and else the neutral value.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType, field

from agent_framework_hosting.surrogates import scrub

ItemStatus = Literal["in_progress", "completed", "incomplete"]
ResponseStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
Object = dict[str, object]


class UrlCitation(Struct, tag_field="type", tag="url_citation"):
    """`start_index` and `end_index` count the characters of the part's text."""

    url: str
    title: str = ""
    start_index: int = 0
    end_index: int = 0


class OutputText(Struct, tag_field="type", tag="output_text"):
    text: str
    annotations: list[UrlCitation] = field(default_factory=list[UrlCitation])
    logprobs: list[Object] = field(default_factory=list[Object])


class Refusal(Struct, tag_field="type", tag="refusal"):
    refusal: str


class InputText(Struct, tag_field="type", tag="input_text"):
    text: str


class InputImage(Struct, tag_field="type", tag="input_image"):
    image_url: str | None
    detail: Literal["low", "high", "auto"] = "auto"


class InputFile(Struct, tag_field="type", tag="input_file", omit_defaults=True):
    file_url: str
    filename: str | UnsetType = UNSET


class SummaryText(Struct, tag_field="type", tag="summary_text"):
    text: str


Media = InputImage | InputFile
Part = OutputText | Refusal


class MessageItem(Struct, tag_field="type", tag="message"):
    id: str
    status: ItemStatus = "completed"
    role: Literal["assistant"] = "assistant"
    content: list[Part] = field(default_factory=list[Part])


class FunctionCallItem(Struct, tag_field="type", tag="function_call"):
    """`arguments` is JSON text."""

    id: str
    call_id: str
    name: str
    arguments: str
    status: ItemStatus = "completed"


class FunctionCallOutputItem(Struct, tag_field="type", tag="function_call_output"):
    id: str
    call_id: str
    output: str | list[InputText | InputImage | InputFile]
    status: ItemStatus = "completed"


class ReasoningItem(Struct, tag_field="type", tag="reasoning"):
    id: str
    summary: list[SummaryText] = field(default_factory=list[SummaryText])
    encrypted_content: str | UnsetType = UNSET


Item = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem


class InputTokensDetails(Struct):
    cached_tokens: int = 0


class OutputTokensDetails(Struct):
    reasoning_tokens: int = 0


class Usage(Struct):
    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: InputTokensDetails = field(default_factory=InputTokensDetails)
    output_tokens_details: OutputTokensDetails = field(default_factory=OutputTokensDetails)


class ResponseError(Struct):
    code: str
    message: str


class IncompleteDetails(Struct):
    reason: Literal["max_output_tokens", "content_filter"]


class ConversationReference(Struct):
    id: str


def text_format() -> Object:
    return {"format": {"type": "text"}}


class Response(Struct, kw_only=True):
    """The response object. `created_at` and `completed_at` are in seconds since 1970.

    `conversation` and `user` are not in the document, but in OpenAI's own object and its clients.
    """

    id: str
    object: Literal["response"] = "response"
    created_at: int
    completed_at: int | None = None
    status: ResponseStatus
    error: ResponseError | None = None
    incomplete_details: IncompleteDetails | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    model: str
    output: list[Item] = field(default_factory=list[Item])
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    conversation: ConversationReference | UnsetType | None = UNSET
    prompt_cache_key: str | None = None
    reasoning: Object | None = None
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    background: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    top_logprobs: int = 0
    text: Object = field(default_factory=text_format)
    tool_choice: str | Object = "auto"
    tools: list[Object] = field(default_factory=list[Object])
    truncation: Literal["auto", "disabled"] = "disabled"
    usage: Usage | None = None
    user: str | None = None
    metadata: dict[str, str] = field(default_factory=dict[str, str])


def with_status(response: Response, status: ResponseStatus) -> Response:
    return msgspec.structs.replace(response, status=status)


def encode(value: object) -> bytes:
    """Encode a JSON value or one of these objects; lone surrogates become U+FFFD."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return _encoder.encode(scrub(msgspec.to_builtins(value)))


def decode_response(stored: bytes | str) -> Response:
    """Read a response that `encode` wrote.

    Raises:
        msgspec.DecodeError: It is something else.
    """
    return _response.decode(stored)


def decode_items(stored: bytes | str) -> list[Item]:
    """Read items that `encode` wrote.

    Raises:
        msgspec.DecodeError: They are something else.
    """
    return _items.decode(stored)


_encoder = msgspec.json.Encoder()
_response = msgspec.json.Decoder(Response)
_items = msgspec.json.Decoder(list[Item])
