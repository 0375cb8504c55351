"""One log line and one span for each turn, and for each update."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry import context, trace

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

__all__ = ["set_platform_attributes"]

logger = logging.getLogger("agent_framework.hosting.turns")

_NOTHING_TOLD: Mapping[str, str] = MappingProxyType({})
_platform: ContextVar[Mapping[str, str]] = ContextVar("hosting_platform", default=_NOTHING_TOLD)
_NO_KEY = "-"
_NOTHING = nullcontext()


def set_platform_attributes(attributes: Mapping[str, str]) -> None:
    """Have the spans that begin in this context tell in which of the platform's invocations they did."""
    _platform.set(attributes)


def hashed(key: str | None) -> str:
    """Give the short form under which a conversation appears in logs: the start of its store path."""
    return _NO_KEY if key is None else hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:12]


class TurnRecord:
    """Measures one turn or update (`kind`); `store_time` counts seconds spent on its state.

    `finish` writes its line.
    """

    __slots__ = ("_kind", "_tracer", "channel", "key", "outcome", "span", "started", "store_time")

    def __init__(self, kind: str, channel: str, key: str | None, span: Span | None, tracer: Tracer | None) -> None:
        self._kind = kind
        self._tracer = tracer
        self.channel = channel
        self.key = key
        self.span = span
        self.outcome = "cancelled"
        self.store_time = 0.0
        self.started = time.perf_counter()

    def span_of(self, name: str) -> AbstractContextManager[object]:
        """Record the body as a span below the turn's."""
        if self.span is None or self._tracer is None:
            return _NOTHING
        return self._tracer.start_as_current_span(name, context=trace.set_span_in_context(self.span))

    def current(self) -> AbstractContextManager[object]:
        """Make the turn's span the parent of what the body records."""
        return _NOTHING if self.span is None else trace.use_span(self.span, end_on_exit=False)

    def enter(self) -> None:
        """Make the turn's span the parent of what is recorded in the current context from now on."""
        if self.span is not None:
            context.attach(trace.set_span_in_context(self.span))

    def failed(self, error: Exception) -> None:
        """Note on the turn's span what ended its run."""
        if self.span is not None:
            self.span.record_exception(error)
            self.span.set_status(trace.Status(trace.StatusCode.ERROR, f"{type(error).__name__}: {error}"))

    def finish(self) -> None:
        if self.span is not None:
            self.span.set_attribute("hosting.outcome", self.outcome)
            self.span.end()
        if logger.isEnabledFor(logging.INFO):
            logger.info(
                "%s channel=%s key=%s duration_ms=%.1f store_ms=%.1f outcome=%s",
                self._kind,
                self.channel,
                hashed(self.key),
                (time.perf_counter() - self.started) * 1000,
                self.store_time * 1000,
                self.outcome,
            )


def find_tracer() -> Tracer | None:
    """Give the tracer of a process that has set a tracer provider; asked once, at start-up."""
    if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return None
    return trace.get_tracer("agent_framework.hosting")


def start_turn(
    tracer: Tracer | None, channel: str, key: str | None, carrier: Mapping[str, Any], *, kind: str = "turn"
) -> TurnRecord:
    """Begin to measure a turn, a reset or an update.

    `carrier` may hold the caller's `traceparent` and `tracestate`; otherwise the current span is continued.
    """
    span: Span | None = None
    if tracer is not None:
        from opentelemetry.propagate import extract

        span = tracer.start_span(
            f"hosting.{kind}",
            context=extract(carrier) if carrier else None,
            attributes={**_platform.get(), "hosting.channel": channel, "hosting.key": hashed(key)},
        )
    return TurnRecord(kind, channel, key, span, tracer)


def trace_of(tracer: Tracer | None) -> Mapping[str, str]:
    """Give what continues the current trace elsewhere."""
    carrier: dict[str, str] = {}
    if tracer is not None:
        from opentelemetry.propagate import inject

        inject(carrier)
    return carrier
