"""The one observer: every fact that a room reports goes to metrics, log, status page and trace."""

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from worker.observe.logging import Level
from worker.observe.metrics import FINAL_OUTCOMES, OTHER_VALUE, Metrics
from worker.observe.recent_activity import RecentActivity
from worker.policy.call_result import (
    CallError,
    CallResult,
    ConflictingTask,
    ErrorKind,
    SeveralTasks,
    TaskFound,
    TaskNotFound,
)
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.follow_up import LastWord, Watch
from worker.policy.migration_request import MigrationRequest

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

    from worker.observe.tracing import Tracing


LOOKUP_RESULT_NAMES: Final[Mapping[type, str]] = {
    TaskFound: "found",
    TaskNotFound: "absent",
    SeveralTasks: "several",
    ConflictingTask: "found",
    CallError: "failed",
}


class WorkerObserver:
    """Receives facts from all rooms after they happened; returns nothing and raises nothing."""

    def __init__(self, metrics: Metrics, logger: "FilteringBoundLogger", tracing: "Tracing | None" = None) -> None:
        self._metrics = metrics
        self._logger = logger
        self.activity = RecentActivity()
        """What the status page shows."""
        self.tracing = tracing
        """None while tracing is off."""
        self._logs_requests = logger.is_enabled_for(logging.INFO)
        self._links = {"consumer": False, "publisher": False}

    def __repr__(self) -> str:
        return f"<WorkerObserver: links {self._links}>"

    # Requests.

    def received(self, *, redelivered: bool) -> None:
        """A delivery arrived."""
        self._metrics.requests_received["true" if redelivered else "false"].inc()
        self._metrics.in_flight_requests.inc()

    def called(self, migration: MigrationRequest, operation: str, result: CallResult, attempt: int) -> None:
        """A create or a lookup (`find`) for this request ended."""
        if operation == "find":
            self._metrics.lookups[LOOKUP_RESULT_NAMES.get(type(result), OTHER_VALUE)].inc()
        if self.tracing is not None:
            self.tracing.called(operation, result)
        if isinstance(result, CallError):
            self.activity.call_failed(migration, result)
            self._logger.log(
                _log_level(result), "request.faulted", **_call_error_fields(migration, operation, result, attempt)
            )

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery was handled: published, confirmed and acknowledged."""
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
            self._logger.info("request.settled", **_settled_fields(fact))

    def failed(self, error: Exception) -> None:
        """A defect of the worker interrupted a delivery, which was returned to the queue."""
        if self.tracing is not None:
            self.tracing.failed(error)
        self.activity.delivery_returned("defect")
        self._metrics.in_flight_requests.dec()
        self._metrics.requests_completed["returned", "defect"].inc()
        self._logger.error("request.defect", error=error)

    def followed_up(self, watch: Watch, word: LastWord, now: float) -> None:
        """The watch of a created task has ended, and its event was published."""
        self._metrics.follow_ups[word.verdict].inc()
        success, seconds = watch.success, round(now - watch.succeeded_at, 1)
        ids = {field: getattr(success, field) for field in ("request_id", "project_id", "region", "instance_id")}
        level: Level = "info" if word.verdict == "provisioned" else "warning"
        said = {"task_status": word.task_status, "fail_reason": word.fail_reason}
        fields = {name: value for name, value in said.items() if value is not None}
        self.note(level, "follow_up.ended", result=word.verdict, **ids, **fields, checks=watch.checks, seconds=seconds)

    # DCS.

    def call_ended(self, operation: str, label: str, seconds: float) -> None:
        """A DCS call ended: `label` is its HTTP status, or how it ended without an answer."""
        if self.tracing is not None:
            self.tracing.call_ended(label)
        self.activity.call_ended(seconds)
        self._metrics.dcs_calls[operation, label].inc()
        self._metrics.dcs_call_duration[operation].observe(seconds)

    def limited(self, limit: int) -> None:
        """The concurrency limit changed."""
        self._metrics.concurrency_limit.set(limit)

    def breaker(self, region: str, state: int) -> None:
        """The breaker of a region changed: closed (0), half-open (1) or open (2)."""
        self._metrics.breaker_state[region].set(state)

    # The broker.

    def published(self, type_: str, seconds: float) -> None:
        """The broker confirmed an event."""
        self._metrics.events_published[type_].inc()
        self._metrics.event_publish_duration[type_].observe(seconds)

    def unconfirmed(self, reason: str) -> None:
        """A publish was not confirmed and will be retried."""
        self._logger.warning("publish.unconfirmed", reason=reason)

    def link_up(self, link: str, broker: str) -> None:
        """A broker connection works."""
        self._set_link_state(link, True)
        self._logger.info("broker.up", link=link, broker=broker)

    def link_down(self, link: str, reason: str, wait: float) -> None:
        """A broker connection is lost; the next attempt follows in `wait` seconds."""
        self._set_link_state(link, False)
        self._logger.warning("broker.down", link=link, reason=reason, wait=round(wait, 3))

    def blocked(self, is_blocked: bool) -> None:
        """The broker blocks or unblocks the publishing connection."""
        self._metrics.broker_blocked.set(is_blocked)
        if is_blocked:
            self._logger.warning("broker.blocked")
        else:
            self._logger.info("broker.unblocked")

    def reply_refused(self, event_id: str) -> None:
        """The reply queue that a request names does not accept the event."""
        self._logger.warning("reply.refused", event_id=event_id)

    # The worker.

    def paused(self, reasons: Collection[str]) -> None:
        """Consumption is paused for these reasons (of `PAUSE_REASONS`), or runs if there are none."""
        for reason, gauge in self._metrics.consumption_paused.items():
            gauge.set(reason in reasons)

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis became available or unavailable."""
        if self._metrics.claims_available is not None:
            self._metrics.claims_available.set(is_available)
        if is_available:
            self._logger.info("claims.available")
        else:
            self._logger.warning("claims.away", reason=reason)

    def claims_doubted(self, seconds: float) -> None:
        """Redis lost its records: for so many seconds every create is preceded by a lookup."""
        self._logger.warning("claims.doubted", seconds=seconds)

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """A record in Redis that no worker can have written was replaced; its request is looked for before a create."""
        self._metrics.claims_records_doubted.inc()
        self._logger.warning("claims.record_doubted", project_id=project_id, request_id=request_id)

    def note(self, level: Level, event: str, **fields: Any) -> None:
        """Log anything else. `event` is a noun and a verb with a dot between them."""
        getattr(self._logger, level)(event, **fields)

    def _set_link_state(self, link: str, is_up: bool) -> None:
        self._links[link] = is_up
        self._metrics.broker_connected.set(all(self._links.values()))


def _log_level(error: CallError) -> int:
    if error.is_ambiguous:
        return logging.WARNING
    # A throttled project produces hundreds of these, and none needs attention.
    return logging.DEBUG if error.kind is ErrorKind.THROTTLED else logging.INFO


def _settled_fields(fact: DeliveryFinished) -> dict[str, Any]:
    """The fields of a handled delivery. No body and no text of a sender: ids, counts and DCS's own words."""
    fields = {
        "outcome": fact.outcome,
        "reason": fact.reason,
        **_request_fields(fact.migration),
        "attempts": fact.envelope.attempts,
        "round": fact.envelope.round,
        "seconds": round(fact.seconds, 4),
        "age": round(fact.age, 4),
    }
    if fact.parked:
        fields["parked"] = True
    if fact.is_repeated:
        fields["repeated"] = True
    if fact.trace_id is not None:
        fields["trace_id"] = fact.trace_id
    return fields


def _call_error_fields(migration: MigrationRequest, operation: str, error: CallError, attempt: int) -> dict[str, Any]:
    """The fields of a failed call; what DCS did not say is left out."""
    details = {
        "status": error.http_status,
        "error_code": error.error_code,
        "error_msg": error.error_msg,
        "message": error.message if error.error_msg is None else None,
        "dcs_request_id": error.dcs_request_id,
    }
    return {
        **_request_fields(migration),
        "operation": operation,
        "attempt": attempt,
        "evidence": error.evidence.value,
        "label": error.label,
        **{key: value for key, value in details.items() if value is not None},
    }


def _request_fields(migration: MigrationRequest | None) -> dict[str, Any]:
    if migration is None:
        return {}
    return {"request_id": migration.request_id, "project_id": migration.project_id, "region": migration.region}
