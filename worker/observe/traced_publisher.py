"""Publisher with tracing: every publish is a span, and the message carries its context to the next reader."""

from collections.abc import Mapping
from typing import Any, Final, Protocol

from opentelemetry.trace import SpanKind

from schemas import event as events
from schemas import names
from worker.observe.tracing import Tracing
from worker.policy.outcome import Completed


class WrappedPublisher(Protocol):
    """The publisher that is wrapped."""

    async def event(
        self, completed: Completed, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish an event."""
        ...

    async def postpone(self, delivery: Any, retry_level: int, headers: Mapping[str, object]) -> None:
        """Put a copy into the retry queue of that level."""
        ...

    async def park(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue."""
        ...

    async def hand_back(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue."""
        ...


class TracedPublisher:
    """Publishes through `publisher`. An event carries the context of its own span instead of the request's.

    A copy of a request keeps its sender's context, as the conventions say. A request without one gets the span's
    context, so that all its deliveries are one trace.
    """

    def __init__(self, publisher: WrappedPublisher, tracing: Tracing, queue: str, event_exchange: str) -> None:
        self._publisher: Final = publisher
        self._tracing: Final = tracing
        self._queue: Final = queue
        self._event_exchange: Final = event_exchange

    async def event(
        self, completed: Completed, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish an event."""
        key = events.SUCCEEDED_KEY if completed.succeeded else events.FAILED_KEY
        with self._tracing.publish_span(
            self._event_exchange, key, SpanKind.PRODUCER, id=completed.event_id, conversation_id=correlation_id
        ) as trace_headers:
            await self._publisher.event(
                completed, correlation_id=correlation_id, reply_to=reply_to, trace=trace_headers or trace
            )

    async def postpone(self, delivery: Any, retry_level: int, headers: Mapping[str, object]) -> None:
        """Put a copy into the retry queue of that level."""
        with self._tracing.publish_span(
            "", names.retry_queue(self._queue, retry_level), _span_kind(headers)
        ) as trace_headers:
            await self._publisher.postpone(delivery, retry_level, _with_trace_headers(headers, trace_headers))

    async def park(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue."""
        with self._tracing.publish_span("", names.parked_queue(self._queue), _span_kind(headers)) as trace_headers:
            await self._publisher.park(delivery, _with_trace_headers(headers, trace_headers))

    async def hand_back(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue."""
        with self._tracing.publish_span("", self._queue, _span_kind(headers)) as trace_headers:
            await self._publisher.hand_back(delivery, _with_trace_headers(headers, trace_headers))


def _span_kind(headers: Mapping[str, object]) -> SpanKind:
    return SpanKind.CLIENT if names.TRACEPARENT in headers else SpanKind.PRODUCER


def _with_trace_headers(headers: Mapping[str, object], trace_headers: Mapping[str, str]) -> Mapping[str, object]:
    return headers if names.TRACEPARENT in headers else {**headers, **trace_headers}
