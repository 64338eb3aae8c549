"""The one observer: every fact that a room reports goes to metrics, log, status page and trace."""

import logging
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, Final

from worker.observe.log_fields import call_error_fields, call_level, delivery_fields
from worker.observe.logging import Level
from worker.observe.metrics import FINAL_OUTCOMES, NO_REGION, OTHER_VALUE, Metrics
from worker.observe.recent_activity import RecentActivity
from worker.observe.repeated_lines import LineKind, RepeatedLines
from worker.policy.call_result import CallError, CallResult, ConflictingTask, SeveralTasks, TaskFound, TaskNotFound
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.follow_up import LastWord, Watch
from worker.policy.migration_request import MigrationRequest
from worker.policy.redaction import Redactor
from worker.policy.task_matching import MARKER_KEPT, MARKER_REMEDY

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

    def __init__(
        self,
        metrics: Metrics,
        logger: "FilteringBoundLogger",
        tracing: "Tracing | None" = None,
        *,
        redactor: Redactor | None = None,
        without_redis: str = "",
    ) -> None:
        self._metrics = metrics
        self._logger = logger
        self.redactor = redactor or Redactor(())
        """The one of the log: pages and rotated secrets use it as well."""
        self._without_redis = without_redis
        """How this replica goes on while Redis is unavailable."""
        self._repeated_lines = RepeatedLines(self._summarise)
        self._keeps_every_line = logger.is_enabled_for(logging.DEBUG)
        self.activity = RecentActivity()
        """What the status page shows."""
        self.tracing = tracing
        """None while tracing is off."""
        self._links = {"consumer": False, "publisher": False}
        self._ready_fields: dict[str, Any] = {}

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
        self.activity.called(migration, operation, result)
        if isinstance(result, CallError) and self._logger.is_enabled_for(level := call_level(result)):
            fields = call_error_fields(migration, operation, result, attempt)
            self._log_repeatable(level, "dcs.call_failed", result.label, fields)

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery was handled: published, confirmed and acknowledged."""
        if self.tracing is not None:
            fact = self.tracing.settled(fact)
        self.activity.settled(fact)
        metrics = self._metrics
        metrics.in_flight_requests.dec()
        metrics.deliveries_settled[fact.outcome, fact.reason].inc()
        metrics.request_duration[fact.outcome].observe(fact.seconds)
        if fact.outcome in FINAL_OUTCOMES and fact.is_counted:
            metrics.requests_finished[fact.outcome, fact.reason].inc()
            metrics.request_age[fact.outcome].observe(fact.age)
        if fact.parked:
            metrics.parked[fact.reason].inc()
        level = _delivery_level(fact)
        if self._logger.is_enabled_for(level):
            self._log_repeatable(level, f"request.{fact.outcome}", fact.reason, delivery_fields(fact))

    def failed(self, error: Exception) -> None:
        """A defect of the worker interrupted a delivery, which returns to the queue if it was not settled before."""
        if self.tracing is not None:
            self.tracing.failed(error)
        self.activity.delivery_returned("defect")
        self._metrics.in_flight_requests.dec()
        self._metrics.deliveries_settled["returned", "defect"].inc()
        message = "A defect of the worker interrupted a delivery; it returns to the queue if it was not settled before"
        self._logger.error("request.defect", message=message, error=error)

    def followed_up(self, watch: Watch, word: LastWord, now: float) -> None:
        """The watch of a created task has ended, and its event was published."""
        self._metrics.follow_ups[word.verdict].inc()
        success, seconds = watch.success, round(now - watch.succeeded_at, 1)
        ids = {field: getattr(success, field) for field in ("request_id", "project_id", "region", "instance_id")}
        level: Level = "info" if word.verdict == "provisioned" else "warning"
        said = {"task_status": word.task_status, "fail_reason": word.fail_reason}
        fields: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
        text = "is ready" if word.verdict == "provisioned" else "is not ready"
        message = f"The created task {text} after {seconds:g} s ({word.verdict}); its event was published"
        fields |= {"checks": watch.checks, "seconds": seconds}
        self.note(level, "follow_up.ended", message=message, result=word.verdict, **ids, **fields)

    # DCS.

    def call_ended(self, operation: str, label: str, seconds: float, region: str | None) -> None:
        """A DCS call ended: `label` is its HTTP status, or how it ended without an answer.

        `region` is None for a call for credentials.
        """
        if self.tracing is not None:
            self.tracing.call_ended(label)
        self.activity.call_ended(seconds)
        self._metrics.dcs_calls[region or NO_REGION, operation, label].inc()
        self._metrics.dcs_call_duration[operation].observe(seconds)

    def marker_checked(self, migration: MigrationRequest, task_id: str, state: str) -> None:
        """The first task of a region shows whether DCS keeps the marker: `MARKER_KEPT`, or what it lists."""
        is_kept = state == MARKER_KEPT
        self._metrics.marker_kept.labels(migration.region).set(is_kept)
        log, event = (self._logger.info, "marker.kept") if is_kept else (self._logger.warning, "marker.lost")
        message = f"The marker at the end of a task's description is {state}{'' if is_kept else f': {MARKER_REMEDY}'}"
        log(event, message=message, region=migration.region, project_id=migration.project_id, instance_id=task_id)

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
        message = f"Not confirmed by the broker: {reason}"
        fields = {"message": message, "reason": reason}
        self._log_repeatable(logging.WARNING, "publish.unconfirmed", reason, fields)

    def link_up(self, link: str, broker: str) -> None:
        """A broker connection works."""
        self._logger.info("broker.connected", message=f"The {link} is connected to {broker}", link=link, broker=broker)
        self._set_link_state(link, True)

    def link_down(self, link: str, broker: str, reason: str, retry_in_seconds: float) -> None:
        """A broker connection is lost, or could not be opened."""
        self._set_link_state(link, False)
        retry_in_seconds = round(retry_in_seconds, 3)
        self._logger.warning(
            "broker.disconnected",
            message=f"The {link} is not connected to {broker}: {reason}; next attempt in {retry_in_seconds:.1f} s",
            link=link,
            broker=broker,
            reason=reason,
            retry_in_seconds=retry_in_seconds,
        )

    def blocked(self, is_blocked: bool) -> None:
        """The broker blocks or unblocks the publishing connection."""
        self._metrics.broker_blocked.set(is_blocked)
        if is_blocked:
            message = "The broker blocks publishing (memory or disk alarm): no request is consumed until that ends"
            self._logger.warning("broker.blocked", message=message)
        else:
            self._logger.info("broker.unblocked", message="The broker accepts publishes again")

    def queues_missing(self, queues: Collection[str]) -> None:
        """Queues of the worker were deleted."""
        lost = f"Queues were deleted with their messages: {', '.join(queues)}; the worker declares them again if it may"
        message = f"{lost}. Run dcs-worker topology check, and read the runbook's chapter Broker lost"
        self._logger.error("topology.missing", message=message, queues=list(queues))

    def reply_refused(self, event_id: str) -> None:
        """The reply queue that a request names does not accept the event."""
        message = "The reply queue that the request names does not take the event; the events exchange has it"
        self._logger.warning("reply.refused", message=message, event_id=event_id)

    # The worker.

    def started(self, **fields: Any) -> None:
        """The worker is built. `worker.ready` is logged with these fields once both broker connections work."""
        self._ready_fields = fields
        self._log_ready()

    def health_changed(self, status: str, reason: str) -> None:
        """The health of this replica has another status."""
        self._metrics.set_health(status)
        is_warning = status in ("disconnected", "paused", "degraded")
        level: Level = "error" if status == "failing" else "warning" if is_warning else "info"
        message = f"Health is {status} from now on: {reason}"
        self.note(level, "health.changed", message=message, status=status, reason=reason)

    def paused(self, reasons: Collection[str]) -> None:
        """Consumption is paused for these reasons (of `PAUSE_REASONS`), or runs if there are none."""
        for reason, gauge in self._metrics.consumption_paused.items():
            gauge.set(reason in reasons)

    def claims_available(self, is_available: bool, reason: str) -> None:
        """Redis became available or unavailable."""
        self._metrics.set_claims_available(is_available)
        if is_available:
            self._logger.info("redis.available", message="Redis answers: requests are claimed again")
        else:
            message = f"Redis is unavailable: {reason}; meanwhile: {self._without_redis}"
            self._logger.warning("redis.unavailable", message=message, error=reason)

    def claims_memory_used(self, ratio: float | None) -> None:
        """Redis uses so much of its memory; None if that is unknown."""
        self._metrics.claims_memory_used.value = ratio

    def claims_doubted(self, seconds: float) -> None:
        """Redis lost its records: for so many seconds every create is preceded by a lookup."""
        message = f"Redis has no records from before: every create is preceded by a lookup for {seconds:.0f} s"
        self._logger.warning("redis.data_lost", message=message, duration_seconds=round(seconds, 1))

    def claims_record_doubted(self, project_id: str, request_id: str) -> None:
        """A record in Redis that no worker can have written was replaced; its request is looked for before a create."""
        self._metrics.claims_records_doubted.inc()
        message = f"A record in Redis that no worker can have written was replaced; request {request_id} is looked up"
        self._logger.warning("claims.record_doubted", message=message, project_id=project_id, request_id=request_id)

    def note(self, level: Level, event: str, **fields: Any) -> None:
        """Log anything else. `event` is a noun and a verb with a dot between them, `message` a sentence."""
        getattr(self._logger, level)(event, **fields)

    def flush(self, *, is_last: bool = False) -> None:
        """Log how many repeated lines were left out: in windows that have ended, or in all of them."""
        self._repeated_lines.flush(is_last=is_last)

    def _set_link_state(self, link: str, is_up: bool) -> None:
        self._links[link] = is_up
        self._metrics.broker_connected.set(all(self._links.values()))
        self._log_ready()

    def _log_ready(self) -> None:
        if self._ready_fields and all(self._links.values()):
            self._logger.info("worker.ready", **self._ready_fields)
            self._ready_fields = {}

    def _log_repeatable(self, level: int, event: str, reason: str, fields: dict[str, Any]) -> None:
        kind = LineKind(level, event, fields.get("region"), reason, fields.get("error_code"))
        if event == "request.succeeded" or self._keeps_every_line or self._repeated_lines.admits(kind):
            self._logger.log(level, event, **fields)

    def _summarise(self, kind: LineKind, count: int, seconds: float) -> None:
        fields = {"reason": kind.reason, "error_code": kind.error_code, "region": kind.region}
        known = {name: value for name, value in fields.items() if value is not None}
        message = f"and {count} more in {seconds:.0f} s ({', '.join(known.values())})"
        self._logger.log(kind.level, kind.event, message=message, left_out=count, **known)


def _delivery_level(fact: DeliveryFinished) -> int:
    """A parked request needs an operator; another failed one may."""
    usual = logging.WARNING if fact.outcome == "failed" else logging.INFO
    return logging.ERROR if fact.parked else usual
