"""Tracing with OpenTelemetry: one span per delivery, DCS call and publish. Imported only when tracing is on.

No other room knows spans: the span of a delivery is a context variable of the task that handles it, where the
observer's facts find it. Spans are exported in batches over OTLP/HTTP, from the exporter's own thread.
"""

import asyncio
import logging
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, Final, TypeVar

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Span, SpanKind, StatusCode, format_trace_id, get_current_span, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from schemas import event as events
from schemas import names
from worker.observe.span_attributes import (
    ATTRIBUTE_PREFIX,
    URL_TEMPLATES,
    call_attributes,
    delivery_attributes,
    messaging_attributes,
    settled_attributes,
    without_none,
)
from worker.policy.delivery_report import DeliveryFinished

FLUSH_TIMEOUT_SECONDS: Final = 3.0
"""How long a worker that ends waits for the collector to take its last spans."""
DEFAULT_SERVICE_NAME: Final = "dcs-migration-worker"
# They warn of what a sender wrote into a header, and repeat it.
_NOISY_LOGGERS: Final = ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext")
_PROPAGATOR: Final = TraceContextTextMapPropagator()

_delivery: ContextVar[Span] = ContextVar("delivery_span")
_call: ContextVar[Span] = ContextVar("call_span")

D = TypeVar("D")
"""The broker's room has the class of a delivery."""


class Tracing:
    """Starts and ends spans; to be closed by `aclose`."""

    def __init__(self, provider: TracerProvider, queue: str, version: str) -> None:
        self._provider = provider
        self._queue = queue
        self._tracer = provider.get_tracer(DEFAULT_SERVICE_NAME, version)
        self._open: set[Span] = set()

    def __repr__(self) -> str:
        return f"<Tracing: {len(self._open)} spans open>"

    def with_delivery_span(self, deliver: Callable[[D], None]) -> Callable[[D], None]:
        """Wrap `deliver`: the tasks that it starts have the span of the delivery in their context."""

        def begin(delivery: D) -> None:
            token = _delivery.set(self._start_delivery_span(delivery))
            try:
                deliver(delivery)
            finally:
                _delivery.reset(token)

        return begin

    def settled(self, fact: DeliveryFinished) -> DeliveryFinished:
        """End the span of the delivery; returns the fact with its trace id."""
        span = _delivery.get(None)
        if span is None:
            return fact
        span.set_attributes(settled_attributes(fact))
        if fact.outcome == "failed":
            _mark_failed(span, fact.reason)
        self._end_span(span)
        return replace(fact, trace_id=format_trace_id(span.get_span_context().trace_id))

    def failed(self, error: Exception) -> None:
        """End the span of a delivery that met a defect, with the class of the error; its text may hold anything."""
        if (span := _delivery.get(None)) is not None:
            span.set_attributes({f"{ATTRIBUTE_PREFIX}outcome": "returned", f"{ATTRIBUTE_PREFIX}reason": "defect"})
            _mark_failed(span, type(error).__name__)
            self._end_span(span)

    def call_started(self, operation: str, method: str, url: str) -> dict[str, str]:
        """Start the span of a DCS call; returns the headers that carry its context."""
        path = URL_TEMPLATES.get(operation)
        name = f"{method} {path}" if path else method
        span = self._start_span(name, SpanKind.CLIENT, call_attributes(operation, method, url))
        _call.set(span)
        return _trace_headers(span)

    def call_ended(self, label: str) -> None:
        """End the span of the call: `label` is its HTTP status, or how it ended without an answer."""
        span = _call.get(None)
        if span is None:
            return
        if label.isdecimal():
            span.set_attribute("http.response.status_code", int(label))
        if not label.isdecimal() or int(label) >= 400:
            _mark_failed(span, label)
        self._end_span(span)

    @contextmanager
    def publish_span(
        self, exchange: str, key: str, kind: SpanKind, **message_attributes: str | None
    ) -> Iterator[dict[str, str]]:
        """A span from publish to confirm; yields the headers that carry its context."""
        destination = f"{exchange}:{key}" if exchange else key
        attributes = {
            **messaging_attributes("publish", "send", destination),
            "messaging.rabbitmq.destination.routing_key": key,
            **{f"messaging.message.{name}": value for name, value in message_attributes.items()},
        }
        span = self._start_span(f"publish {destination}", kind, attributes)
        try:
            yield _trace_headers(span)
        except BaseException as error:
            _mark_failed(span, type(error).__name__)
            raise
        finally:
            self._end_span(span)

    async def aclose(self) -> None:
        """End the open spans, and wait a moment for the collector to take them."""
        for span in list(self._open):
            _mark_failed(span, "abandoned")
            self._end_span(span)
        loop, flushed = asyncio.get_running_loop(), asyncio.Event()

        def flush() -> None:
            self._provider.shutdown()
            with suppress(RuntimeError):  # the loop is closed already
                loop.call_soon_threadsafe(flushed.set)

        # The thread is never joined: a collector that does not answer must not keep the worker from ending.
        threading.Thread(target=flush, name="tracing flush", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(FLUSH_TIMEOUT_SECONDS):
                await flushed.wait()

    def _start_delivery_span(self, delivery: Any) -> Span:
        # A sender may put any type into a header.
        header_names = (names.TRACEPARENT, names.TRACESTATE)
        trace_headers = {name: value for name in header_names if isinstance(value := delivery.headers.get(name), str)}
        parent = _PROPAGATOR.extract(trace_headers)
        origin = get_current_span(parent).get_span_context()
        attributes = delivery_attributes(delivery, self._queue)
        span = self._tracer.start_span(f"process {self._queue}", parent, SpanKind.CONSUMER, attributes)
        if origin.is_valid:
            span.add_link(origin)
        self._open.add(span)
        return span

    def _start_span(self, name: str, kind: SpanKind, attributes: Mapping[str, str | int | None]) -> Span:
        parent = _delivery.get(None)
        context = set_span_in_context(parent) if parent is not None else None
        span = self._tracer.start_span(name, context, kind, without_none(attributes))
        self._open.add(span)
        return span

    def _end_span(self, span: Span) -> None:
        self._open.discard(span)
        span.end()


class TracedPublisher:
    """Publishes through `publisher`, each message in a span whose context the message carries to its next reader.

    An event carries the context of its span instead of the request's. A copy of a request keeps its sender's context,
    as the conventions say; a request without one gets the span's, so that all its deliveries are one trace.
    `publisher` has the methods of this class.
    """

    def __init__(
        self, publisher: Any, tracing: Tracing, queue: str, event_exchange: str, retry_queues: Sequence[str]
    ) -> None:
        self._publisher = publisher
        self._tracing = tracing
        self._queue = queue
        self._event_exchange = event_exchange
        self._retry_queues = retry_queues

    async def event(
        self, ending: Any, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish an event."""
        key = events.KEYS[ending.EVENT_TYPES[ending.succeeded]]
        with self._tracing.publish_span(
            self._event_exchange, key, SpanKind.PRODUCER, id=ending.event_id, conversation_id=correlation_id
        ) as trace_headers:
            await self._publisher.event(
                ending, correlation_id=correlation_id, reply_to=reply_to, trace=trace_headers or trace
            )

    async def watch(
        self, body: bytes, checks: int, headers: Mapping[str, object], *, correlation_id: str | None
    ) -> None:
        """Put a watch into the queue in which it waits for its next look."""
        with self._copy_span(names.follow_up_queue(self._queue, checks), headers) as traced_headers:
            await self._publisher.watch(body, checks, traced_headers, correlation_id=correlation_id)

    async def publish_to_retry_queue(self, delivery: Any, retry_level: int, headers: Mapping[str, object]) -> None:
        """Put a copy into the retry queue of that level."""
        with self._copy_span(self._retry_queues[retry_level - 1], headers) as traced_headers:
            await self._publisher.publish_to_retry_queue(delivery, retry_level, traced_headers)

    async def park(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue."""
        with self._copy_span(names.parked_queue(self._queue), headers) as traced_headers:
            await self._publisher.park(delivery, traced_headers)

    async def hand_back(self, delivery: Any, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue."""
        with self._copy_span(self._queue, headers) as traced_headers:
            await self._publisher.hand_back(delivery, traced_headers)

    @contextmanager
    def _copy_span(self, queue: str, headers: Mapping[str, object]) -> Iterator[Mapping[str, object]]:
        """The span of a copy that is published to `queue`; yields the copy's headers."""
        has_context = names.TRACEPARENT in headers
        kind = SpanKind.CLIENT if has_context else SpanKind.PRODUCER
        with self._tracing.publish_span("", queue, kind) as trace_headers:
            yield headers if has_context else {**headers, **trace_headers}


def _trace_headers(span: Span) -> dict[str, str]:
    headers: dict[str, str] = {}
    _PROPAGATOR.inject(headers, set_span_in_context(span))
    return headers


def _mark_failed(span: Span, type_: str) -> None:
    span.set_attribute("error.type", type_)
    span.set_status(StatusCode.ERROR)


def start_tracing(endpoint: str, queue: str, version: str) -> Tracing:
    """Tracing of a worker on `queue`, exported to the collector at `endpoint`.

    OpenTelemetry itself reads the other standard variables: OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES,
    OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS and so on. Raises ValueError for a value that it refuses.
    """
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.ERROR)
    provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    exporter = OTLPSpanExporter(endpoint=endpoint)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Tracing(provider, queue, version)


def _resource(version: str) -> Resource:
    """Who sends the spans; what the environment says takes precedence."""
    from_environment = Resource.create()
    defaults = {"service.version": version, "service.instance.id": str(uuid.uuid4())}
    if str(from_environment.attributes[SERVICE_NAME]).startswith("unknown_service"):
        from_environment = from_environment.merge(Resource({SERVICE_NAME: DEFAULT_SERVICE_NAME}))
    return Resource(defaults).merge(from_environment)
