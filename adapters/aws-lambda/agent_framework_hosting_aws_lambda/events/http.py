"""What the kinds of events that carry HTTP requests have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from base64 import b64decode
from collections.abc import Iterable
from typing import Any, Literal, NamedTuple, Protocol

Event = dict[str, Any]
Scope = dict[str, Any]
Headers = Iterable[tuple[bytes, bytes]]
Integration = Literal["function_url", "rest_api"]
"""What may take a response as a stream, where it was set up to."""


class Context(Protocol):
    """What is used of Lambda's context object."""

    @property
    def aws_request_id(self) -> str: ...

    def get_remaining_time_in_millis(self) -> int: ...


class Settings(NamedTuple):
    """`base_path` has no slash at its end, and is "" for none; `exclude_headers` are in lower case."""

    base_path: str = ""
    exclude_headers: frozenset[str] = frozenset()


class Answer(NamedTuple):
    """A whole response."""

    status: int
    headers: Headers
    body: bytes


class HttpEvent(ABC):
    """A request as a trigger tells it: what the app sees of it, and what the trigger takes as its response.

    The properties and methods raise AttributeError, LookupError, TypeError or ValueError for a damaged event.
    """

    bound = 6 * 1024 * 1024
    """Bytes that a whole response has at most (Lambda quotas)."""

    def __init__(self, event: Event, context: Context, settings: Settings) -> None:
        self.event = event
        self.context = context
        self.settings = settings

    @classmethod
    @abstractmethod
    def matches(cls, event: Event) -> bool:
        """Tell whether an event is of this kind; none raises."""

    @property
    def integration(self) -> Integration | None:
        """Name what may take the response as a stream; None for what never does."""
        return None

    @property
    def patience(self) -> float | None:
        """Seconds that the trigger waits for a response, where that is fixed and less than a function may take."""
        return None

    @property
    @abstractmethod
    def scope(self) -> Scope:
        """The ASGI scope."""

    @property
    def body(self) -> bytes:
        body: object = self.event.get("body")
        if body is None:
            return b""
        if not isinstance(body, str):
            raise TypeError(f"A body is text, not {type(body).__name__}.")
        return b64decode(body, validate=True) if self.event.get("isBase64Encoded") else body.encode()

    @abstractmethod
    def result(self, answer: Answer) -> dict[str, Any]:
        """Give what the trigger takes as a whole response."""

    def prelude(self, status: int, headers: Headers) -> dict[str, Any]:
        """Give what goes before a streamed body.

        Raises:
            TypeError: Nothing of this kind takes one: it has no `integration`.
        """
        raise TypeError(f"{type(self).__name__} takes no response as a stream.")
