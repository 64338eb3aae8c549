"""What the status page is told of the work: rates of the last minute, failures, faults, outcomes."""

from collections import Counter

import pytest

from schemas.envelope import Envelope
from schemas.request import Request, Task
from tests.fakes.clock import FakeClock
from worker.observe.recent_activity import (
    MAX_ERROR_CHARACTERS,
    MAX_FAILURES_KEPT,
    SLOT_SECONDS,
    RecentActivity,
    duration_class,
    quantile,
)
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence
from worker.policy.delivery_report import DeliveryFinished
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
    """Rates, number of failures and latency of the last minute, including the current slot."""
    for _ in range(120):
        log.settled(settled())
        log.call_ended(0.1)
    log.settled(settled("failed", "rejected"))
    assert read(log).figures["failed"] == "1"
    clock.now += SLOT_SECONDS
    figures = read(log).figures
    assert (figures["finished per second"], figures["failed"], figures["calls per second"]) == ("2.2", "1", "2.2")
    assert figures["DCS call latency, p95"] == "102 ms"  # exact to an eighth
    clock.now += 60
    assert list(read(log).figures.values()) == ["0.0", "0", "0.0", NOTHING]


def test_failure_has_last_error_of_its_request(log: RecentActivity) -> None:
    """Its ids, reason and the last error of its calls; another request's error is not shown."""
    log.call_failed(placed("other"), fault("timeout", message="no answer within 30 s"))
    log.call_failed(placed(), fault("500", error_msg="sorry"))
    log.call_failed(placed(), fault("400", error_code="DCS.4013", error_msg="The name is invalid.", message="not this"))
    log.settled(settled("failed", "rejected", parked=True))
    log.settled(settled("failed", "expired"))
    second, first = read(log).failures

    assert (first.at, first.reason, first.attempts, first.parked) == (1_000.0, "rejected", 2, True)
    assert (first.request_id, first.project_id, first.region) == ("r-1", "p-1", "cn-north-4")
    assert first.said == "400: DCS.4013 The name is invalid."
    assert (second.reason, second.said) == ("expired", "")


def test_invalid_message_fails_without_ids(log: RecentActivity) -> None:
    """Fields that could not be read are missing."""
    log.settled(settled("failed", "invalid_request", migration=None))
    (failure,) = read(log).failures
    assert (failure.request_id, failure.project_id, failure.region) == (None, None, None)


def test_only_the_last_failures_are_kept(log: RecentActivity) -> None:
    """The newest first; all of them are counted."""
    for number in range(MAX_FAILURES_KEPT + 5):
        log.settled(settled("failed", "rejected", migration=placed(f"r-{number}")))
    seen = read(log)
    assert [failure.request_id for failure in seen.failures] == [f"r-{n}" for n in range(MAX_FAILURES_KEPT + 4, 4, -1)]
    assert seen.outcomes == {("failed", "rejected"): MAX_FAILURES_KEPT + 5}


def test_outcomes_are_counted_since_start(log: RecentActivity) -> None:
    """By outcome and reason, the most frequent first; a defect is a return."""
    log.delivery_returned("defect")
    log.settled(settled("retried", "503"))
    log.settled(settled("retried", "503"))
    assert list(read(log).outcomes.items()) == [(("retried", "503"), 2), (("returned", "defect"), 1)]
    assert repr(log) == "<RecentActivity: 3 deliveries, 0 failures>"


def test_failed_calls_are_counted_by_label(log: RecentActivity, clock: FakeClock) -> None:
    """Count, time and text of the last one; the latest label first. Long texts are cut."""
    log.call_failed(placed(), fault("503", message="busy"))
    clock.now += 1
    log.call_failed(placed(), fault("503", error_code="DCS.5000", error_msg="x" * 1_000))
    clock.now += 1
    log.call_failed(placed(), fault("timeout", message="no answer"))
    latest, before = read(log).faults

    assert (latest.label, latest.count, latest.at, latest.said) == ("timeout", 1, 1_002.0, "no answer")
    assert (before.label, before.count, before.evidence) == ("503", 2, "ambiguous")
    assert before.said.startswith("DCS.5000 x")
    assert len(before.said) == MAX_ERROR_CHARACTERS


def test_error_texts_are_redacted(log: RecentActivity) -> None:
    """Secrets are removed from DCS's texts, and no text of the sender is shown."""
    log.call_failed(placed(), fault("401", error_msg="the token hunter2 is wrong"))
    log.settled(settled("failed", "unauthenticated"))
    seen = log.read(lambda text: text.replace("hunter2", "***"))

    assert seen.failures[0].said == "401: the token *** is wrong"
    assert seen.faults[0].said == "the token *** is wrong"
    assert "secret" not in repr(seen)


def test_open_errors_are_bounded(log: RecentActivity) -> None:
    """A request that met a defect leaves its last error behind; the number of these is bounded."""
    for number in range(2_000):
        log.call_failed(placed(f"r-{number}"), fault())
    log.settled(settled("failed", "exhausted", migration=placed("r-1999")))
    log.settled(settled("failed", "exhausted", migration=placed("r-3")))
    kept, lost_lines = read(log).failures

    assert (kept.said, lost_lines.said) == ("503", "")
    assert read(log).faults[0].count == 2_000
