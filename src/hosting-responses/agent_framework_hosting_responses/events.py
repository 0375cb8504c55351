"""From the framework's updates to the events of a streamed response."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec
from agent_framework import AgentResponseUpdate, Content

from agent_framework_hosting import PendingRequest
from agent_framework_hosting.outputs import contents_of

from .contents import (
    Calls,
    Mint,
    Own,
    arguments_of,
    blocks_of,
    citations_of,
    error_of,
    is_refusal,
    is_run_elsewhere,
    media_of,
    pending_call,
    shown_media,
)
from .open_items import Frames, GrowingText, OpenCall, OpenMessage, OpenReasoning, done
from .schema import FunctionCallItem, FunctionCallOutputItem, Item, ItemStatus, Media, Response, ResponseError

if TYPE_CHECKING:
    from agent_framework import WorkflowEvent

Key = tuple[str | None, str | None, str | None]
OpenItem = OpenMessage | OpenReasoning | OpenCall
# The API has no event for a response that was cancelled.
ENDINGS = {"completed": "completed", "incomplete": "incomplete", "cancelled": "incomplete"}

encode_json = msgspec.json.Encoder().encode


class Source:
    """One message of the target: what of it is open. Calls may be open side by side; anything else is alone."""

    def __init__(self) -> None:
        self.item: OpenMessage | OpenReasoning | None = None
        self.calls: list[OpenCall] = []


class HotText:
    """The text that the last update continued, and the ids that it is known by."""

    __slots__ = ("author_name", "message_id", "prefix", "response_id", "write")

    def __init__(self, key: Key, prefix: bytes, text: GrowingText) -> None:
        self.response_id, self.author_name, self.message_id = key
        self.prefix = prefix
        self.write = text.buffer.write


class OutputEvents:
    """Turns the updates of one run into encoded frames: `begin`, `update`…, `close`, `ask`, `ending`.

    Texts are told apart by response, author and message id, calls by their ids; what interleaves stays open side by
    side. Within one message a change of kind ends what was open. A call is done when its result or the next thing of
    its message comes; with a result the message that made the call is over, too.

    `items` are the finished ones in their order, with the ids that were streamed; `error` is the last one that the
    agent reported as a content. Nothing here raises because of what a target gives.
    """

    def __init__(self, response: Response, mint: Mint) -> None:
        self.response = response
        self.mint = mint
        self.error: ResponseError | None = None
        self.calls = Calls(mint)
        self.frames = Frames()
        self.sources: dict[Key, Source] = {}
        self.open_calls: dict[str, tuple[OpenCall, Source]] = {}
        self.finished: dict[int, Item] = {}
        self.length = 0
        self.hot: HotText | None = None

    @property
    def items(self) -> list[Item]:
        return [self.finished[index] for index in sorted(self.finished)]

    def begin(self) -> bytes:
        """Give `response.created` and `response.in_progress`."""
        fields: dict[str, object] = {"response": self.response}
        return self.frames.frame("response.created", fields) + self.frames.frame("response.in_progress", fields)

    def update(self, update: AgentResponseUpdate) -> bytes:
        """Give the frames of an update; b"" where there is nothing to say."""
        # Most updates continue the same text, and do nothing else: what costs least is looked at, by identity first.
        if (hot := self.hot) is not None and len(contents := update.contents) == 1:
            content = contents[0]
            if (
                content.type == "text"
                and (text := content.text)
                and not content.annotations
                and (content.merge_mode is None or content.merge_mode == "append")
                and not (content.additional_properties and is_refusal(content.additional_properties))
                and (update.message_id is hot.message_id or update.message_id == hot.message_id)
                and (update.response_id is hot.response_id or update.response_id == hot.response_id)
                and (update.author_name is hot.author_name or update.author_name == hot.author_name)
                and (update.merge_mode is None or update.merge_mode == "append")
            ):
                try:
                    data = encode_json(text)
                except UnicodeEncodeError:
                    pass
                else:
                    hot.write(text)
                    frames = self.frames
                    number = frames.number
                    frames.number = number + 1
                    return b"".join((hot.prefix, data, b',"sequence_number":', encode_json(number), b"}\n\n"))
        self.hot = None
        return self.any_update(update)

    def any_update(self, update: AgentResponseUpdate) -> bytes:
        event = event_of(update)
        if event is not None and not isinstance(data := cast("object", event.data), AgentResponseUpdate):
            return b"".join(self.block(block) for block in output_blocks(update, data))
        key = (update.response_id, update.author_name, update.message_id)
        source = self.sources.get(key)
        if source is None:
            source = self.sources[key] = Source()
        replace = update.merge_mode == "replace"
        out = b"".join(self.content(source, content, replace=replace) for content in update.contents)
        # Whole outputs of a workflow carry no ids: beside them an update without any is not known by its ids.
        if event is None or update.message_id or update.response_id:
            self.heat(source, key)
        return out

    def heat(self, source: Source, key: Key) -> None:
        message = source.item
        if isinstance(message, OpenMessage) and message.text is not None and message.text.plain and not message.refusal:
            self.hot = HotText(key, message.prefix, message.text)

    def block(self, contents: Iterable[Content]) -> bytes:
        """Give the frames of a message that is whole."""
        source = Source()
        out = b"".join(self.content(source, content, replace=False) for content in contents)
        return out + self.end_source(source)

    def content(self, source: Source, content: Content, *, replace: bool) -> bytes:
        replace = replace or content.merge_mode == "replace"
        match content.type:
            case "text":
                return self.text(source, content, replace=replace)
            case "text_reasoning":
                return self.reasoning(source, content, replace=replace)
            case "function_call":
                return self.call(source, content, replace=replace)
            case "function_result":
                call_id = content.call_id or ""
                return self.settled(source, call_id, self.calls.settle(content))
            case "function_approval_request":
                call_id = (content.function_call.call_id if content.function_call else None) or ""
                return self.settled(source, call_id, self.calls.hold(content))
            case "error":
                self.error = error_of(content)
                return b""
            case _:
                media = media_of(content)
                return self.media(source, media) if media else b""

    def text(self, source: Source, content: Content, *, replace: bool) -> bytes:
        refusal = is_refusal(content.additional_properties)
        if not content.text and (refusal or not citations_of(content)):
            return b""
        message, out = self.open_message(source)
        return out + message.add_text(content, replace=replace, refusal=refusal)

    def media(self, source: Source, media: list[Media]) -> bytes:
        call, output = shown_media(media, self.mint)
        return self.end_source(source) + self.whole_call(call) + self.whole(output)

    def open_message(self, source: Source) -> tuple[OpenMessage, bytes]:
        if isinstance(source.item, OpenMessage):
            return source.item, b""
        out = self.end_source(source)
        message = source.item = OpenMessage(self.mint("msg"), self.next_index(), self.frames)
        return message, out + message.begin()

    def reasoning(self, source: Source, content: Content, *, replace: bool) -> bytes:
        if not content.text and not content.protected_data:
            return b""
        item, out = source.item, b""
        if not isinstance(item, OpenReasoning) or not item.continues(content):
            out = self.end_source(source)
            item = source.item = OpenReasoning(self.mint("rs"), self.next_index(), self.frames)
            out += item.begin()
        return out + item.add(content, replace=replace)

    def call(self, source: Source, content: Content, *, replace: bool) -> bytes:
        name, arguments = content.name or "", arguments_of(content)
        # A mapping cannot go on from a piece of text: it is the whole.
        replace = replace or isinstance(content.arguments, Mapping)
        if content.call_id:
            known, _ = self.open_calls.get(content.call_id, (None, None))
        else:
            known = source.calls[-1] if source.calls and not is_run_elsewhere(content) else None
        if known is not None:
            return known.add(name, arguments, replace=replace)
        if (call_id := self.calls.show(content)) is None:
            return b""
        out = self.end_item(source)
        call = OpenCall(self.mint("fc"), self.next_index(), self.frames, call_id, name)
        source.calls.append(call)
        self.open_calls[content.call_id or call_id] = (call, source)
        return out + call.begin() + call.add(name, arguments, replace=replace)

    def settled(self, source: Source, call_id: str, output: FunctionCallOutputItem | None) -> bytes:
        if output is None:
            return b""
        _, made_by = self.open_calls.get(call_id, (None, None))
        out = self.end_source(source)
        if made_by is not None:
            out += self.end_source(made_by)
        return out + self.whole(output)

    def whole_call(self, item: FunctionCallItem) -> bytes:
        call = OpenCall(item.id, self.next_index(), self.frames, item.call_id, item.name)
        return call.begin() + call.add(item.name, item.arguments, replace=False) + self.end(call, "completed")

    def whole(self, item: FunctionCallOutputItem) -> bytes:
        index = self.next_index()
        self.finished[index] = item
        out = self.frames.frame("response.output_item.added", {"output_index": index, "item": item})
        return out + done(self.frames, index, item)

    def next_index(self) -> int:
        self.length += 1
        return self.length - 1

    def end_source(self, source: Source, status: ItemStatus = "completed") -> bytes:
        out = self.end_item(source, status)
        calls, source.calls = source.calls, []
        ended = b"".join(self.end(call, status) for call in calls)
        if ended:
            self.open_calls = {key: known for key, known in self.open_calls.items() if known[0] not in calls}
        return out + ended

    def end_item(self, source: Source, status: ItemStatus = "completed") -> bytes:
        item, source.item = source.item, None
        return b"" if item is None else self.end(item, status)

    def end(self, item: OpenItem, status: ItemStatus) -> bytes:
        finished, out = item.end(status)
        self.finished[item.index] = finished
        return out

    def close(self, status: ItemStatus = "completed") -> bytes:
        """End all that is open, in the order in which it began; a run that broke off leaves it `incomplete`."""
        self.hot = None
        sources, self.sources, self.open_calls = self.sources.values(), {}, {}
        items: list[OpenItem] = [item for source in sources for item in source.calls]
        items += [source.item for source in sources if source.item is not None]
        return b"".join(self.end(item, status) for item in sorted(items, key=lambda item: item.index))

    def ask(self, pending: Sequence[PendingRequest], own: Own = frozenset) -> bytes:
        """Give what the target waits for as whole function calls, and that calls of its own wait for others."""
        waiting = b"".join(map(self.whole, self.calls.wait(own)))
        return waiting + b"".join(self.whole_call(pending_call(request, self.mint)) for request in pending)

    def ending(self, response: Response, encoded: bytes | None = None) -> bytes:
        """Give `response.completed`, `.incomplete` or `.failed`, after the status of the response."""
        fields: dict[str, object] = {"response": response if encoded is None else msgspec.Raw(encoded)}
        return self.frames.frame(ending_of(response), fields)


def ending_of(response: Response) -> str:
    """Give the type of the event that ends the stream of a response."""
    return f"response.{ENDINGS.get(response.status, 'failed')}"


def event_of(update: AgentResponseUpdate) -> WorkflowEvent[Any] | None:
    """Give the event that an update of a workflow was made of."""
    from agent_framework import WorkflowEvent

    event: object = update.raw_representation
    return event if isinstance(event, WorkflowEvent) and event.type == "output" else None  # pyright: ignore[reportUnknownVariableType]


def output_blocks(update: AgentResponseUpdate, data: object) -> list[list[Content]]:
    """Give the messages of a workflow's output; where a hook changed the update, what it left."""
    own = contents_of(data)
    if len(own) == len(update.contents) and all(map(is_same, own, update.contents)):
        return blocks_of(data)
    return [update.contents]


def is_same(content: Content, other: Content) -> bool:
    return content is other or (content.type == other.type == "text" and content.text == other.text)
