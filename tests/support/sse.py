"""An event stream parser after the HTML Standard, "Interpreting an event stream", written apart from the encoder."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    data: str
    type: str = "message"
    id: str = ""


def parse_events(stream: bytes) -> list[Event]:
    """Give the events that a browser would dispatch; an event without its blank line is dropped."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = re.split("\r\n|\n|\r", text)
    events: list[Event] = []
    data = kind = last_id = ""
    # What stands behind the last line break is no whole line.
    for line in lines[:-1]:
        if line == "":
            if data:
                events.append(Event(data.removesuffix("\n"), kind or "message", last_id))
            data = kind = ""
        elif not line.startswith(":"):
            field, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if field == "data":
                data += value + "\n"
            elif field == "event":
                kind = value
            elif field == "id" and "\0" not in value:
                last_id = value
    return events
