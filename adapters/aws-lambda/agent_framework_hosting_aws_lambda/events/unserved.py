"""What a function is invoked with, and has no use for."""

from __future__ import annotations

from typing import Any, NoReturn, cast

from ..errors import UnsupportedEvent

DIRECT_FIELDS = frozenset({"headers", "message", "responses", "session_id"})
"""The keys of a direct call."""


def refuse(event: object) -> NoReturn:
    fields = cast("dict[object, object]", event if isinstance(event, dict) else {})
    if "message" in fields or "responses" in fields:
        others = sorted(str(key)[:40] for key in fields if key not in DIRECT_FIELDS)
        raise UnsupportedEvent(
            f"A direct call has the keys {', '.join(sorted(DIRECT_FIELDS))} and no others; this one has: "
            f"{', '.join(others[:10])}. What else an invocation may say, a stream among it, goes over HTTP; give the "
            "adapter on_event=… for events of your own."
        )
    what = description(cast(object, event))
    raise UnsupportedEvent(
        f"This function was invoked with {what}. Served are HTTP requests (function URLs, API Gateway's "
        "REST APIs and HTTP APIs, load balancers), SQS messages that wake, a schedule's {'af-hosting': 'sweep'} and a "
        "direct call's {'message': …}; give the adapter on_event=… for any other trigger, or give that a function "
        "of its own."
    )


def refuse_malformed(event: object, error: Exception, kind: str = "an HTTP request") -> NoReturn:
    raise UnsupportedEvent(
        f"This function was invoked with {description(event)}, which looks like {kind} but is damaged "
        f"({type(error).__name__}). No trigger of AWS sends such an event: correct what calls the function directly."
    ) from error


def description(event: object) -> str:
    """Name an event by its kind and the names of its keys; values may be secret."""
    if not isinstance(event, dict):
        return f"an event of type {type(event).__name__}"
    fields = cast(dict[str, Any], event)
    if not fields:
        return "an empty event"
    keys = ", ".join(str(key)[:40] for key in list(fields)[:10])
    records: object = fields.get("Records")
    if isinstance(records, list) and records and isinstance(records[0], dict):
        record = cast(dict[str, Any], records[0])
        source = (
            record.get("eventSource") or record.get("EventSource") or ("aws:cloudfront" if "cf" in record else None)
        )
        if source:
            return f"an event of {source} (keys: {keys})"
    if "detail-type" in fields:
        return f"an EventBridge event of {fields.get('source')} (keys: {keys})"
    return f"an event with the keys: {keys}"
