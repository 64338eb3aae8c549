"""The one observer: every fact that is told goes to the metrics and, where worth a line, to the log."""

import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, assert_never

from worker.observe import lines
from worker.observe.labels import FINAL_OUTCOMES
from worker.observe.logging import LEVEL_NUMBERS, Level
from worker.observe.metrics import Metrics
from worker.observe.recent_activity import RecentActivity
from worker.policy.facts import Settled
from worker.policy.fault import Absent, Done, Fault, Found, Remedy, Several, Sighting
from worker.policy.order import Order

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from worker.observe.tracing import Tracing


class Observer:
    """Is told facts by all rooms, after they are true; answers nothing, raises nothing."""

    def __init__(self, metrics: Metrics, logger: "FilteringBoundLogger", tracing: "Tracing | None" = None) -> None:
        self._metrics = metrics
        self._logger = logger
        self.activity = RecentActivity()
        """For the status page."""
        self.tracing = tracing
        """None while tracing is off."""
        self._logs_requests = logger.is_enabled_for(logging.INFO)
        self._links = {"consumer": False, "publisher": False}

    def __repr__(self) -> str:
        return f"<Observer: links {self._links}>"

    # Requests.

    def received(self, *, redelivered: bool) -> None:
        """A delivery came in."""
        self._metrics.requests_received["true" if redelivered else "false"].inc()
        self._metrics.in_flight_requests.inc()

    def called(self, order: Order, operation: str, ending: Done | Sighting | Fault, attempt: int) -> None:
        """A call of the service for this order ended (`create` or `find`)."""
        if operation == "find":
            self._metrics.lookups[_lookup_result(ending)].inc()
        if self.tracing is not None:
            self.tracing.called(operation, ending)
        if isinstance(ending, Fault):
            self.activity.call_failed(order, ending)
            self._logger.log(
                _log_level(ending), "request.faulted", **lines.call_error_fields(order, operation, ending, attempt)
            )

    def settled(self, fact: Settled) -> None:
        """A delivery is over."""
        if self.tracing is not None:
            fact = self.tracing.settled(fact)
        self.activity.settled(fact)
        metrics = self._metrics
        metrics.in_flight_requests.dec()
        metrics.requests_completed[fact.outcome, fact.reason].inc()
        metrics.request_duration[fact.outcome].observe(fact.seconds)
        if fact.outcome in FINAL_OUTCOMES:
            metrics.request_age[fact.outcome].observe(fact.age)
        if fact.parked:
            metrics.parked[fact.reason].inc()
        if self._logs_requests:
            self._logger.info("request.settled", **lines.settled_fields(fact))

    def failed(self, error: Exception) -> None:
        """A delivery met a defect of this worker and was returned to the queue."""
        if self.tracing is not None:
            self.tracing.failed(error)
        self.activity.delivery_returned("defect")
        self._metrics.in_flight_requests.dec()
        self._metrics.requests_completed["returned", "defect"].inc()
        self._logger.error("request.defect", error=error)

    # The service.

    def call_ended(self, operation: str, label: str, seconds: float) -> None:
        """A call of the service ended: `label` is its HTTP status, or how it went without an answer."""
        if self.tracing is not None:
            self.tracing.call_ended(label)
        self.activity.call_ended(label, seconds)
        self._metrics.dcs_calls[operation, label].inc()
        self._metrics.dcs_call_duration[operation].observe(seconds)

    def limited(self, limit: int) -> None:
        """So many calls of the service may be made at once from now on."""
        self._metrics.concurrency_limit.set(limit)

    def breaker(self, region: str, state: int) -> None:
        """The breaker of a configured region is closed (0), half-open (1) or open (2) from now on."""
        self._metrics.breaker_state[region].set(state)

    # The broker.

    def published(self, type_: str, seconds: float) -> None:
        """An event was confirmed."""
        self._metrics.events_published[type_].inc()
        self._metrics.event_publish_duration[type_].observe(seconds)

    def unconfirmed(self, reason: str) -> None:
        """A publish was not confirmed and will be tried again."""
        self._logger.warning("publish.unconfirmed", reason=reason)

    def link_up(self, link: str, broker: str) -> None:
        """A session of the link works."""
        self._set_link_state(link, True)
        self._logger.info("broker.up", link=link, broker=broker)

    def link_down(self, link: str, reason: str, wait: float) -> None:
        """The link has no session, and tries again after `wait` seconds."""
        self._set_link_state(link, False)
        self._logger.warning("broker.down", link=link, reason=reason, wait=round(wait, 3))

    def blocked(self, is_blocked: bool) -> None:
        """The broker blocks, or no longer blocks, the publishing connection."""
        self._metrics.broker_blocked.set(is_blocked)
        if is_blocked:
            self._logger.warning("broker.blocked")
        else:
            self._logger.info("broker.unblocked")

    def reply_refused(self, event_id: str) -> None:
        """The queue that a request names for its answer does not take it."""
        self._logger.warning("reply.refused", event_id=event_id)

    # The worker.

    def paused(self, reasons: Collection[str]) -> None:
        """No requests are taken in from now on, for these reasons (of `labels.PAUSES`); none: they are."""
        for reason, gauge in self._metrics.consumption_paused.items():
            gauge.set(reason in reasons)

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis can be used from now on, or not any more."""
        if self._metrics.claims_available is not None:
            self._metrics.claims_available.set(is_available)
        if is_available:
            self._logger.info("claims.available")
        else:
            self._logger.warning("claims.away", reason=reason)

    def claims_doubted(self, seconds: float) -> None:
        """Redis is new or forgot its records: every request is looked for before it is created meanwhile."""
        self._logger.warning("claims.doubted", seconds=seconds)

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """A record in Redis that no worker can have written was replaced; its request is looked for before a create."""
        self._metrics.claims_records_doubted.inc()
        self._logger.warning("claims.record_doubted", project_id=project_id, request_id=request_id)

    def note(self, level: Level, event: str, **fields: Any) -> None:
        """Anything else that is worth a line. `event` is a dotted noun and verb."""
        self._logger.log(LEVEL_NUMBERS[level], event, **fields)

    def _set_link_state(self, link: str, is_up: bool) -> None:
        self._links[link] = is_up
        self._metrics.broker_connected.set(all(self._links.values()))


def _lookup_result(ending: Done | Sighting | Fault) -> str:
    match ending:
        case Found() | Done():
            return "found"
        case Absent():
            return "absent"
        case Several():
            return "several"
        case Fault():
            return "failed"
        case _:
            assert_never(ending)


def _log_level(error: Fault) -> int:
    if error.is_ambiguous:
        return logging.WARNING
    # Throttling is daily business, and it comes in crowds.
    return logging.DEBUG if error.remedy is Remedy.THROTTLED else logging.INFO
