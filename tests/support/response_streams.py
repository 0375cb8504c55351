"""Streams of a response, made and read back for tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import msgspec
from agent_framework import AgentResponseUpdate
from openai import omit
from openai._models import construct_type
from openai.lib.streaming.responses import ResponseStream
from openai.types.responses import ResponseStreamEvent

from agent_framework_hosting import PendingRequest
from agent_framework_hosting_responses.events import OutputEvents
from agent_framework_hosting_responses.schema import Item, Response, ResponseStatus, encode
from tests.support.open_responses import check_stream
from tests.support.sse import parse_events


def minting() -> Callable[[str], str]:
    numbers = count()
    return lambda kind: f"{kind}_{next(numbers)}"


def response(status: ResponseStatus = "in_progress", output: Sequence[Item] = ()) -> Response:
    return Response(id="resp_1", created_at=1, status=status, model="m", output=list(output))


def opened() -> OutputEvents:
    return OutputEvents(response(), minting())


def streamed(*updates: AgentResponseUpdate, pending: Sequence[PendingRequest] = ()) -> list[Any]:
    """Give the events of a whole stream, each and their order checked."""
    events = opened()
    frames = [events.begin(), *map(events.update, updates), events.close(), events.ask(pending)]
    read = decoded(b"".join([*frames, events.ending(response("completed", events.items))]))
    check_stream(read)
    return read


def decoded(stream: bytes) -> list[Any]:
    read = [(event.type, msgspec.json.decode(event.data)) for event in parse_events(stream)]
    assert all(kind == data["type"] for kind, data in read)
    return [data for _, data in read]


def output(events: Sequence[Any]) -> list[Any]:
    return events[-1]["response"]["output"]


def plain(items: Sequence[Item]) -> list[Any]:
    return msgspec.json.decode(encode(items))


class RawStream:
    """What the SDK's helper reads from."""

    response = None

    def __init__(self, events: Sequence[Any]) -> None:
        self.events = events

    def __iter__(self) -> Iterator[Any]:
        for event in self.events:
            yield construct_type(type_=ResponseStreamEvent, value=event)


def accumulated(events: Sequence[Any]) -> Any:
    """Give the final response of the SDK's strict helper."""
    raw: Any = RawStream(events)
    stream = ResponseStream(raw_stream=raw, text_format=omit, input_tools=omit, starting_after=None)
    return stream.get_final_response()
