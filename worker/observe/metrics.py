"""Prometheus metrics of one worker: names, known label values, buckets, and their exposition as text.

Label values are known sets, so that the number of series is bounded for any text of DCS or a sender.
"""

import platform
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import product
from math import inf
from typing import Any, Final, Self, TypeVar

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
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import GaugeMetricFamily
from prometheus_client.registry import Collector

from schemas.event import KEYS, PARKED_REASONS, Reason
from worker.policy.health import HealthStatus
from worker.policy.status import HeldBack
from worker.policy.throttle.project_hold import REASONS

NAMESPACE: Final = "dcs_worker"

OTHER_VALUE: Final = "other"
"""The label value of everything outside a known set."""
OUTCOMES: Final = ("succeeded", "failed", "retried", "returned")
FINAL_OUTCOMES: Final = ("succeeded", "failed")
HEALTH_STATUSES: Final = tuple(map(str, HealthStatus))
OPERATIONS: Final = ("create", "list", "show", "job", "token")
NO_REGION: Final = "none"
"""Region of a call for credentials."""
LOOKUP_RESULTS: Final = ("found", "absent", "several", "failed")
EVENT_TYPES: Final = tuple(KEYS)
FOLLOW_UP_RESULTS: Final = ("provisioned", "failed", "gone", "timeout")
PARKED_REASON_VALUES: Final = tuple(
    sorted(str(reason) for reason in {*PARKED_REASONS, Reason.INVALID_REQUEST, Reason.REJECTED})
)
NO_ANSWER_STATUSES: Final = ("timeout", "refused", "reset", "oversize", "unreadable", "pages", "frozen", "stale_answer")
"""Statuses of calls that ended without a readable answer."""
CALL_STATUSES: Final = frozenset((*map(str, range(100, 600)), *NO_ANSWER_STATUSES))
ALERTED_STATUSES: Final = ("401", "403", "404", "405")
"""Refusals of credentials or endpoint, whose first increase an alert must see."""
POSTPONE_REASONS: Final = ("breaker", "turn", "throttled", "credentials", "quota", "region", "look")
"""Why the throttle postpones a request at no cost."""
PAUSE_REASONS: Final = ("breaker", "credentials", "region", "blocked", "queues", "claims", "quarantine", "draining")
"""Why this replica does not consume; `docs/architecture.md` lists conditions and code."""
OUTCOMES_WITH_REASONS: Final = (
    *(("succeeded", resolution) for resolution in ("created", "adopted")),
    *(("failed", str(reason)) for reason in Reason),
    *(("retried", reason) for reason in ("settle", "copy", "claimed", "quarantine", *POSTPONE_REASONS)),
    *(("returned", reason) for reason in ("drain", "stale", "defect", "claims")),
)
"""Outcome and reason. The reason of a retried request may also be the status of its last call."""
OUTCOME_REASONS: Final = CALL_STATUSES.union(reason for _, reason in OUTCOMES_WITH_REASONS)

# Upper bounds of histogram buckets, in seconds.
CALL_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
PUBLISH_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
DURATION_BUCKETS: Final = (*CALL_BUCKETS, 120.0, 300.0)
AGE_BUCKETS: Final = (
    *(0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0),
)

M = TypeVar("M", bound=MetricWrapperBase)


class LabelledMetric(dict[Any, M]):
    """The children of a metric by label value (a tuple of values if there are several labels), each created once.

    An observation costs a dictionary look-up and the library's addition. A value outside `known_values` (one collection
    per label) leads to the child of `other`. The series of a single label exist from the start.
    """

    def __init__(self, metric: M, *known_values: Collection[str]) -> None:
        super().__init__()
        self._metric = metric
        self._known_values = known_values
        if len(known_values) == 1:
            self.create_series(known_values[0])

    def __missing__(self, key: Any) -> M:
        values = key if isinstance(key, tuple) else (key,)
        bounded = [
            value if value in known_values else OTHER_VALUE
            for value, known_values in zip(values, self._known_values, strict=True)
        ]
        child = self._metric.labels(*bounded)
        if OTHER_VALUE not in bounded:
            self[key] = child
        return child

    def create_series(self, keys: Iterable[Any]) -> Self:
        """Create the series of `keys` at 0, so that a first increase is visible to `rate`."""
        for key in keys:
            self[key]
        return self


class OptionalGauge(Collector):
    """Gauge without labels that is absent while its value is None: an absent series fires no alert."""

    def __init__(self, name: str, description: str) -> None:
        self.value: float | None = None
        self._name = f"{NAMESPACE}_{name}"
        self._description = description

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The metric, as the registry asks for it."""
        yield GaugeMetricFamily(self._name, self._description, self.value)


class Metrics:
    """All metrics of the worker. Series whose label values are known exist from the start.

    `claims_available` has no value unless claims are configured.
    """

    def __init__(self, version: str, regions: Collection[str], with_claims: bool) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # no series `_created` beside each counter
        self._registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)
        build = self._gauge("build_info", "Build information; always 1.", "version", "python")
        build.labels(version, platform.python_version()).set(1)
        self._health = self._labelled(
            Gauge, "health_status", "1 for the state that /readyz reports, else 0.", status=HEALTH_STATUSES
        )
        self.set_health("starting")
        self._create_request_metrics()
        self._create_queue_metrics()
        self._create_call_metrics(regions)
        self._create_event_metrics()
        self.concurrency_limit = self._gauge("concurrency_limit", "DCS calls that may run at once.")
        self.breaker_state = self._labelled(
            Gauge, "breaker_state", "Circuit breaker: 0 closed, 1 half-open, 2 open.", region=regions
        )
        self.broker_connected = self._gauge("broker_connected", "1 while both broker connections work.")
        self.broker_blocked = self._gauge("broker_blocked", "1 while the broker blocks publishing.")
        self._create_throttle_metrics(regions)
        self.consumption_paused = self._labelled(
            Gauge, "consumption_paused", "1 while consumption is paused, by reason.", reason=PAUSE_REASONS
        )
        self._claims_available = self._optional("claims_available", "1 while Redis answers.")
        self._claims_available.value = 0.0 if with_claims else None
        self.claims_memory_used = self._optional("claims_memory_used_ratio", "Share of Redis' memory that is used.")
        self.claims_records_doubted = Counter(
            "claims_records_doubted_total",
            "Records in Redis that no worker can have written, and that were replaced.",
            namespace=NAMESPACE,
            registry=self._registry,
        )

    def _gauge(self, name: str, description: str, *labels: str) -> Gauge:
        return Gauge(name, description, labels, NAMESPACE, registry=self._registry)

    def _optional(self, name: str, description: str) -> OptionalGauge:
        gauge = OptionalGauge(name, description)
        self._registry.register(gauge)
        return gauge

    def _labelled(
        self,
        metric_type: type[M],
        name: str,
        description: str,
        buckets: tuple[float, ...] | None = None,
        **known_values: Collection[str],
    ) -> LabelledMetric[M]:
        """Make a metric with labels; keyword arguments are their names and known values."""
        options: dict[str, Any] = {} if buckets is None else {"buckets": buckets}
        metric = metric_type(name, description, list(known_values), NAMESPACE, registry=self._registry, **options)
        return LabelledMetric(metric, *known_values.values())

    def _create_request_metrics(self) -> None:
        self.requests_received = self._labelled(
            Counter, "requests_received_total", "Deliveries of requests.", redelivered=("false", "true")
        )
        handled = "Deliveries handled, by outcome; one request may need several."
        self.deliveries_settled = self._labelled(
            Counter, "deliveries_settled_total", handled, outcome=OUTCOMES, reason=OUTCOME_REASONS
        ).create_series(OUTCOMES_WITH_REASONS)
        finished = "Requests finished: final events, without repeats."
        self.requests_finished = self._labelled(
            Counter, "requests_finished_total", finished, outcome=FINAL_OUTCOMES, reason=OUTCOME_REASONS
        ).create_series(key for key in OUTCOMES_WITH_REASONS if key[0] in FINAL_OUTCOMES)
        handling_time = "Handling time: received to acknowledged."
        self.request_duration = self._labelled(
            Histogram, "request_duration_seconds", handling_time, DURATION_BUCKETS, outcome=OUTCOMES
        )
        age = "Age: sent (else first received) to final event, without repeats."
        self.request_age = self._labelled(Histogram, "request_age_seconds", age, AGE_BUCKETS, outcome=FINAL_OUTCOMES)
        self.parked = self._labelled(
            Counter, "parked_total", "Requests parked for an operator.", reason=PARKED_REASON_VALUES
        )
        self.in_flight_requests = self._gauge("in_flight_requests", "Deliveries in flight.")
        self._oldest_request_age = self._optional("oldest_request_age_seconds", "Age of the oldest request in flight.")

    def _create_queue_metrics(self) -> None:
        ready = "Ready messages, as the broker counts them; absent while unknown."
        self._queue_messages = self._gauge("queue_messages", ready, "queue")
        since = "Time since the parked queue was last seen empty; 0 while it is."
        self._parked_since = self._optional("parked_since_seconds", since)

    def _create_call_metrics(self, regions: Collection[str]) -> None:
        self.dcs_calls = self._labelled(
            Counter,
            "dcs_calls_total",
            "DCS calls, by status.",
            region=(*regions, NO_REGION),
            operation=OPERATIONS,
            status=CALL_STATUSES,
        ).create_series(product(regions, ("create", "list"), ALERTED_STATUSES))
        self.dcs_call_duration = self._labelled(
            Histogram, "dcs_call_duration_seconds", "Duration of DCS calls.", CALL_BUCKETS, operation=OPERATIONS
        )
        self.marker_kept = self._gauge("marker_kept", "1 if DCS keeps markers; absent while unknown.", "region")
        self.lookups = self._labelled(Counter, "lookups_total", "Lookups for existing tasks.", result=LOOKUP_RESULTS)

    def _create_event_metrics(self) -> None:
        self.follow_ups = self._labelled(
            Counter, "follow_ups_total", "Watches of created tasks that ended.", result=FOLLOW_UP_RESULTS
        )
        self.events_published = self._labelled(
            Counter, "events_published_total", "Events confirmed by the broker.", type=EVENT_TYPES
        )
        confirm_time = "From publish to confirm of an event."
        self.event_publish_duration = self._labelled(
            Histogram, "event_publish_duration_seconds", confirm_time, PUBLISH_BUCKETS, type=EVENT_TYPES
        )

    def _create_throttle_metrics(self, regions: Collection[str]) -> None:
        self._call_rate_limit = self._labelled(
            Gauge, "call_rate_limit", "Calls per second allowed; +Inf while unlimited.", region=regions
        )
        self._projects_held = self._labelled(
            Gauge, "projects_held", "Projects currently paused.", region=regions, reason=REASONS
        ).create_series(product(regions, REASONS))
        for region in regions:
            self._call_rate_limit[region].set(inf)

    def set_held_back(self, regions: Mapping[str, HeldBack]) -> None:
        """Set what holds the requests of each region back; to be called right before `render`."""
        for region, held in regions.items():
            self._call_rate_limit[region].set(held.rate)
            for reason in REASONS:
                self._projects_held[region, reason].set(held.projects.get(reason, 0))

    def set_waiting(
        self, messages: Mapping[str, int], *, parked_seconds: float | None, oldest_seconds: float | None
    ) -> None:
        """Set what waits in queues and in flight, None where that is unknown; to be called right before `render`."""
        self._queue_messages.clear()
        for queue, count in messages.items():
            self._queue_messages.labels(queue).set(count)
        self._parked_since.value, self._oldest_request_age.value = parked_seconds, oldest_seconds

    def set_health(self, status: str) -> None:
        """Set the state that `/readyz` reports, of `HEALTH_STATUSES`."""
        for known, gauge in self._health.items():
            gauge.set(known == status)

    def set_claims_available(self, is_available: bool) -> None:
        """Redis answers, or not; without claims the metric stays absent."""
        if self._claims_available.value is not None:
            self._claims_available.value = float(is_available)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The metrics as text, and its media type: OpenMetrics where `accept`, an Accept header, asks for it."""
        try:
            encode, media_type = choose_encoder(accept)
        except TypeError:  # a version in the header is not a number
            encode, media_type = generate_latest, CONTENT_TYPE_PLAIN_0_0_4
        return encode(self._registry), media_type
