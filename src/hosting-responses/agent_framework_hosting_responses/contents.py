"""The framework's contents in the terms of the Responses API: what one-shot answers and streams have in common.

Shown are texts (refusals are marked by the framework), reasoning, function calls and their results, images and files.
Skipped, because the schema has no item for them or because they are not the caller's:

- `usage` and `error`, which the response itself carries; approval requests, which the host gives as pending requests;
- calls that the provider runs (`hosted`, `informational_only`, MCP, search, shell, computer, code interpreter): a
  function call without an output would ask the client to run it;
- files that only the provider has (`hosted_file`, `hosted_vector_store`), partial images, and OAuth consent.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import cast

from agent_framework import (
    AgentResponse,
    AgentResponseUpdate,
    Annotation,
    Content,
    Message,
    get_namespaced_value,
)

from agent_framework_hosting import PendingRequest
from agent_framework_hosting.jsonable import jsonable
from agent_framework_hosting.outputs import contents_of

from .schema import (
    FunctionCallItem,
    FunctionCallOutputItem,
    InputFile,
    InputImage,
    InputText,
    Media,
    ResponseError,
    UrlCitation,
    encode,
)

Mint = Callable[[str], str]
"""Makes an id that begins with what it is given and an underscore: `msg`, `fc`, `fco`, `rs`; `call` for a call's."""

Own = Callable[[], Collection[str]]
"""Names the tools that an agent runs itself."""

OF_THE_FRAMEWORK = (AgentResponse, AgentResponseUpdate, Content, Message)
KIND = "model_output_kind"
REASONING_TEXT = "reasoning_text"
AWAITS_APPROVAL = "This call waits for approval."
AWAITS_OUTPUTS = "This call waits for the outputs of the others."


def json_text(value: object) -> str:
    """Give a value of the target as JSON text; what has no JSON form is a text in it."""
    return encode(jsonable(value)).decode()


def is_refusal(properties: Mapping[str, object]) -> bool:
    """Whether a text content's additional properties mark a refusal, as the framework's own clients do."""
    return bool(properties) and get_namespaced_value(properties, "core", KIND, properties.get(KIND)) == "refusal"


def is_reasoning_text(content: Content) -> bool:
    """Whether a reasoning content is the model's own words, and not a summary of them."""
    properties = content.additional_properties
    return REASONING_TEXT in properties or bool(get_namespaced_value(properties, "openai", REASONING_TEXT))


def citations_of(content: Content) -> list[UrlCitation]:
    """Give the annotations that name an URL, one for each region; one without a region is about the whole text.

    Citations of a provider's files are dropped: their ids lead nowhere from here, and the schema has only this kind.
    """
    return [citation for annotation in content.annotations or () for citation in citations(annotation)]


def citations(annotation: Annotation) -> list[UrlCitation]:
    url = annotation.get("url")
    if not url or annotation.get("file_id"):
        return []
    title = annotation.get("title") or ""
    spans = [
        (region.get("start_index", 0), region.get("end_index", 0))
        for region in annotation.get("annotated_regions") or ()
    ]
    return [UrlCitation(url, title, start, end) for start, end in spans or [(0, 0)]]


def media_of(content: Content) -> list[Media]:
    """Give what a content holds of images and files; of a generated image the result, without the partial ones."""
    if content.type == "image_generation_tool_result":
        outputs: object = content.outputs
        several = cast("list[object]", outputs) if isinstance(outputs, list) else [outputs]
        return [part for output in several if isinstance(output, Content) for part in media_of(output)]
    if content.type not in ("data", "uri") or not content.uri or content.additional_properties.get("is_partial_image"):
        return []
    if (content.media_type or "").lower().startswith("image"):
        return [InputImage(content.uri)]
    return [InputFile(content.uri, content.name) if content.name else InputFile(content.uri)]


def shown_media(media: list[Media], mint: Mint) -> tuple[FunctionCallItem, FunctionCallOutputItem]:
    """Give images and files as a call of the agent's own, `show_image` or `show_file`, with them as its output.

    The schema knows no `image_generation_call`. It lets a message hold `input_image` parts, but clients do not: the
    official SDK takes an output message for texts and refusals, and warns of others; the framework's client drops
    them. The output of a call may hold them everywhere, and nobody runs a call whose output is there. A link in the
    text would lay megabytes of base64 into what clients print or parse as structured output.
    """
    name = "show_image" if all(isinstance(part, InputImage) for part in media) else "show_file"
    call = FunctionCallItem(mint("fc"), mint("call"), name, "{}")
    return call, FunctionCallOutputItem(mint("fco"), call.call_id, [*media])


def arguments_of(content: Content) -> str:
    """Give a call's arguments, or what this piece holds of them, as text."""
    arguments = content.arguments
    if arguments is None or isinstance(arguments, str):
        return arguments or ""
    return json_text(arguments)


def is_run_elsewhere(content: Content) -> bool:
    """Whether a function call is only told of: neither the agent here nor the client runs it."""
    return bool(content.hosted or content.informational_only)


def output_of(content: Content) -> str | list[InputText | InputImage | InputFile]:
    """Give a function result: its text, or parts where it holds images or files.

    The exception of a failed call stays on the host; the framework puts what the model may read into the result.
    """
    parts: list[InputText | InputImage | InputFile] = []
    for item in content.items or ():
        if item.type == "text":
            parts.append(InputText(item.text or ""))
        else:
            parts += media_of(item)
    if any(not isinstance(part, InputText) for part in parts):
        return parts
    result: object = content.result
    return (result or "") if isinstance(result, str | None) else json_text(result)


def pending_call(request: PendingRequest, mint: Mint) -> FunctionCallItem:
    """Give a question that the target waits for as a function call: the client answers it with an output."""
    if request.kind == "tool_approval":
        name, arguments = "request_approval", request.data
    else:
        name, arguments = "request_input", {"data": request.data}
        if request.response_schema is not None:
            arguments["response_schema"] = request.response_schema
    return FunctionCallItem(mint("fc"), "pending_" + request.id, name, json_text(arguments))


def error_of(content: Content) -> ResponseError:
    return ResponseError(content.error_code or "server_error", content.message or "The agent reported an error.")


def blocks_of(data: object) -> list[list[Content]]:
    """Give an output of a workflow as the contents of messages, in order.

    That are texts and the framework's own values, also in a list; anything else is a message of JSON text.
    """
    if isinstance(data, AgentResponse):
        return [message.contents for message in data.messages]
    if isinstance(data, Message | AgentResponseUpdate):
        return [data.contents]
    if isinstance(data, list):
        items = cast("list[object]", data)
        if any(isinstance(item, OF_THE_FRAMEWORK) for item in items):
            return [block for item in items for block in blocks_of(item)]
    if isinstance(data, str | Content):
        return [contents_of(data)]
    return [[Content.from_text(json_text(cast("object", data)))]]


class Calls:
    """The function calls of one response: an id names one call, and each call has at most one output.

    Some providers use an id again, and a workflow may give a call again with its conversation. A client tells calls
    apart by their ids (the SDK's helper refuses a second item under one), so that a repeat is left out, and a call
    that reuses the id of a finished one gets an id of its own.
    """

    def __init__(self, mint: Mint) -> None:
        self.mint = mint
        self.open: dict[str, str] = {}
        self.names: dict[str, str | None] = {}
        self.settled: set[str] = set()
        self.hidden: set[str] = set()

    def show(self, content: Content) -> str | None:
        """Give the id under which a call is shown; None for one that is not."""
        call_id = content.call_id
        if is_run_elsewhere(content):
            self.hidden.add(call_id or "")
            return None
        if not call_id:
            return self.mint("call")
        if call_id in self.open or call_id in self.hidden:
            return None
        shown = self.mint("call") if call_id in self.settled else call_id
        self.settled.discard(call_id)
        self.open[call_id], self.names[call_id] = shown, content.name
        return shown

    def settle(self, content: Content) -> FunctionCallOutputItem | None:
        """Give the output of a call, which an earlier response may have shown; None for a repeat."""
        call_id = content.call_id
        if not call_id or call_id in self.settled or call_id in self.hidden:
            return None
        self.settled.add(call_id)
        return FunctionCallOutputItem(self.mint("fco"), self.open.pop(call_id, call_id), output_of(content))

    def hold(self, content: Content) -> FunctionCallOutputItem | None:
        """Give the output of a shown call that now waits for approval.

        Without one the client would have to run the agent's own tool; it answers the `request_approval` instead.
        """
        call = content.function_call
        call_id = None if call is None else call.call_id
        if not call_id or call_id not in self.open:
            return None
        self.settled.add(call_id)
        return FunctionCallOutputItem(self.mint("fco"), self.open.pop(call_id), AWAITS_APPROVAL, "incomplete")

    def wait(self, own: Own) -> list[FunctionCallOutputItem]:
        """Give outputs of shown calls that the agent will run itself when the client has answered the others."""
        if not self.open:
            return []
        names = own()
        waiting = [shown for call_id, shown in self.open.items() if self.names[call_id] in names]
        return [FunctionCallOutputItem(self.mint("fco"), shown, AWAITS_OUTPUTS, "incomplete") for shown in waiting]
