"""What a function answers itself, where the app cannot."""

from __future__ import annotations

from agent_framework_hosting.deadline import DeadlineReached
from agent_framework_hosting.problems import STOP_RETRIES, Problem

from .events import Answer

BOUND = 6 * 1024 * 1024
"""Bytes that a response has at most where it is not streamed (Lambda quotas)."""

TOO_LATE = Problem(504, "deadline_reached", str(DeadlineReached()), headers=STOP_RETRIES)
TOO_LARGE = Problem(
    500,
    "response_too_large",
    "The response has more than the 6 MB that Lambda takes in one piece. Ask for less, or for a stream where the "
    "function gives one.",
    headers=STOP_RETRIES,
)


def answer_of(problem: Problem) -> Answer:
    headers = [(name.encode(), value.encode()) for name, value in problem.headers.items()]
    return Answer(problem.status, [(b"content-type", b"application/json"), *headers], problem.body())
