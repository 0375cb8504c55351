"""What a function is invoked by beside HTTP: queue, schedule, direct calls, pings, and the operator's own."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, cast

from .direct import is_direct
from .sqs_events import is_sqs

if TYPE_CHECKING:
    from .events import Context, Event

OnEvent = Callable[["Event", "Context"], Awaitable[Any] | Any]
"""What takes events that this project does not know, and gives the invocation's result, JSON."""

Trigger = Literal["direct", "ping", "queue", "sweep"]
WARMERS = frozenset({"serverless-plugin-warmup"})


def trigger_of(event: object) -> Trigger | None:
    """Name the trigger of an event that is no HTTP request; None for one that is none of ours."""
    if not isinstance(event, dict):
        return None
    fields = cast("Event", event)
    match fields.get("af-hosting"):
        case "ping":
            return "ping"
        case "sweep":
            return "sweep"
        case _:
            pass
    source = fields.get("source")
    if isinstance(source, str) and source in WARMERS:
        return "ping"
    if source == "aws.events" and fields.get("detail-type") == "Scheduled Event":
        return "sweep"
    if is_sqs(fields):
        return "queue"
    return "direct" if is_direct(fields) else None


def is_foreign(event: object, trigger: Trigger) -> bool:
    """Tell whether a schedule or a queue may be the operator's own: its events do not say that they are for us."""
    fields = cast("Event", event)
    if trigger == "sweep":
        return "af-hosting" not in fields
    return trigger == "queue" and not any("af-hosting" in str(record.get("body")) for record in fields["Records"])
