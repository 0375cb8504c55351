"""A tracer provider that remembers spans: the API has none, and the SDK is no part of this project."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import getrandbits
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import Span, SpanContext, TraceFlags


@dataclass
class RememberedSpan(Span):
    name: str
    context: SpanContext
    parent: SpanContext | None
    attributes: dict[str, Any]
    status: Any = None
    exceptions: list[BaseException] = field(default_factory=list)
    ended: int = 0

    def end(self, end_time: int | None = None) -> None:
        self.ended += 1

    def get_span_context(self) -> SpanContext:
        return self.context

    def set_attributes(self, attributes: Any) -> None:
        self.attributes.update(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.attributes[key] = value

    def add_event(self, name: str, attributes: Any = None, timestamp: int | None = None) -> None:
        return None

    def update_name(self, name: str) -> None:
        self.name = name

    def is_recording(self) -> bool:
        return not self.ended

    def set_status(self, status: Any, description: str | None = None) -> None:
        self.status = status

    def record_exception(self, exception: BaseException, *args: Any, **kwargs: Any) -> None:
        self.exceptions.append(exception)


class RememberingTracer(trace.Tracer):
    def __init__(self, spans: list[RememberedSpan]) -> None:
        self.spans = spans

    def start_span(self, name: str, context: Any = None, *args: Any, attributes: Any = None, **kwargs: Any) -> Span:
        above = trace.get_current_span(context).get_span_context()
        parent = above if above.is_valid else None
        trace_id = getrandbits(128) if parent is None else parent.trace_id
        made = SpanContext(trace_id, getrandbits(64), is_remote=False, trace_flags=TraceFlags(1))
        self.spans.append(RememberedSpan(name, made, parent, dict(attributes or {})))
        return self.spans[-1]

    @contextmanager
    def start_as_current_span(self, name: str, *args: Any, **kwargs: Any) -> Iterator[Span]:  # type: ignore[override]
        with trace.use_span(self.start_span(name, *args, **kwargs), end_on_exit=True) as span:
            yield span


class RememberingProvider(trace.TracerProvider):
    def __init__(self) -> None:
        self.spans: list[RememberedSpan] = []

    def get_tracer(self, *args: Any, **kwargs: Any) -> trace.Tracer:
        return RememberingTracer(self.spans)
