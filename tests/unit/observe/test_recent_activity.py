"""What the status page is told of the work: rates of the last minute, failures, faults, outcomes."""

from collections import Counter

import pytest

from schemas.envelope import Envelope
from schemas.request import Request, Task
from tests.fakes.clock import FakeClock
from worker.observe.recent_activity import (
    MAX_ERROR_CHARACTERS,
    MAX_GROUPS_KEPT,
    RecentActivity,
    duration_class,
    quantile,
)
from worker.policy.call_result import (
    CallError,
    CallStatus,
    ErrorKind,
    Evidence,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.health import RecentCalls, RecentOutcomes
from worker.policy.migration_request import MigrationRequest, migration
from worker.policy.status import NOTHING, Activity

TASK = Task(name="secret-name", description="secret text", vpc_id="v", subnet_id="s", security_group_id="g")


def placed(request_id: str = "r-1") -> MigrationRequest:
    """An order."""
    request = Request(request_id=request_id, project_id="p-1", task=TASK)
    return migration(request, default_region="cn-north-4", with_marker=True)


def settled(outcome: str = "succeeded", reason: str = "created", **more: object) -> DeliveryFinished:
    """A delivery that was over after a quarter of a second."""
    envelope = Envelope(2, 1, 3, 0, 0, 0.0, None, is_repeat=False, is_redelivered=False)
    known: dict[str, object] = {
        "migration": placed(),
        "envelope": envelope,
        "seconds": 0.25,
        "age": 1.0,
        "parked": False,
    }
    return DeliveryFinished(outcome, reason, **(known | more))  # type: ignore[arg-type]  # as the test says


def fault(label: str = "503", **more: object) -> CallError:
    """A call without success."""
    status = CallStatus.ANSWERED if label.isdigit() else CallStatus(label)
    http_status = int(label) if label.isdigit() else None
    return CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, status, http_status=http_status, **more)  # type: ignore[arg-type]  # as the test says


@pytest.fixture
def clock() -> FakeClock:
    """The time."""
    return FakeClock(1_000.0)


@pytest.fixture
def log(clock: FakeClock) -> RecentActivity:
    """A log that nothing was told."""
    return RecentActivity(clock=clock, monotonic_clock=clock)


def read(log: RecentActivity) -> Activity:
    """What it knows."""
    return log.read(str)


@pytest.mark.parametrize("seconds", [1e-5, 0.00123, 0.25, 0.999, 1.0, 29.9, 300.0, 86_400.0])
def test_quantile_is_exact_to_an_eighth(seconds: float) -> None:
    """Within an eighth, whatever its size; zero is near zero."""
    assert quantile([Counter([duration_class(seconds)])], 0.5) == pytest.approx(seconds, rel=0.15)
    assert quantile([], 0.5) is None
    assert (quantile([Counter([duration_class(0.0)])], 0.5) or 1.0) < 1e-5


def test_figures_cover_last_minute(log: RecentActivity, clock: FakeClock) -> None:
    """Rates, number of failures and latency of the last minute, including the current second; no repeats."""
    for _ in range(118):
        log.settled(settled())
        log.call_ended(0.1)
    log.settled(settled(is_repeated=True))
    log.settled(settled("failed", "rejected"))
    log.settled(settled("retried", "503"))
    assert read(log).figures["failed"] == "1"
    clock.now += 5
    figures = read(log).figures
    assert (figures["succeeded per second"], figures["failed"], figures["calls per second"]) == ("2.0", "1", "2.0")
    assert figures["DCS call latency, p95"] == "102 ms"  # exact to an eighth
    clock.now += 60
    assert list(read(log).figures.values()) == ["0.0", "0", "0.0", NOTHING]


def test_repeat_after_lost_delivery_counts(log: RecentActivity) -> None:
    """The lost one was not counted."""
    for interruptions in (0, 1):
        envelope = Envelope(2, 1, 3, interruptions, 0, 0.0, None, is_repeat=True, is_redelivered=bool(interruptions))
        log.settled(settled("failed", "rejected", is_repeated=True, envelope=envelope))
    assert read(log).figures["failed"] == "1"


def test_failures_are_grouped_by_reason_and_code(log: RecentActivity, clock: FakeClock) -> None:
    """Count, first and last time, the last request and its last error; another request's error is not shown."""
    log.called(placed("other"), "create", fault("timeout", message="no answer within 30 s"))
    log.called(placed("r-0"), "create", fault("400", error_code="DCS.4013", error_msg="The VPC is invalid."))
    log.settled(settled("failed", "rejected", migration=placed("r-0")))
    clock.now += 5
    log.called(placed(), "create", fault("500", error_msg="sorry"))
    log.called(placed(), "create", fault("400", error_code="DCS.4013", error_msg="The name is invalid.", message="no"))
    log.settled(settled("failed", "rejected"))
    log.settled(settled("failed", "expired"))
    log.settled(settled("failed", "rejected", is_repeated=True))
    second, first = read(log).failures

    assert (first.reason, first.code, first.count, first.first, first.last) == ("rejected", "DCS.4013", 2, 1_000, 1_005)
    assert (first.request_id, first.project_id, first.region, first.is_parked) == ("r-1", "p-1", "cn-north-4", False)
    assert (first.said, first.command) == ("DCS.4013 The name is invalid.", "dcs-worker explain r-1")
    assert (second.reason, second.code, second.said) == ("expired", "", "")


def test_command_of_a_parked_group_lists_it(log: RecentActivity) -> None:
    """By reason and code of the answer; what a service wrote is quoted, for it is pasted into a shell."""
    log.called(placed(), "create", fault("404", error_code="A;rm -rf"))
    log.settled(settled("failed", "not_found", parked=True))
    log.called(placed(), "create", fault("timeout"))
    log.settled(settled("failed", "exhausted", parked=True))
    exhausted, not_found = read(log).failures

    assert not_found.command == "dcs-worker parked list --reason not_found --error-code 'A;rm -rf'"
    assert (exhausted.code, exhausted.command) == ("timeout", "dcs-worker parked list --reason exhausted")


def test_invalid_message_fails_without_ids(log: RecentActivity) -> None:
    """Fields that could not be read are missing, and there is no command to paste."""
    log.settled(settled("failed", "invalid_request", migration=None))
    (failure,) = read(log).failures
    assert (failure.request_id, failure.project_id, failure.region, failure.command) == (None, None, None, "")


def test_number_of_groups_is_bounded(log: RecentActivity) -> None:
    """The latest first; a service that invents codes does not fill the memory."""
    for number in range(MAX_GROUPS_KEPT + 5):
        log.called(placed(), "create", fault("400", error_code=f"X.{number}"))
        log.settled(settled("failed", "rejected"))
    seen = read(log)
    assert [group.code for group in seen.failures] == [f"X.{n}" for n in range(MAX_GROUPS_KEPT + 4, 4, -1)]
    assert seen.outcomes == {("failed", "rejected"): MAX_GROUPS_KEPT + 5}
    assert log.outcomes().failed == MAX_GROUPS_KEPT + 5


def test_judged_outcomes_of_the_last_minute(log: RecentActivity, clock: FakeClock) -> None:
    """Without repeats, retries and faults of senders; with the most frequent failure and its error."""
    assert log.outcomes() == RecentOutcomes()
    for _ in range(3):
        log.settled(settled())
        log.called(placed(), "create", fault("400", error_code="DCS.4013"))
        log.settled(settled("failed", "rejected"))
    for reason in ("invalid_request", "conflict", "expired", "poison"):
        log.settled(settled("failed", reason))
    log.settled(settled(is_repeated=True))
    log.settled(settled("retried", "503"))
    outcomes = log.outcomes()

    assert (outcomes.succeeded, outcomes.failed, outcomes.reason, outcomes.count) == (3, 4, "rejected", 3)
    assert (outcomes.region, outcomes.error) == ("cn-north-4", fault("400", error_code="DCS.4013"))
    clock.now += 59.9
    assert log.outcomes() == outcomes
    clock.now += 1.1
    assert log.outcomes() == RecentOutcomes()


def test_calls_of_the_last_minute(log: RecentActivity, clock: FakeClock) -> None:
    """By region and operation; different requests of failed calls; not those that were abandoned here."""
    for number in range(5):
        log.called(placed(f"r-{number % 2}"), "create", fault("503"))
        log.called(placed(f"r-{number % 2}"), "find", TaskNotFound())
    log.called(placed(), "create", fault("stale"))
    creates = RecentCalls("cn-north-4", "create calls", 5, 5, 2, fault("503"))
    assert log.calls() == ([creates, RecentCalls("cn-north-4", "lookups", 5, 0, 0)], False)
    clock.now += 30
    log.called(placed(), "create", TaskCreated("i"))
    assert (log.calls()[0][0].count, log.calls()[1]) == (6, True)
    clock.now += 31
    assert log.calls() == ([RecentCalls("cn-north-4", "create calls", 1, 0, 0)], True)
    clock.now += 60
    log.called(placed(), "find", TaskFound("i"))
    assert log.calls() == ([RecentCalls("cn-north-4", "lookups", 1, 0, 0)], True)


def test_parked_requests_of_the_last_hour(log: RecentActivity, clock: FakeClock) -> None:
    """Those that this replica parked, without repeats."""
    for _ in range(3):
        log.settled(settled("failed", "exhausted", parked=True))
    log.settled(settled("failed", "exhausted", parked=True, is_repeated=True))
    log.settled(settled("failed", "rejected"))
    clock.now += 3_500
    assert log.parked_last_hour() == 3
    clock.now += 160
    assert log.parked_last_hour() == 0


def test_outcomes_are_counted_since_start(log: RecentActivity) -> None:
    """By outcome and reason, the most frequent first; a defect is a return."""
    log.delivery_returned("defect")
    log.settled(settled("retried", "503"))
    log.settled(settled("retried", "503"))
    assert list(read(log).outcomes.items()) == [(("retried", "503"), 2), (("returned", "defect"), 1)]
    assert repr(log) == "<RecentActivity: 3 deliveries, 0 kinds of failures>"


def test_failed_calls_are_counted_by_label(log: RecentActivity, clock: FakeClock) -> None:
    """Count, time and text of the last one; the latest label first. Long texts are cut."""
    log.called(placed(), "create", fault("503", message="busy"))
    clock.now += 1
    log.called(placed(), "create", fault("503", error_code="DCS.5000", error_msg="x" * 1_000))
    clock.now += 1
    log.called(placed(), "create", fault("timeout", message="no answer"))
    latest, before = read(log).faults

    assert (latest.label, latest.count, latest.at, latest.said) == ("timeout", 1, 1_002.0, "no answer")
    assert (before.label, before.count, before.evidence) == ("503", 2, "ambiguous")
    assert before.said.startswith("DCS.5000 x")
    assert len(before.said) == MAX_ERROR_CHARACTERS


def test_error_texts_are_redacted(log: RecentActivity) -> None:
    """Secrets are removed from DCS's texts, and no text of the sender is shown."""
    log.called(placed(), "create", fault("401", error_msg="the token hunter2 is wrong"))
    log.settled(settled("failed", "unauthenticated"))
    seen = log.read(lambda text: text.replace("hunter2", "***"))

    assert seen.failures[0].said == "the token *** is wrong"
    assert seen.faults[0].said == "the token *** is wrong"
    assert "secret" not in repr(seen)


def test_open_errors_are_bounded(log: RecentActivity) -> None:
    """A request that met a defect leaves its last error behind; the number of these is bounded."""
    for number in range(2_000):
        log.called(placed(f"r-{number}"), "create", fault())
    log.settled(settled("failed", "exhausted", migration=placed("r-1999")))
    log.settled(settled("failed", "exhausted", migration=placed("r-3")))
    kept, lost = read(log).failures

    assert (kept.request_id, kept.code, lost.request_id, lost.code) == ("r-3", "503", "r-1999", "")
    assert read(log).faults[0].count == 2_000
