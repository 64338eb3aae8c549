"""The metrics of one worker, in a registry of its own, and their exposition."""

import platform
from collections.abc import Collection, Mapping
from itertools import product
from math import inf
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, choose_encoder, generate_latest

from worker.observe import labels
from worker.observe.handles import NAMESPACE, LabelledMetric, MetricFactory
from worker.policy.held import HELD, Held

# Upper bounds in seconds.
CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
PUBLISH_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATION_BUCKETS: Final = (*CALL_BUCKETS, 120.0, 300.0)
AGE_BUCKETS: Final = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0),
)


class Metrics:
    """All metrics. Series whose labels are known beforehand exist from the start.

    `claims_available` has no value unless claims are configured: a series that is absent raises no alarm.
    """

    def __init__(self, version: str, regions: Collection[str], with_claims: bool) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # no second series for each, which nobody reads
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        factory = MetricFactory(self._registry)
        python = platform.python_version()
        factory.gauges("build_info", "What runs; always 1.", version=[version], python=[python])[version, python].set(1)
        self._create_request_metrics(factory)
        self._create_call_metrics(factory)
        self._create_event_metrics(factory)
        self.concurrency_limit = factory.gauge("concurrency_limit", "Calls of the service that may be made at once.")
        self.breaker_state = factory.gauges(
            "breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open.", region=regions
        ).create_series(regions)
        self.broker_connected = factory.gauge("broker_connected", "1 while both connections to the broker work.")
        self.broker_blocked = factory.gauge("broker_blocked", "1 while the broker blocks publishing.")
        self._create_throttle_metrics(factory, regions)
        self.consumption_paused = factory.gauges(
            "consumption_paused", "1 while no requests are taken in, by reason.", reason=labels.PAUSE_REASONS
        ).create_series(labels.PAUSE_REASONS)
        self.claims_available = (factory.gauge if with_claims else factory.gauge_without_value)(
            "claims_available", "1 while Redis answers."
        )
        self.claims_records_doubted = Counter(
            "claims_records_doubted_total",
            "Records in Redis that no worker can have written, and that were replaced.",
            namespace=NAMESPACE,
            registry=self._registry,
        )

    def _create_request_metrics(self, factory: MetricFactory) -> None:
        self.requests_received: LabelledMetric[str, Counter] = factory.counter(
            "requests_received_total", "Deliveries of requests.", redelivered=("false", "true")
        ).create_series(("false", "true"))
        self.requests_completed: LabelledMetric[tuple[str, str], Counter] = factory.counter(
            "requests_completed_total",
            "Deliveries that are over.",
            outcome=labels.OUTCOMES,
            reason=labels.OUTCOME_REASONS,
        ).create_series(labels.OUTCOMES_WITH_REASONS)
        self.request_duration: LabelledMetric[str, Histogram] = factory.histogram(
            "request_duration_seconds", "From received to acknowledged.", DURATION_BUCKETS, outcome=labels.OUTCOMES
        ).create_series(labels.OUTCOMES)
        self.request_age: LabelledMetric[str, Histogram] = factory.histogram(
            "request_age_seconds", "From first received to final event.", AGE_BUCKETS, outcome=labels.FINAL_OUTCOMES
        ).create_series(labels.FINAL_OUTCOMES)
        self.parked: LabelledMetric[str, Counter] = factory.counter(
            "parked_total", "Requests that were put aside for a person.", reason=labels.PARKED_REASON_VALUES
        ).create_series(labels.PARKED_REASON_VALUES)
        self.in_flight_requests = factory.gauge("in_flight_requests", "Deliveries that are being worked on.")

    def _create_call_metrics(self, factory: MetricFactory) -> None:
        self.dcs_calls: LabelledMetric[tuple[str, str], Counter] = factory.counter(
            "dcs_calls_total", "Calls of the service.", operation=labels.OPERATIONS, status=labels.CALL_STATUSES
        )
        self.dcs_call_duration: LabelledMetric[str, Histogram] = factory.histogram(
            "dcs_call_duration_seconds", "Calls of the service.", CALL_BUCKETS, operation=labels.OPERATIONS
        ).create_series(labels.OPERATIONS)
        self.lookups: LabelledMetric[str, Counter] = factory.counter(
            "lookups_total", "Looks for a task that may exist.", result=labels.LOOKUP_RESULTS
        ).create_series(labels.LOOKUP_RESULTS)

    def _create_event_metrics(self, factory: MetricFactory) -> None:
        self.events_published: LabelledMetric[str, Counter] = factory.counter(
            "events_published_total", "Events that the broker confirmed.", type=labels.EVENT_TYPES
        ).create_series(labels.EVENT_TYPES)
        self.event_publish_duration: LabelledMetric[str, Histogram] = factory.histogram(
            "event_publish_duration_seconds", "From publish to confirm.", PUBLISH_BUCKETS, type=labels.EVENT_TYPES
        ).create_series(labels.EVENT_TYPES)

    def _create_throttle_metrics(self, factory: MetricFactory, regions: Collection[str]) -> None:
        self._breaker_opened: LabelledMetric[str, Gauge] = factory.gauges(
            "breaker_opened_timestamp_seconds", "When the breaker was opened; 0 while it is closed.", region=regions
        ).create_series(regions)
        self._breaker_next_probe: LabelledMetric[str, Gauge] = factory.gauges(
            "breaker_next_probe_timestamp_seconds", "When it is probed next; 0 while it is closed.", region=regions
        ).create_series(regions)
        self._call_rate_limit: LabelledMetric[str, Gauge] = factory.gauges(
            "call_rate_limit", "Calls per second that a quota allows; +Inf while none is known.", region=regions
        )
        self._projects_held: LabelledMetric[tuple[str, str], Gauge] = factory.gauges(
            "projects_held", "Projects whose requests step aside.", region=regions, why=HELD
        ).create_series(product(regions, HELD))
        for region in regions:
            self._call_rate_limit[region].set(inf)

    def set_held_back(self, regions: Mapping[str, Held]) -> None:
        """What holds the requests for each region back now: told right before it is rendered."""
        for region, held in regions.items():
            self._breaker_opened[region].set(held.opened_at)
            self._breaker_next_probe[region].set(held.probe_at)
            self._call_rate_limit[region].set(held.rate)
            for why in HELD:
                self._projects_held[region, why].set(held.projects.get(why, 0))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics where `accept`, an Accept header, asks for it."""
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # the header names a version that is no number
            encode, media_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self._registry), media_type
