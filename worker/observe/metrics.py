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
from worker.observe.handles import NAMESPACE, Handles, Instruments
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
        make = Instruments(self._registry)
        python = platform.python_version()
        make.gauges("build_info", "What runs; always 1.", version=[version], python=[python])[version, python].set(1)
        self._of_requests(make)
        self._of_calls(make)
        self._of_events(make)
        self.concurrency_limit = make.gauge("concurrency_limit", "Calls of the service that may be made at once.")
        self.breaker_state = make.gauges(
            "breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open.", region=regions
        ).begin(regions)
        self.broker_connected = make.gauge("broker_connected", "1 while both connections to the broker work.")
        self.broker_blocked = make.gauge("broker_blocked", "1 while the broker blocks publishing.")
        self._of_holding(make, regions)
        self.consumption_paused = make.gauges(
            "consumption_paused", "1 while no requests are taken in, by reason.", reason=labels.PAUSES
        ).begin(labels.PAUSES)
        self.claims_available = (make.gauge if with_claims else make.nothing)(
            "claims_available", "1 while Redis answers."
        )
        self.claims_records_doubted = Counter(
            "claims_records_doubted_total",
            "Records in Redis that no worker can have written, and that were replaced.",
            namespace=NAMESPACE,
            registry=self._registry,
        )

    def _of_requests(self, make: Instruments) -> None:
        self.requests_received: Handles[str, Counter] = make.counter(
            "requests_received_total", "Deliveries of requests.", redelivered=("false", "true")
        ).begin(("false", "true"))
        self.requests_completed: Handles[tuple[str, str], Counter] = make.counter(
            "requests_completed_total", "Deliveries that are over.", outcome=labels.OUTCOMES, reason=labels.REASONS
        ).begin(labels.ENDINGS)
        self.request_duration: Handles[str, Histogram] = make.histogram(
            "request_duration_seconds", "From received to acknowledged.", DURATION_BUCKETS, outcome=labels.OUTCOMES
        ).begin(labels.OUTCOMES)
        self.request_age: Handles[str, Histogram] = make.histogram(
            "request_age_seconds", "From first received to final event.", AGE_BUCKETS, outcome=labels.FINAL
        ).begin(labels.FINAL)
        self.parked: Handles[str, Counter] = make.counter(
            "parked_total", "Requests that were put aside for a person.", reason=labels.PARKED
        ).begin(labels.PARKED)
        self.in_flight_requests = make.gauge("in_flight_requests", "Deliveries that are being worked on.")

    def _of_calls(self, make: Instruments) -> None:
        self.dcs_calls: Handles[tuple[str, str], Counter] = make.counter(
            "dcs_calls_total", "Calls of the service.", operation=labels.OPERATIONS, status=labels.STATUSES
        )
        self.dcs_call_duration: Handles[str, Histogram] = make.histogram(
            "dcs_call_duration_seconds", "Calls of the service.", CALL_BUCKETS, operation=labels.OPERATIONS
        ).begin(labels.OPERATIONS)
        self.lookups: Handles[str, Counter] = make.counter(
            "lookups_total", "Looks for a task that may exist.", result=labels.LOOKUPS
        ).begin(labels.LOOKUPS)

    def _of_events(self, make: Instruments) -> None:
        self.events_published: Handles[str, Counter] = make.counter(
            "events_published_total", "Events that the broker confirmed.", type=labels.EVENTS
        ).begin(labels.EVENTS)
        self.event_publish_duration: Handles[str, Histogram] = make.histogram(
            "event_publish_duration_seconds", "From publish to confirm.", PUBLISH_BUCKETS, type=labels.EVENTS
        ).begin(labels.EVENTS)

    def _of_holding(self, make: Instruments, regions: Collection[str]) -> None:
        self._opened: Handles[str, Gauge] = make.gauges(
            "breaker_opened_timestamp_seconds", "When the breaker was opened; 0 while it is closed.", region=regions
        ).begin(regions)
        self._probe: Handles[str, Gauge] = make.gauges(
            "breaker_next_probe_timestamp_seconds", "When it is probed next; 0 while it is closed.", region=regions
        ).begin(regions)
        self._rate: Handles[str, Gauge] = make.gauges(
            "call_rate_limit", "Calls per second that a quota allows; +Inf while none is known.", region=regions
        )
        self._held: Handles[tuple[str, str], Gauge] = make.gauges(
            "projects_held", "Projects whose requests step aside.", region=regions, why=HELD
        ).begin(product(regions, HELD))
        for region in regions:
            self._rate[region].set(inf)

    def held_back(self, regions: Mapping[str, Held]) -> None:
        """What holds the requests for each region back now: told right before it is rendered."""
        for region, held in regions.items():
            self._opened[region].set(held.opened_at)
            self._probe[region].set(held.probe_at)
            self._rate[region].set(held.rate)
            for why in HELD:
                self._held[region, why].set(held.projects.get(why, 0))

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics where `accept`, an Accept header, asks for it."""
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # the header names a version that is no number
            encode, media_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self._registry), media_type
