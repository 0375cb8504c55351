"""The events that carry HTTP requests.

What other adapters (Mangum 0.22) get wrong, and these do not: paths are decoded twice (HTTP API, function URL), `%2F`
becomes a segment boundary, `raw_path` and `root_path` are missing, a base path is cut off inside a segment,
`exclude_headers` misses payload 2.0 and repeated headers, `application/problem+json` and its like are base64-encoded, a
204 gets a content type, headers that are not UTF-8, absent header maps and odd `Host` values raise, an ALB query is
recoded.
"""

from __future__ import annotations

from .balancer import LoadBalancer
from .http import Answer, Context, Event, HttpEvent, Integration, Settings
from .http_api import HttpApi
from .rest_api import RestApi
from .unserved import refuse, refuse_malformed

KINDS: tuple[type[HttpEvent], ...] = (HttpApi, RestApi, LoadBalancer)
"""In the order in which an event is offered to them."""


def http_event(event: Event, context: Context, settings: Settings) -> HttpEvent | None:
    """Give an event as the HTTP request that it is; None for any other one."""
    for kind in KINDS:
        if kind.matches(event):
            return kind(event, context, settings)
    return None


__all__ = [
    "Answer",
    "Context",
    "Event",
    "HttpEvent",
    "Integration",
    "Settings",
    "http_event",
    "refuse",
    "refuse_malformed",
]
