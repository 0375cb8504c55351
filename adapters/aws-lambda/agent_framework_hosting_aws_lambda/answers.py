"""What a function answers itself, where the app cannot."""

from __future__ import annotations

import json
import logging
import sys
from typing import Any

from agent_framework_hosting.deadline import DeadlineReached
from agent_framework_hosting.problems import STOP_RETRIES, Problem

from .events import Answer, HttpEvent

BOUND = HttpEvent.bound
"""Bytes that a response has at most where it is not streamed (Lambda quotas)."""

logger = logging.getLogger("agent_framework.hosting.aws_lambda")

TOO_LATE = Problem(504, "deadline_reached", str(DeadlineReached()), headers=STOP_RETRIES)
TOO_LARGE = Problem(
    500,
    "response_too_large",
    "The response is larger than what Lambda takes in one piece: 6 MB, behind a load balancer 1 MB. Ask for less, or "
    "for a stream where the function gives one.",
    headers=STOP_RETRIES,
)


def answer_of(problem: Problem) -> Answer:
    headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    return Answer(problem.status, [(b"content-type", b"application/json"), *headers], problem.body())


def stock_result(http: HttpEvent, answer: Answer) -> dict[str, Any]:
    """Give what the stock runtime is to return for a response, or for one that is too large for it."""
    result = http.result(answer)
    # It may be six times as long once it is encoded.
    if len(answer.body) * 6 > http.bound and len(as_stock(result)) > http.bound:
        logger.error("A response of %d bytes is too large to be given in one piece.", len(answer.body))
        return http.result(answer_of(TOO_LARGE))
    return result


def as_stock(result: dict[str, Any]) -> bytes:
    """Encode as the stock runtime does: from Python 3.12 on text goes as it is."""
    return json.dumps(result, ensure_ascii=sys.version_info < (3, 12)).encode("utf-8", "surrogatepass")
