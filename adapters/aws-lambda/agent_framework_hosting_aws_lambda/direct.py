"""A direct call, `{"message": …}`: an invocation without HTTP around it.

The event is the body that the invocations channel takes, and the result is the JSON that it answers. `headers`, where
the event has them, are the request's; whoever may call the function at all is known by `direct_identity`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, cast

from .errors import CallFailed
from .events import Answer, Context, Event
from .events.http import Scope
from .events.scopes import http_scope
from .events.unserved import DIRECT_FIELDS

DIRECT = "aws.direct"


def is_direct(event: Event) -> bool:
    """Tell whether an event is a direct call of ours."""
    return ("message" in event or "responses" in event) and event.keys() <= DIRECT_FIELDS


def direct_request(event: Event, context: Context, path: str) -> tuple[Scope, bytes]:
    """Give the ASGI scope and the body.

    Raises:
        TypeError, ValueError: `headers` does not map names to texts.
    """
    given: object = event.get("headers")
    if given is None:
        given = {}
    if not isinstance(given, dict):
        raise TypeError("headers must be an object.")
    headers = {
        name.lower().encode("ascii"): value.encode("latin-1") for name, value in cast(Mapping[str, str], given).items()
    }
    if isinstance(event.get("session_id"), str):
        # Lambda itself repeats an asynchronous call that failed: under the same request id.
        headers.setdefault(b"idempotency-key", context.aws_request_id.encode())
    headers[b"content-type"] = b"application/json"
    target = ("", path, path.encode())
    lines = [*headers.items()]
    scope = http_scope(event, context, method="POST", target=target, query=b"", headers=lines, client=None)
    scope[DIRECT] = True
    body = {name: value for name, value in event.items() if name != "headers"}
    return scope, json.dumps(body).encode()


def direct_result(answer: Answer) -> Any:
    """Give what the call returns.

    Raises:
        CallFailed: It was answered with an error, which the caller is to see as a failed call.
    """
    body = answer.body.decode(errors="replace")
    if answer.status >= 400:
        raise CallFailed(f"{answer.status} {body}")
    return json.loads(body)
