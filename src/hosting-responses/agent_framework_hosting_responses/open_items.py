"""Items of a stream that are still growing, and the frames that tell of them."""

from __future__ import annotations

from io import StringIO

from agent_framework import Content

from agent_framework_hosting.surrogates import utf8

from .contents import citations_of, is_reasoning_text
from .schema import (
    FunctionCallItem,
    Item,
    ItemStatus,
    MessageItem,
    OutputText,
    Part,
    ReasoningItem,
    Refusal,
    SummaryText,
    UrlCitation,
    encode,
)


class Frames:
    """Encodes events and counts them. `number` is the next event's `sequence_number`."""

    def __init__(self) -> None:
        self.number = 0

    def frame(self, type: str, fields: dict[str, object]) -> bytes:
        data = encode({"type": type, "sequence_number": self.number, **fields})
        self.number += 1
        return b"event: %b\ndata: %b\n\n" % (type.encode(), data)


class GrowingText:
    """A text that comes in pieces. What it holds is what was sent, in one buffer instead of many small strings.

    A piece may end with half of a surrogate pair: it waits for the other one.
    """

    def __init__(self) -> None:
        self.buffer = StringIO()
        self.half = ""
        self.start = 0
        self.replaced = False

    @property
    def plain(self) -> bool:
        """Whether a piece may be written to the buffer as it is."""
        return not self.half and not self.replaced

    def append(self, text: str) -> str:
        """Take a further piece and give what to send."""
        if self.replaced:
            self.start, self.replaced = self.buffer.tell(), False
        return self.write(text)

    def replace(self, text: str) -> str:
        """Take a whole text and give what of it is new.

        It repeats everything, or what came since the last repetition (of several parts that the framework lays into
        one, each is repeated alone). A text that goes on from neither is left out: what was sent cannot be taken
        back, so that the final text stays what the deltas added up to.
        """
        self.replaced = True
        text, known = utf8(text).decode(), str(self)
        for sent in (known, known[self.start :]):
            if text.startswith(sent):
                self.half = ""
                return self.write(text[len(sent) :])
        return ""

    def write(self, text: str) -> str:
        text, self.half = self.half + text, ""
        if "\ud800" <= text[-1:] <= "\udbff":
            text, self.half = text[:-1], text[-1]
        if not text.isascii():
            text = utf8(text).decode()
        self.buffer.write(text)
        return text

    def finish(self) -> str:
        """Give what is still to be sent."""
        text, self.half = utf8(self.half).decode(), ""  # No other half came.
        self.buffer.write(text)
        return text

    def __str__(self) -> str:
        return self.buffer.getvalue()


class OpenMessage:
    """A message; its last part may be a text or refusal that still grows."""

    def __init__(self, id: str, index: int, frames: Frames) -> None:
        self.id = id
        self.index = index
        self.frames = frames
        self.parts: list[Part] = []
        self.text: GrowingText | None = None
        self.refusal = False
        self.citations: list[UrlCitation] = []
        self.prefix = b""

    @property
    def place(self) -> dict[str, object]:
        return {"item_id": self.id, "output_index": self.index, "content_index": len(self.parts)}

    def begin(self) -> bytes:
        return self.added(MessageItem(self.id, "in_progress"))

    def added(self, item: Item) -> bytes:
        return self.frames.frame("response.output_item.added", {"output_index": self.index, "item": item})

    def add_text(self, content: Content, *, replace: bool, refusal: bool) -> bytes:
        frame = self.frames.frame
        out = b""
        if self.text is None or refusal != self.refusal:
            out = self.end_part() + self.begin_text(refusal=refusal)
        assert self.text is not None
        text = content.text or ""
        if new := self.text.replace(text) if replace else self.text.append(text):
            out += self.delta(new)
        if not refusal:
            for citation in citations_of(content):
                place = {**self.place, "annotation_index": len(self.citations), "annotation": citation}
                out += frame("response.output_text.annotation.added", place)
                self.citations.append(citation)
        return out

    def begin_text(self, *, refusal: bool) -> bytes:
        self.text, self.refusal, self.citations = GrowingText(), refusal, []
        self.prefix = (
            b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","item_id":%b,'
            b'"output_index":%d,"content_index":%d,"logprobs":[],"delta":'
            % (encode(self.id), self.index, len(self.parts))
        )
        part = Refusal("") if refusal else OutputText("")
        return self.frames.frame("response.content_part.added", {**self.place, "part": part})

    def delta(self, text: str) -> bytes:
        if self.refusal:
            return self.frames.frame("response.refusal.delta", {**self.place, "delta": text})
        return self.frames.frame("response.output_text.delta", {**self.place, "delta": text, "logprobs": []})

    def end_part(self) -> bytes:
        if self.text is None:
            return b""
        frame = self.frames.frame
        out = self.delta(rest) if (rest := self.text.finish()) else b""
        text, self.text = str(self.text), None
        if self.refusal:
            part = Refusal(text)
            out += frame("response.refusal.done", {**self.place, "refusal": text})
        else:
            part = OutputText(text, self.citations)
            out += frame("response.output_text.done", {**self.place, "text": text, "logprobs": []})
        out += frame("response.content_part.done", {**self.place, "part": part})
        self.parts.append(part)
        return out

    def end(self, status: ItemStatus) -> tuple[Item, bytes]:
        out = self.end_part()
        item = MessageItem(self.id, status, content=self.parts)
        return item, out + done(self.frames, self.index, item)


class OpenReasoning:
    """A reasoning item; the last part of its summary may still grow. `source_id` is the provider's id of it."""

    def __init__(self, id: str, index: int, frames: Frames) -> None:
        self.frames = frames
        self.index = index
        self.item = ReasoningItem(id)
        self.source_id: str | None = None
        self.text: GrowingText | None = None
        self.own_words = False

    @property
    def place(self) -> dict[str, object]:
        return {"item_id": self.item.id, "output_index": self.index, "summary_index": len(self.item.summary)}

    def begin(self) -> bytes:
        return self.frames.frame("response.output_item.added", {"output_index": self.index, "item": self.item})

    def continues(self, content: Content) -> bool:
        return not (content.id and self.source_id) or content.id == self.source_id

    def add(self, content: Content, *, replace: bool) -> bytes:
        self.source_id = self.source_id or content.id
        if content.protected_data:
            self.item.encrypted_content = content.protected_data
        if not content.text:
            return b""
        out = b""
        if self.text is None or self.own_words != is_reasoning_text(content):
            out = self.end_part()
            self.text, self.own_words = GrowingText(), is_reasoning_text(content)
            part = SummaryText("")
            out += self.frames.frame("response.reasoning_summary_part.added", {**self.place, "part": part})
        new = self.text.replace(content.text) if replace else self.text.append(content.text)
        return out + (self.delta(new) if new else b"")

    def delta(self, text: str) -> bytes:
        return self.frames.frame("response.reasoning_summary_text.delta", {**self.place, "delta": text})

    def end_part(self) -> bytes:
        if self.text is None:
            return b""
        out = self.delta(rest) if (rest := self.text.finish()) else b""
        part, self.text = SummaryText(str(self.text)), None
        out += self.frames.frame("response.reasoning_summary_text.done", {**self.place, "text": part.text})
        out += self.frames.frame("response.reasoning_summary_part.done", {**self.place, "part": part})
        self.item.summary.append(part)
        return out

    def end(self, status: ItemStatus) -> tuple[Item, bytes]:
        out = self.end_part()
        return self.item, out + done(self.frames, self.index, self.item)


class OpenCall:
    """A function call whose arguments may still grow."""

    def __init__(self, id: str, index: int, frames: Frames, call_id: str, name: str) -> None:
        self.frames = frames
        self.index = index
        self.item = FunctionCallItem(id, call_id, name, "", "in_progress")
        self.arguments = GrowingText()

    @property
    def place(self) -> dict[str, object]:
        return {"item_id": self.item.id, "output_index": self.index}

    def begin(self) -> bytes:
        return self.frames.frame("response.output_item.added", {"output_index": self.index, "item": self.item})

    def add(self, name: str, arguments: str, *, replace: bool) -> bytes:
        """Take a piece of the arguments; a later name counts only where there was none yet."""
        self.item.name = self.item.name or name
        new = self.arguments.replace(arguments) if replace else self.arguments.append(arguments)
        return self.delta(new) if new else b""

    def delta(self, text: str) -> bytes:
        return self.frames.frame("response.function_call_arguments.delta", {**self.place, "delta": text})

    def end(self, status: ItemStatus) -> tuple[Item, bytes]:
        rest = self.arguments.finish()
        if not rest and not str(self.arguments):
            rest = self.arguments.append("{}")  # Clients parse the text, also of a call without arguments.
        out = self.delta(rest) if rest else b""
        self.item.arguments, self.item.status = str(self.arguments), status
        fields = {**self.place, "arguments": self.item.arguments}
        out += self.frames.frame("response.function_call_arguments.done", fields)
        return self.item, out + done(self.frames, self.index, self.item)


def done(frames: Frames, index: int, item: Item) -> bytes:
    return frames.frame("response.output_item.done", {"output_index": index, "item": item})
