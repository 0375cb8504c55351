"""The events that carry HTTP requests: Mangum's event kinds, corrected.

What Mangum 0.22 gets wrong, and these do not: paths are decoded twice (HTTP API, function URL), `%2F` becomes a
segment boundary, `raw_path` and `root_path` are missing, a base path is cut off inside a segment, `exclude_headers`
misses payload 2.0 and repeated headers, `application/problem+json` and its like are base64-encoded, a 204 gets a
content type, headers that are not UTF-8, absent header maps and odd `Host` values raise, an ALB query is recoded.
"""

from __future__ import annotations

from .balancer import LoadBalancer
from .http_api import HttpApi
from .rest_api import RestApi
from .unserved import Unserved, refuse, refuse_malformed

KINDS = [HttpApi, RestApi, LoadBalancer, Unserved]
"""In the order in which an event is offered to them; the last one refuses it."""

__all__ = ["KINDS", "HttpApi", "LoadBalancer", "RestApi", "Unserved", "refuse", "refuse_malformed"]
