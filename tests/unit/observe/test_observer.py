"""The observer: what each fact does to the metrics and to the log."""

import inspect
import io
import json
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.envelope import Envelope
from schemas.event import FAILED_TYPE, SUCCEEDED_TYPE
from schemas.request import Request, Task
from worker.dcs.http_client import OnCallEnd
from worker.observe.logging import Level, configure_logging
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.pipeline import ports
from worker.policy.call_result import (
    CallError,
    CallStatus,
    ConflictingTask,
    ErrorKind,
    Evidence,
    LookupResult,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.migration_request import migration
from worker.rabbit.connection_supervisor import ConnectionObserver
from worker.rabbit.publisher import PublisherObserver

TASK = Task(name="secret-name", description="secret text", vpc_id="v", subnet_id="s", security_group_id="g")
ORDER = migration(Request(request_id="r-1", project_id="p-1", task=TASK), default_region="cn-north-4", with_marker=True)
NAMED = {"request_id": "r-1", "project_id": "p-1", "region": "cn-north-4"}
ENVELOPE = Envelope(
    attempts=2,
    round=1,
    deliveries=3,
    interruptions=0,
    replays=0,
    first_received_at=0.0,
    last_sent_at=None,
    is_repeat=True,
    is_redelivered=False,
)


class Seen:
    """An observer, and what can be seen from outside of what it was told."""

    def __init__(self, level: Level = "debug", with_claims: bool = True) -> None:
        self._stream = io.StringIO()
        self._metrics = Metrics("1", ["cn-north-4"], with_claims)
        self.observer = WorkerObserver(self._metrics, configure_logging(level, "json", self._stream))
        self._before = self._series()

    def _series(self) -> dict[str, float]:
        body, _ = self._metrics.render("")
        return {
            " ".join(
                (sample.name.removeprefix("dcs_worker_"), *(f"{k}={v}" for k, v in sorted(sample.labels.items())))
            ): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
            if sample.name.startswith("dcs_worker") and not sample.name.endswith("_bucket")
        }

    @property
    def changed(self) -> dict[str, float]:
        """The series that are not as they were at the start; histograms by count and sum."""
        return {name: value for name, value in self._series().items() if value != self._before.get(name)}

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log, without times."""
        lines = [json.loads(line) for line in self._stream.getvalue().splitlines()]
        return [{key: value for key, value in line.items() if key != "timestamp"} for line in lines]


def settled(outcome: str, reason: str, **more: Any) -> DeliveryFinished:
    """A fact of half a second, two minutes after the request was first received."""
    return DeliveryFinished(
        outcome, reason, **{"migration": ORDER, "envelope": ENVELOPE, "seconds": 0.5, "age": 120.0, **more}
    )


def fault(evidence: Evidence = Evidence.AMBIGUOUS, kind: ErrorKind = ErrorKind.RETRY, **more: Any) -> CallError:
    """A call that did not succeed."""
    return CallError(evidence, kind, **{"status": CallStatus.TIMEOUT, "message": "no answer within 30 s", **more})


@pytest.mark.parametrize("protocol", [ports.Observer, ConnectionObserver, PublisherObserver])
def test_observer_matches_every_protocol(protocol: type) -> None:
    """The observer has the methods and arguments of every room's Protocol."""
    observer = Seen().observer
    fits: tuple[ports.Observer, ConnectionObserver, PublisherObserver, OnCallEnd]
    fits = (observer, observer, observer, observer.call_ended)
    assert fits

    methods = [name for name in vars(protocol) if not name.startswith("_")]
    assert methods
    for name in methods:
        promised = inspect.signature(getattr(protocol, name)).parameters
        assert list(inspect.signature(getattr(WorkerObserver, name)).parameters) == list(promised), name


def test_success_is_counted_and_logged() -> None:
    """One request: its counters, the gauge in flight meanwhile, one line at the end."""
    seen = Seen("info")
    seen.observer.received(redelivered=False)
    assert seen.changed["in_flight_requests"] == 1.0
    seen.observer.call_ended("create", "200", 0.25, "cn-north-4")
    seen.observer.called(ORDER, "create", TaskCreated("task"), 1)
    seen.observer.published(SUCCEEDED_TYPE, 0.125)
    seen.observer.settled(settled("succeeded", "created", trace_id="0af7651916cd43dd8448eb211c80319c"))

    assert seen.changed == {
        "requests_received_total redelivered=false": 1.0,
        "dcs_calls_total operation=create region=cn-north-4 status=200": 1.0,
        "dcs_call_duration_seconds_count operation=create": 1.0,
        "dcs_call_duration_seconds_sum operation=create": 0.25,
        f"events_published_total type={SUCCEEDED_TYPE}": 1.0,
        f"event_publish_duration_seconds_count type={SUCCEEDED_TYPE}": 1.0,
        f"event_publish_duration_seconds_sum type={SUCCEEDED_TYPE}": 0.125,
        "deliveries_settled_total outcome=succeeded reason=created": 1.0,
        "requests_finished_total outcome=succeeded reason=created": 1.0,
        "request_duration_seconds_count outcome=succeeded": 1.0,
        "request_duration_seconds_sum outcome=succeeded": 0.5,
        "request_age_seconds_count outcome=succeeded": 1.0,
        "request_age_seconds_sum outcome=succeeded": 120.0,
    }
    line = {"level": "info", "event": "request.settled", "outcome": "succeeded", "reason": "created", **NAMED}
    counts = {"attempts": 2, "round": 1, "seconds": 0.5, "age": 120.0, "trace_id": "0af7651916cd43dd8448eb211c80319c"}
    assert seen.lines == [line | counts]


def test_parked_request_is_counted_by_reason() -> None:
    """A parked request appears in the metric that alerts use, and in its line."""
    seen = Seen("info")
    seen.observer.received(redelivered=True)
    seen.observer.published(FAILED_TYPE, 0.0)
    seen.observer.settled(settled("failed", "unresolved", parked=True))

    assert seen.changed["requests_received_total redelivered=true"] == 1.0
    assert seen.changed["parked_total reason=unresolved"] == 1.0
    assert seen.changed["deliveries_settled_total outcome=failed reason=unresolved"] == 1.0
    assert seen.lines[-1]["parked"] is True


def test_call_for_credentials_belongs_to_no_region() -> None:
    """IAM gives out tokens for every region."""
    seen = Seen()
    seen.observer.call_ended("token", "201", 0.25, None)
    assert seen.changed["dcs_calls_total operation=token region=none status=201"] == 1.0


def test_answer_from_memory_is_no_finished_request() -> None:
    """It is a delivery, and its line names it."""
    seen = Seen("info")
    for is_repeated in (False, True):
        seen.observer.received(redelivered=False)
        seen.observer.settled(settled("succeeded", "created", is_repeated=is_repeated))
    assert [line.get("repeated") for line in seen.lines] == [None, True]
    assert seen.changed["deliveries_settled_total outcome=succeeded reason=created"] == 2.0
    assert seen.changed["requests_finished_total outcome=succeeded reason=created"] == 1.0
    assert seen.changed["request_age_seconds_count outcome=succeeded"] == 1.0


@pytest.mark.parametrize(("outcome", "reason"), [("retried", "503"), ("retried", "settle"), ("returned", "stale")])
def test_retried_request_has_no_age(outcome: str, reason: str) -> None:
    """The age is observed at the final event only; a retried request is counted by outcome."""
    seen = Seen("info")
    seen.observer.received(redelivered=False)
    seen.observer.settled(settled(outcome, reason))

    assert seen.changed == {
        "requests_received_total redelivered=false": 1.0,
        f"deliveries_settled_total outcome={outcome} reason={reason}": 1.0,
        f"request_duration_seconds_count outcome={outcome}": 1.0,
        f"request_duration_seconds_sum outcome={outcome}": 0.5,
    }
    assert [(line["level"], line["outcome"], line["reason"]) for line in seen.lines] == [("info", outcome, reason)]


def test_invalid_message_is_logged_without_ids() -> None:
    """Fields that could not be read are missing in the line."""
    seen = Seen("info")
    seen.observer.settled(settled("failed", "invalid_request", migration=None, parked=True))

    assert seen.lines[0]["reason"] == "invalid_request"
    assert not seen.lines[0].keys() & NAMED.keys()


@pytest.mark.parametrize(
    ("ending", "result"),
    [
        (TaskFound("task"), "found"),
        (TaskNotFound(), "absent"),
        (SeveralTasks(("a", "b")), "several"),
        (ConflictingTask(("a",)), "found"),
        (fault(), "failed"),
    ],
)
def test_lookups_are_counted_by_result(ending: LookupResult | CallError, result: str) -> None:
    """Each lookup has one of four results."""
    seen = Seen("critical")
    seen.observer.called(ORDER, "find", ending, 1)

    assert seen.changed == {f"lookups_total result={result}": 1.0}


@pytest.mark.parametrize(
    ("ending", "level"),
    [
        (fault(), "warning"),
        (fault(Evidence.NEVER_SENT), "info"),
        (fault(Evidence.REFUSED, ErrorKind.REJECTED), "info"),
        (fault(Evidence.REFUSED, ErrorKind.THROTTLED), "debug"),
    ],
)
def test_log_level_follows_evidence(ending: CallError, level: str) -> None:
    """An ambiguous call is a warning, a clear refusal is info, throttling is debug."""
    seen = Seen()
    seen.observer.called(ORDER, "create", ending, 1)

    assert [(line["level"], line["event"]) for line in seen.lines] == [(level, "request.faulted")]
    assert seen.changed == {}


def test_failed_call_is_logged_with_all_fields() -> None:
    """Everything that identifies the call, with DCS's own texts."""
    seen = Seen()
    seen.observer.called(ORDER, "create", fault(), 3)
    said: dict[str, Any] = {"error_code": "DCS.5000", "error_msg": "busy", "dcs_request_id": "abc"}
    seen.observer.called(ORDER, "find", fault(status=CallStatus.ANSWERED, http_status=503, message="busy", **said), 1)

    line = {"level": "warning", "event": "request.faulted", **NAMED, "evidence": "ambiguous"}
    assert seen.lines == [
        {**line, "operation": "create", "attempt": 3, "label": "timeout", "message": "no answer within 30 s"},
        {**line, "operation": "find", "attempt": 1, "label": "503", "status": 503, **said},
    ]


def test_free_text_of_a_sender_is_not_logged() -> None:
    """Names and descriptions may hold anything."""
    seen = Seen()
    seen.observer.settled(settled("succeeded", "created"))
    seen.observer.called(ORDER, "create", fault(), 1)

    assert len(seen.lines) == 2
    assert "secret" not in json.dumps(seen.lines)


def test_defect_returns_delivery() -> None:
    """It is no longer in flight, is counted as returned, and is logged as an error."""
    seen = Seen("info")
    seen.observer.received(redelivered=False)
    seen.observer.failed(ValueError("a defect"))

    assert seen.changed == {
        "requests_received_total redelivered=false": 1.0,
        "deliveries_settled_total outcome=returned reason=defect": 1.0,
    }
    assert seen.lines == [{"level": "error", "event": "request.defect", "error": "ValueError: a defect"}]


def test_pause_reasons_are_independent() -> None:
    """Several reasons can hold at once, and each ends separately."""
    seen = Seen()
    told = []
    for reasons in ({"breaker"}, {"breaker", "credentials"}, {"credentials"}, set()):
        seen.observer.paused(reasons)
        told.append({name for name, value in seen.changed.items() if value})

    breaker, credentials = (f"consumption_paused reason={reason}" for reason in ("breaker", "credentials"))
    assert told == [{breaker}, {breaker, credentials}, {credentials}, set()]


def test_broker_connected_needs_both_connections() -> None:
    """One of the two connections is not enough."""
    seen = Seen()
    connected = []
    for told, link in (("up", "consumer"), ("up", "publisher"), ("down", "consumer"), ("up", "consumer")):
        if told == "up":
            seen.observer.link_up(link, "amqp://user:password@host:5672/")
        else:
            seen.observer.link_down(link, "the broker does not answer", 0.51234)
        connected.append(seen.changed.get("broker_connected", 0.0))

    assert connected == [0.0, 1.0, 0.0, 1.0]
    up = {"level": "info", "event": "broker.up", "broker": "amqp://user:***@host:5672/"}
    assert seen.lines[0] == up | {"link": "consumer"}
    down = {"level": "warning", "event": "broker.down", "link": "consumer", "wait": 0.512}
    assert seen.lines[2] == down | {"reason": "the broker does not answer"}
    assert repr(seen.observer) == "<WorkerObserver: links {'consumer': True, 'publisher': True}>"


def test_refused_reply_is_logged() -> None:
    """The line names the event, and nothing that the sender chose."""
    seen = Seen()
    seen.observer.reply_refused("id-1")
    assert seen.lines == [{"level": "warning", "event": "reply.refused", "event_id": "id-1"}]


def test_blocked_broker_is_reported() -> None:
    """In the metric while it lasts, in the log at both ends."""
    seen = Seen()
    seen.observer.blocked(True)
    assert seen.changed == {"broker_blocked": 1.0}
    seen.observer.blocked(False)

    assert seen.changed == {}
    assert [(line["level"], line["event"]) for line in seen.lines] == [
        ("warning", "broker.blocked"),
        ("info", "broker.unblocked"),
    ]


def test_gauges_show_last_state() -> None:
    """Limit, breaker and claims show the last reported state."""
    seen = Seen()
    seen.observer.limited(64)
    seen.observer.breaker("cn-north-4", 2)
    seen.observer.claims_available(True, "gone")

    assert seen.changed == {"concurrency_limit": 64.0, "breaker_state region=cn-north-4": 2.0, "claims_available": 1.0}
    seen.observer.breaker("cn-north-4", 0)
    seen.observer.claims_available(False, "gone")
    assert seen.changed == {"concurrency_limit": 64.0}


def test_claims_facts_without_claims_metric() -> None:
    """A fact about claims is accepted when the metric has no value."""
    seen = Seen(with_claims=False)
    seen.observer.claims_available(True, "gone")

    assert seen.changed == {}


def test_a_doubted_record_is_counted_and_logged() -> None:
    """With whose request it is."""
    seen = Seen()
    seen.observer.claims_record_doubted("p", "r-1")

    assert seen.changed == {"claims_records_doubted_total": 1.0}
    assert seen.lines == [
        {"level": "warning", "event": "claims.record_doubted", "project_id": "p", "request_id": "r-1"}
    ]


def test_note_is_logged() -> None:
    """Start and end of the worker, warnings of the configuration, unconfirmed publishes."""
    seen = Seen("info")
    seen.observer.note("info", "worker.ready", port=8000)
    seen.observer.note("debug", "worker.thought")
    seen.observer.unconfirmed("no confirm within 10 s")

    assert seen.lines == [
        {"level": "info", "event": "worker.ready", "port": 8000},
        {"level": "warning", "event": "publish.unconfirmed", "reason": "no confirm within 10 s"},
    ]


def test_success_is_not_logged_at_warning() -> None:
    """At level warning a success writes no line."""
    seen = Seen("warning")
    seen.observer.received(redelivered=False)
    seen.observer.settled(settled("succeeded", "created"))

    assert seen.lines == []
    assert seen.changed["deliveries_settled_total outcome=succeeded reason=created"] == 1.0
