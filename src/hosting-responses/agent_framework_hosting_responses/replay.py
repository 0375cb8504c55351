"""The events of a response that is over, told once more."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from .events import ending_of
from .open_items import Frames
from .schema import (
    FunctionCallItem,
    Item,
    MessageItem,
    OutputText,
    ReasoningItem,
    Refusal,
    Response,
    ResponseStatus,
)


def replay(response: Response, *, after: int = -1) -> Iterator[bytes]:
    """Give the frames whose number is greater than `after`: each text in one piece, always the same ones."""
    frames = Frames()
    for frame in all_frames(response, frames):
        if frames.number - 1 > after:
            yield frame


def opening(response: Response, frames: Frames) -> Iterator[bytes]:
    """Give what a stream begins with; one in the background is queued first."""
    begun = before(response, "queued" if response.background else "in_progress")
    yield frames.frame("response.created", {"response": begun})
    if response.background:
        yield frames.frame("response.queued", {"response": begun})


def all_frames(response: Response, frames: Frames) -> Iterator[bytes]:
    yield from opening(response, frames)
    yield frames.frame("response.in_progress", {"response": before(response, "in_progress")})
    for index, item in enumerate(response.output):
        place: dict[str, object] = {"output_index": index}
        yield frames.frame("response.output_item.added", {**place, "item": beginning(item)})
        yield from inner_frames(item, {"item_id": item.id, **place}, frames)
        yield frames.frame("response.output_item.done", {**place, "item": item})
    yield frames.frame(ending_of(response), {"response": response})


def before(response: Response, status: ResponseStatus) -> Response:
    """Give a response as it was before it had any output."""
    return msgspec.structs.replace(
        response, status=status, output=[], usage=None, error=None, incomplete_details=None, completed_at=None
    )


def beginning(item: Item) -> Item:
    if isinstance(item, MessageItem):
        return msgspec.structs.replace(item, status="in_progress", content=[])
    if isinstance(item, FunctionCallItem):
        return msgspec.structs.replace(item, status="in_progress", arguments="")
    return msgspec.structs.replace(item, summary=[]) if isinstance(item, ReasoningItem) else item


def inner_frames(item: Item, place: dict[str, object], frames: Frames) -> Iterator[bytes]:
    if isinstance(item, MessageItem):
        for index, part in enumerate(item.content):
            yield from part_frames(part, {**place, "content_index": index}, frames)
    elif isinstance(item, FunctionCallItem):
        yield frames.frame("response.function_call_arguments.delta", {**place, "delta": item.arguments})
        done = {**place, "name": item.name, "arguments": item.arguments}
        yield frames.frame("response.function_call_arguments.done", done)
    elif isinstance(item, ReasoningItem):
        for index, summary in enumerate(item.summary):
            where: dict[str, object] = {**place, "summary_index": index}
            empty = msgspec.structs.replace(summary, text="")
            yield frames.frame("response.reasoning_summary_part.added", {**where, "part": empty})
            yield frames.frame("response.reasoning_summary_text.delta", {**where, "delta": summary.text})
            yield frames.frame("response.reasoning_summary_text.done", {**where, "text": summary.text})
            yield frames.frame("response.reasoning_summary_part.done", {**where, "part": summary})


def part_frames(part: OutputText | Refusal, place: dict[str, object], frames: Frames) -> Iterator[bytes]:
    if isinstance(part, Refusal):
        yield frames.frame("response.content_part.added", {**place, "part": Refusal("")})
        yield frames.frame("response.refusal.delta", {**place, "delta": part.refusal})
        yield frames.frame("response.refusal.done", {**place, "refusal": part.refusal})
    else:
        yield frames.frame("response.content_part.added", {**place, "part": OutputText("")})
        yield frames.frame("response.output_text.delta", {**place, "delta": part.text, "logprobs": []})
        for index, annotation in enumerate(part.annotations):
            told = {**place, "annotation_index": index, "annotation": annotation}
            yield frames.frame("response.output_text.annotation.added", told)
        yield frames.frame("response.output_text.done", {**place, "text": part.text, "logprobs": []})
    yield frames.frame("response.content_part.done", {**place, "part": part})
