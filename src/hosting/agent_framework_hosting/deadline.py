"""Until when a platform lets an invocation work: what is not over by then is stopped, while it can still be told."""

from __future__ import annotations

from contextvars import ContextVar

from .errors import HostingError

__all__ = ["DeadlineReached", "current_deadline", "set_deadline"]

_deadline: ContextVar[float | None] = ContextVar("hosting_deadline", default=None)


class DeadlineReached(HostingError):
    """The platform's time for a request was nearly over: its run was stopped, and nothing of it saved. HTTP 504."""

    def __init__(self) -> None:
        super().__init__(
            "The agent was stopped: the time that the platform gives to one request is nearly over. Give the function "
            "a longer time-out, or ask for less at once."
        )


def set_deadline(at: float | None) -> None:
    """Stop the runs that are begun in this context at a time of the running loop's clock; None leaves them alone."""
    _deadline.set(at)


def current_deadline() -> float | None:
    return _deadline.get()
