"""The observer: what each fact does to the metrics and to the log."""

import inspect
import io
import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from schemas.envelope import Envelope
from schemas.event import FAILED_TYPE, SUCCEEDED_TYPE, Reason
from schemas.request import InvalidRequestError, Request, Sender, Task, Violation
from worker.dcs.http_client import OnCallEnd
from worker.observe.logging import Level, configure_logging
from worker.observe.metrics import Metrics
from worker.observe.observer import WorkerObserver
from worker.pipeline import final_events, ports
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
        logger = configure_logging(level, "json", self._stream)
        self.observer = WorkerObserver(self._metrics, logger, without_redis="every create is looked for")
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
    completed = final_events.succeeded(ORDER, ENVELOPE, TaskCreated("i-1"), "created", 120.0)
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    seen.observer.settled(settled("succeeded", "created", completed=completed, trace_id=trace_id))

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
    message = "Request r-1 succeeded (created): task i-1"
    line = {"level": "info", "event": "request.succeeded", "message": message, "reason": "created", **NAMED}
    counts = {"instance_id": "i-1", "create_calls": 2, "retry": 1, "duration_seconds": 0.5, "age_seconds": 120.0}
    assert seen.lines == [line | counts | {"trace_id": "0af7651916cd43dd8448eb211c80319c"}]


def test_parked_request_is_counted_by_reason() -> None:
    """A parked request appears in the metric that alerts use, and in its line."""
    seen = Seen("info")
    seen.observer.received(redelivered=True)
    seen.observer.published(FAILED_TYPE, 0.0)
    seen.observer.settled(settled("failed", "unresolved", parked=True, message_id="m-1"))

    assert seen.changed["requests_received_total redelivered=true"] == 1.0
    assert seen.changed["parked_total reason=unresolved"] == 1.0
    assert seen.changed["deliveries_settled_total outcome=failed reason=unresolved"] == 1.0
    (line,) = seen.lines
    assert (line["level"], line["event"], line["parked"]) == ("error", "request.failed", True)
    assert (line["message_id"], line["message"]) == ("m-1", "Request r-1 failed and is parked (unresolved): unresolved")


def test_failed_request_has_code_and_words_of_the_service() -> None:
    """A warning: the sender has the event, and nothing waits for an operator."""
    seen = Seen("warning")
    error = fault(
        Evidence.REFUSED, ErrorKind.REJECTED, http_status=400, error_code="DCS.4013", error_msg="Invalid vpc_id"
    )
    completed = final_events.failed(ORDER, ENVELOPE, Reason.REJECTED, 120.0, error=error)
    seen.observer.settled(settled("failed", "rejected", completed=completed, is_repeated=True))

    (line,) = seen.lines
    assert (line["level"], line["event"], line["error_code"], line["error"]) == (
        *("warning", "request.failed"),
        *("DCS.4013", "Invalid vpc_id"),
    )
    said_before = "answered from memory: DCS was not called"
    assert line["message"] == f"Request r-1 failed (rejected, {said_before}): Invalid vpc_id"
    assert line["repeated"] is True


def test_retried_request_says_how_long_it_waits() -> None:
    """At `info`: nothing has failed yet."""
    seen = Seen("info")
    seen.observer.settled(settled("retried", "503", retry_in_seconds=60.0))

    (line,) = seen.lines
    assert (line["level"], line["event"], line["retry_in_seconds"]) == ("info", "request.retried", 60.0)
    assert line["message"] == "Request r-1 waits 60 s in a retry queue (503)"


def test_flood_of_one_reason_and_code_is_summarised() -> None:
    """Level, reason and code as in the lines that were left out; another line in the flood is written."""
    seen = Seen("info")
    for _ in range(300):
        seen.observer.settled(settled("failed", "not_found", parked=True))
    seen.observer.settled(settled("failed", "conflict"))
    for _ in range(300):
        seen.observer.settled(settled("succeeded", "created"))
    before = seen.lines
    seen.observer.flush(is_last=True)
    (summary,) = seen.lines[len(before) :]

    assert Counter(line["reason"] for line in before) == {"not_found": 10, "conflict": 1, "created": 300}
    assert summary == {
        "level": "error",
        "event": "request.failed",
        "message": "and 290 more in 0 s (not_found, cn-north-4)",
        "left_out": 290,
        "reason": "not_found",
        "region": "cn-north-4",
    }


def test_every_line_is_written_at_debug() -> None:
    """Nothing is summarised for an engineer who looks for one request."""
    seen = Seen("debug")
    for _ in range(50):
        seen.observer.settled(settled("failed", "not_found", parked=True))
        seen.observer.called(ORDER, "create", fault(), 1)

    assert len(seen.lines) == 100


def test_call_for_credentials_belongs_to_no_region() -> None:
    """IAM gives out tokens for every region."""
    seen = Seen()
    seen.observer.call_ended("token", "201", 0.25, None)
    assert seen.changed["dcs_calls_total operation=token region=none status=201"] == 1.0


def test_answer_from_memory_is_no_finished_request() -> None:
    """It is a delivery, and its line names it. Where a delivery was lost before, nothing was counted for it."""
    seen = Seen("info")
    for is_repeated, interruptions in ((False, 0), (True, 0), (True, 1)):
        seen.observer.received(redelivered=False)
        envelope = replace(ENVELOPE, interruptions=interruptions)
        seen.observer.settled(settled("succeeded", "created", is_repeated=is_repeated, envelope=envelope))
    assert [line.get("repeated") for line in seen.lines] == [None, True, True]
    assert seen.changed["deliveries_settled_total outcome=succeeded reason=created"] == 3.0
    assert seen.changed["requests_finished_total outcome=succeeded reason=created"] == 2.0
    assert seen.changed["request_age_seconds_count outcome=succeeded"] == 2.0


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
    assert [(line["level"], line["event"], line["reason"]) for line in seen.lines] == [
        ("info", f"request.{outcome}", reason)
    ]


def test_invalid_message_is_logged_without_ids() -> None:
    """Fields that could not be read are missing in the line; it has the broken rules, and which message it is."""
    seen = Seen("info")
    violations = (Violation(field="body", message="must be a JSON object"),)
    error = InvalidRequestError(violations, Sender(), is_addressed=False)
    completed = final_events.invalid(error, ENVELOPE, b"[]", 120.0)
    fact = settled("failed", "invalid_request", migration=None, parked=True, completed=completed, message_id="m-1")
    seen.observer.settled(fact)

    (line,) = seen.lines
    assert (line["level"], line["reason"], line["message_id"]) == ("error", "invalid_request", "m-1")
    assert line["violations"] == ["body: must be a JSON object"]
    assert line["message"].startswith("Message m-1 failed and is parked (invalid_request): the message is no valid")
    assert not line.keys() & NAMED.keys()


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
        (fault(Evidence.REFUSED, ErrorKind.UNAUTHENTICATED), "warning"),
        (fault(Evidence.REFUSED, ErrorKind.NOT_FOUND), "warning"),
        (fault(Evidence.REFUSED, ErrorKind.THROTTLED), "debug"),
    ],
)
def test_log_level_follows_evidence(ending: CallError, level: str) -> None:
    """An ambiguous call and one that an operator has to help are warnings, a refusal is info, throttling is debug."""
    seen = Seen()
    seen.observer.called(ORDER, "create", ending, 1)

    assert [(line["level"], line["event"]) for line in seen.lines] == [(level, "dcs.call_failed")]
    assert seen.changed == {}


def test_failed_call_is_logged_with_all_fields() -> None:
    """Everything that identifies the call, with DCS's own texts."""
    seen = Seen()
    seen.observer.called(ORDER, "create", fault(), 3)
    said: dict[str, Any] = {"error_code": "DCS.5000", "error_msg": "busy", "dcs_request_id": "abc"}
    seen.observer.called(ORDER, "find", fault(status=CallStatus.ANSWERED, http_status=503, message="busy", **said), 1)

    line = {"level": "warning", "event": "dcs.call_failed", **NAMED, "result": "unknown"}
    words = "timeout no answer within 30 s", "503 DCS.5000 busy"
    sentences = [
        f"The {call} for request r-1 failed ({found}); result: unknown"
        for call, found in zip(("create", "lookup"), words, strict=True)
    ]
    create = {"operation": "create", "attempt": 3, "status": "timeout", "error": "no answer within 30 s"}
    lookup = {"operation": "lookup", "attempt": 1, "status": "503", "error_code": "DCS.5000", "error": "busy"}
    assert seen.lines == [
        {**line, "message": sentences[0], **create},
        {**line, "message": sentences[1], **lookup, "dcs_request_id": "abc"},
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
    (line,) = seen.lines
    assert (line["level"], line["event"], line["error"]) == ("error", "request.defect", "ValueError: a defect")


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
            seen.observer.link_up(link, "host:5672")
        else:
            seen.observer.link_down(link, "host:5672", "the broker does not answer", 0.51234)
        connected.append(seen.changed.get("broker_connected", 0.0))

    assert connected == [0.0, 1.0, 0.0, 1.0]
    where = {"link": "consumer", "broker": "host:5672"}
    up = {"level": "info", "event": "broker.connected", "message": "The consumer is connected to host:5672"}
    assert seen.lines[0] == up | where
    message = "The consumer is not connected to host:5672: the broker does not answer; next attempt in 0.5 s"
    down = {"level": "warning", "event": "broker.disconnected", "message": message, "retry_in_seconds": 0.512}
    assert seen.lines[2] == down | where | {"reason": "the broker does not answer"}
    assert repr(seen.observer) == "<WorkerObserver: links {'consumer': True, 'publisher': True}>"


def test_refused_reply_is_logged() -> None:
    """The line names the event, and nothing that the sender chose."""
    seen = Seen()
    seen.observer.reply_refused("id-1")
    (line,) = seen.lines
    assert (line["level"], line["event"], line["event_id"]) == ("warning", "reply.refused", "id-1")


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


def test_deleted_queues_are_an_error_with_what_to_do() -> None:
    """By name, in the sentence and in a field."""
    seen = Seen()
    seen.observer.queues_missing(["a", "b"])
    (line,) = seen.lines
    assert (line["level"], line["event"], line["queues"]) == ("error", "topology.missing", ["a", "b"])
    assert line["message"].startswith("Queues were deleted with their messages: a, b; ")
    assert "Run dcs-worker topology check" in line["message"]


def test_gauges_show_last_state() -> None:
    """Limit, breaker and claims show the last reported state."""
    seen = Seen()
    seen.observer.limited(64)
    seen.observer.breaker("cn-north-4", 2)
    seen.observer.claims_available(True, "gone")
    seen.observer.claims_memory_used(0.25)

    shown = {"concurrency_limit": 64.0, "breaker_state region=cn-north-4": 2.0, "claims_available": 1.0}
    assert seen.changed == shown | {"claims_memory_used_ratio": 0.25}
    seen.observer.breaker("cn-north-4", 0)
    seen.observer.claims_available(False, "gone")
    seen.observer.claims_memory_used(None)
    assert seen.changed == {"concurrency_limit": 64.0}


def test_claims_facts_without_claims_metric() -> None:
    """A fact about claims is accepted when the metric has no value."""
    seen = Seen(with_claims=False)
    seen.observer.claims_available(True, "gone")

    assert seen.changed == {}


@pytest.mark.parametrize(
    ("state", "value", "level", "event"),
    [("kept", 1.0, "info", "marker.kept"), ("lost: 40 of 60 characters are listed", 0.0, "warning", "marker.lost")],
)
def test_marker_is_one_line_and_one_series(state: str, value: float, level: str, event: str) -> None:
    """The series is absent until it is known; the line of a lost one says what to do, and names the task."""
    seen = Seen()
    seen.observer.marker_checked(ORDER, "i-1", state)

    assert seen.changed == {"marker_kept region=cn-north-4": value}
    (line,) = seen.lines
    assert (line["level"], line["event"], line["instance_id"]) == (level, event, "i-1")
    assert state in line["message"]
    assert ("shorter descriptions" in line["message"]) is (level == "warning")


def test_a_doubted_record_is_counted_and_logged() -> None:
    """With whose request it is."""
    seen = Seen()
    seen.observer.claims_record_doubted("p", "r-1")

    assert seen.changed == {"claims_records_doubted_total": 1.0}
    (line,) = seen.lines
    assert (line["level"], line["event"], line["project_id"], line["request_id"]) == (
        *("warning", "claims.record_doubted"),
        *("p", "r-1"),
    )


def test_unavailable_redis_is_logged_with_what_replaces_it() -> None:
    """Unavailable, available, and a Redis that lost its records: what it means for requests."""
    seen = Seen()
    seen.observer.claims_available(False, "connection refused")
    seen.observer.claims_available(True, "Redis answers")
    seen.observer.claims_doubted(600.0)

    assert [(line["level"], line["event"]) for line in seen.lines] == [
        ("warning", "redis.unavailable"),
        ("info", "redis.available"),
        ("warning", "redis.data_lost"),
    ]
    assert seen.lines[0]["message"] == "Redis is unavailable: connection refused; meanwhile: every create is looked for"
    assert seen.lines[2]["duration_seconds"] == 600.0


def test_worker_is_ready_once_both_connections_work() -> None:
    """One line, with what it runs with, however often connections are lost later."""
    seen = Seen("info")
    seen.observer.link_up("publisher", "host:5672")
    seen.observer.started(port=8000)
    assert [line["event"] for line in seen.lines] == ["broker.connected"]
    for _ in range(2):
        seen.observer.link_up("consumer", "host:5672")
        seen.observer.link_down("consumer", "host:5672", "closed", 1.0)

    (ready,) = [line for line in seen.lines if line["event"] == "worker.ready"]
    assert (ready["level"], ready["port"]) == ("info", 8000)


@pytest.mark.parametrize(
    ("status", "level"),
    [
        ("ok", "info"),
        ("starting", "info"),
        ("draining", "info"),
        ("degraded", "warning"),
        ("paused", "warning"),
        ("disconnected", "warning"),
        ("failing", "error"),
    ],
)
def test_change_of_health_is_one_line_and_one_series(status: str, level: str) -> None:
    """Its level says whether somebody has to act now; the metric is 1 for this state alone."""
    seen = Seen()
    seen.observer.health_changed(status, "300 of 300 calls were answered with 404")

    (line,) = seen.lines
    assert (line["level"], line["event"], line["status"]) == (level, "health.changed", status)
    assert line["message"] == f"Health is {status} from now on: 300 of 300 calls were answered with 404"
    changed = (
        {} if status == "starting" else {"health_status status=starting": 0.0, f"health_status status={status}": 1.0}
    )
    assert seen.changed == changed


def test_note_is_logged() -> None:
    """Start and end of the worker, warnings of the configuration, unconfirmed publishes."""
    seen = Seen("info")
    seen.observer.note("info", "worker.ready", port=8000)
    seen.observer.note("debug", "worker.thought")
    seen.observer.unconfirmed("no confirm within 10 s")

    assert seen.lines == [
        {"level": "info", "event": "worker.ready", "port": 8000},
        {
            "level": "warning",
            "event": "publish.unconfirmed",
            "reason": "no confirm within 10 s",
            "message": "Not confirmed by the broker: no confirm within 10 s",
        },
    ]


def test_success_is_not_logged_at_warning() -> None:
    """At level warning a success writes no line."""
    seen = Seen("warning")
    seen.observer.received(redelivered=False)
    seen.observer.settled(settled("succeeded", "created"))

    assert seen.lines == []
    assert seen.changed["deliveries_settled_total outcome=succeeded reason=created"] == 1.0
