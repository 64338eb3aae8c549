"""Health of a replica: which status holds, what its sentence says, and when it is left."""

import re
from dataclasses import replace

import pytest

from worker.policy.call_result import CallError, CallStatus, Condition, ErrorKind, Evidence
from worker.policy.health import (
    IF_IT_LASTS,
    MEANINGS,
    HealthStatus,
    HealthTracker,
    Observed,
    RecentCalls,
    RecentOutcomes,
    StoppedRegion,
    conditions,
    is_judged,
    remedy,
)

WRONG_ENDPOINT = CallError(
    Evidence.REFUSED, ErrorKind.NOT_FOUND, CallStatus.ANSWERED, http_status=404, error_code="APIGW.0101"
)
REJECTED = CallError(Evidence.REFUSED, ErrorKind.REJECTED, CallStatus.ANSWERED, http_status=400, error_code="DCS.4013")
TIMEOUT = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT, "no answer within 30 s")
ENDPOINT_HELD = StoppedRegion("cn-north-4", True, 12.4, 3.0, "404 APIGW.0101")
BREAKER_OPEN = StoppedRegion("cn-north-4", False, 12.4, 3.0, "503 APIGW.0601")
DISCONNECTED = Observed(disconnected="Cannot connect to broker-1:5672: connection refused.")
DRAINING, STARTING, FAILING, PAUSED, DEGRADED, OK = (
    *(HealthStatus.DRAINING, HealthStatus.STARTING, HealthStatus.FAILING),
    *(HealthStatus.PAUSED, HealthStatus.DEGRADED, HealthStatus.OK),
)


def creates(count: int, failed: int, error: CallError | None = REJECTED, **more: object) -> RecentCalls:
    """Create calls of the last minute, each for another request."""
    return replace(RecentCalls("cn-north-4", "create calls", count, failed, failed, error), **more)  # type: ignore[arg-type]  # as the test says


def status(seen: Observed) -> HealthStatus:
    """The status of a replica that was just started."""
    return HealthTracker().judge(seen, 0.0).status


def reason(seen: Observed) -> str:
    """What is said of it."""
    return HealthTracker().judge(seen, 0.0).reason


def test_status_is_the_first_condition_that_holds() -> None:
    """Each condition hides those behind it; `ok` is what is left."""
    seen = Observed(
        is_draining=True,
        has_started=False,
        disconnected="The broker blocks publishing.",
        credentials="401 DCS.1001",
        paused=("Retry queues refuse copies: a.",),
        claims_away="continues as without claims",
    )
    found = [status(seen)]
    for cured in (
        {"is_draining": False},
        {"has_started": True},
        {"disconnected": ""},
        {"credentials": ""},
        {"paused": ()},
        {"claims_away": ""},
    ):
        seen = replace(seen, **cured)
        found.append(status(seen))

    assert found == list(HealthStatus)
    assert [name for name in HealthStatus if not name.is_ready] == found[:3]
    assert list(MEANINGS) == found


def test_wrong_endpoint_is_named_with_count_error_and_remedy() -> None:
    """What, how much, which error, what to do; once no call is made any more, since when."""
    held = Observed(regions=(ENDPOINT_HELD,), calls=(creates(300, 300, WRONG_ENDPOINT),))
    assert reason(held) == (
        "cn-north-4: 300 of 300 create calls in the last minute answered 404 APIGW.0101. Check WORKER_DCS_ENDPOINTS."
    )
    assert reason(replace(held, calls=())) == (
        "cn-north-4: DCS has refused every call for 12 s: 404 APIGW.0101. Check WORKER_DCS_ENDPOINTS."
    )
    assert (status(held), status(replace(held, calls=()))) == (FAILING, FAILING)


def test_one_refused_region_of_several_degrades() -> None:
    """While another region was called in the last minute; else every called region is refused."""
    elsewhere = creates(1, 0, None, region="eu-west-1")
    assert status(Observed(regions=(ENDPOINT_HELD,), calls=(elsewhere,))) is DEGRADED
    assert "Check WORKER_DCS_ENDPOINTS." in reason(Observed(regions=(ENDPOINT_HELD,), calls=(elsewhere,)))
    assert status(Observed(regions=(ENDPOINT_HELD,))) is FAILING


def test_refused_credentials_fail() -> None:
    """Also if all else is fine."""
    said = reason(Observed(credentials="401 DCS.1001: Invalid token", outcomes=RecentOutcomes(100, 0)))
    assert said.startswith("The credentials are refused for every call: 401 DCS.1001: Invalid token. Replace the")
    locked = replace(REJECTED, kind=ErrorKind.UNAUTHENTICATED, condition=Condition.KEY_LOCKED)
    said = reason(Observed(credentials="401 APIGW.0301: locked", credentials_error=locked))
    assert "locked. Stop the program that signs" in said


@pytest.mark.parametrize(
    ("succeeded", "failed", "expected"),
    [(0, 4, OK), (0, 5, FAILING), (2, 3, FAILING), (3, 3, OK), (100, 101, FAILING), (101, 100, OK)],
)
def test_majority_of_failed_outcomes_fails(succeeded: int, failed: int, expected: HealthStatus) -> None:
    """More than half of at least five."""
    assert status(Observed(outcomes=RecentOutcomes(succeeded, failed, "rejected", failed))) is expected


def test_failed_outcomes_are_named_with_their_most_frequent_error() -> None:
    """Region, share, reason, error and remedy; without an error, where the requests are."""
    outcomes = RecentOutcomes(20, 400, "rejected", 398, "cn-north-4", REJECTED)
    assert reason(Observed(outcomes=outcomes)) == (
        "cn-north-4: 400 of 420 requests in the last minute failed, 398 of them as rejected (400 DCS.4013). "
        "The senders must correct their requests."
    )
    assert reason(Observed(outcomes=RecentOutcomes(0, 5, "poison", 5))) == (
        "5 of 5 requests in the last minute failed, 5 of them as poison. "
        "List the parked requests with: dcs-worker parked list."
    )


@pytest.mark.parametrize(
    ("reason_", "is_repeated", "expected"),
    [
        *(("rejected", False, True), ("exhausted", False, True), ("created", False, True), ("created", True, False)),
        *(("invalid_request", False, False), ("conflict", False, False), ("expired", False, False)),
    ],
)
def test_failures_of_senders_and_repeats_are_not_judged(reason_: str, is_repeated: bool, expected: bool) -> None:
    """They say nothing about the worker and DCS."""
    assert is_judged(reason_, is_repeated=is_repeated) is expected


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (Observed(calls=(creates(5, 5),)), FAILING),
        (Observed(calls=(creates(4, 4),)), OK),
        (Observed(calls=(creates(5, 5, requests=2),)), OK),
        (Observed(calls=(creates(6, 5),)), OK),
        (Observed(calls=(creates(5, 5),), is_breaker_closed=False), OK),
        (Observed(calls=(creates(5, 5),), has_tasks=True), OK),
        (Observed(calls=(creates(5, 5), creates(9, 0, None, operation="lookups"))), FAILING),
        (Observed(calls=(creates(5, 5), creates(1, 0, None, region="eu-west-1"))), OK),
        (Observed(calls=(creates(3, 3), creates(2, 2, region="eu-west-1"))), FAILING),
    ],
)
def test_calls_that_all_fail_are_failing(seen: Observed, expected: HealthStatus) -> None:
    """Five of one operation, of three requests, in all regions; but not in an outage that the breaker handles."""
    assert status(seen) is expected


def test_failed_calls_are_named_with_what_came_instead_of_an_answer() -> None:
    """A time-out is no answer; the region with the most failed calls is named."""
    seen = Observed(calls=(creates(3, 3, TIMEOUT), creates(9, 9, TIMEOUT, region="eu-west-1")))
    assert reason(seen) == (
        "eu-west-1: 9 of 9 create calls in the last minute failed: no answer within 30 s. "
        "Run dcs-worker doctor; if it finds nothing, wait for DCS."
    )
    assert (
        reason(Observed(calls=(creates(9, 9, None),)))
        == "cn-north-4: 9 of 9 create calls in the last minute failed. Run dcs-worker doctor."
    )


def test_open_breaker_pauses_or_degrades() -> None:
    """It pauses when nothing can be consumed, and degrades when another region works; since when and until when."""
    said = (
        "cn-north-4: DCS has been failing for 12 s (503 APIGW.0601); next probe in 3.0 s. "
        "Run dcs-worker doctor; if it finds nothing, wait for DCS."
    )
    seen = Observed(regions=(BREAKER_OPEN,), is_paused_by_breaker=True)
    assert (status(seen), reason(seen)) == (PAUSED, said)
    assert (status(Observed(regions=(BREAKER_OPEN,))), reason(Observed(regions=(BREAKER_OPEN,)))) == (DEGRADED, said)


def test_degraded_names_everything_that_degrades() -> None:
    """Projects, a few of them by name; Redis; parked requests and how to see them."""
    projects = [f"p{number} (quota)" for number in range(5)]
    away = Observed(claims_away="continues", claims_error="no route.")
    assert reason(replace(away, projects=projects, missing_queues=("a", "b"), parked=1_200)) == (
        "Paused projects: p0 (quota); p1 (quota); p2 (quota); and 2 more. "
        "Check their quotas, and the worker's rights in them. "
        "Redis is unreachable (no route); meanwhile: continues. Restore Redis (WORKER_CLAIMS_URL). "
        "Queues do not exist: a, b. Run dcs-worker topology apply as a user who may. "
        "Requests parked in the last hour: 1,200. List them with: dcs-worker parked list."
    )


@pytest.mark.parametrize(
    "seen",
    [
        Observed(is_draining=True),
        Observed(has_started=False),
        Observed(credentials="401 DCS.1001: Invalid token"),
        Observed(regions=(ENDPOINT_HELD,)),
        Observed(regions=(BREAKER_OPEN,)),
        Observed(regions=(BREAKER_OPEN,), is_paused_by_breaker=True),
        Observed(outcomes=RecentOutcomes(0, 5, "rejected", 5, "cn-north-4", REJECTED)),
        Observed(outcomes=RecentOutcomes(0, 5, "poison", 5)),
        Observed(calls=(creates(9, 9, TIMEOUT),)),
        Observed(calls=(creates(9, 9, None),)),
        Observed(projects=["p0 (quota)"]),
        Observed(claims_away="continues"),
        Observed(missing_queues=["q"]),
        Observed(parked=1),
    ],
)
def test_every_reason_ends_with_what_to_do(seen: Observed) -> None:
    """One sentence with a verb; also if it is nothing."""
    _, _, last = reason(seen).rpartition(". ")
    verbs = "Nothing|If this lasts|Replace|Check|Run|Restore|List|The senders must"
    assert re.match(f"({verbs}) .+[.]$", last), last


def test_start_says_what_it_waits_for() -> None:
    """The broker, if it is away."""
    assert reason(Observed(has_started=False)) == f"Not consuming yet. {IF_IT_LASTS}"
    assert reason(replace(DISCONNECTED, has_started=False)) == f"Not consuming yet. {DISCONNECTED.disconnected}"


def test_failing_that_became_a_pause_is_no_recovery() -> None:
    """The breaker opened: the status stays for its time, the sentence begins with what holds now."""
    tracker = HealthTracker()
    tracker.judge(Observed(outcomes=RecentOutcomes(0, 5, "rejected", 5)), 0.0)
    health = tracker.judge(Observed(regions=(BREAKER_OPEN,), is_paused_by_breaker=True), 7.0)
    assert health.status is FAILING
    assert health.reason.startswith("cn-north-4: DCS has been failing for 12 s (503 APIGW.0601)")
    assert " 7 s before: 5 of 5 " in health.reason


def test_sticky_status_is_left_after_30_seconds_without_its_condition() -> None:
    """Not before; a condition that holds again starts anew. What it was is still said."""
    tracker, failing = HealthTracker(), Observed(outcomes=RecentOutcomes(0, 5, "rejected", 5))
    assert tracker.judge(failing, 100.0).status is FAILING
    left = tracker.judge(Observed(), 129.9)
    assert (left.status, left.reason[:35]) == (FAILING, "Recovering for 30 s. Before: 5 of 5")
    assert tracker.judge(failing, 129.95).status is FAILING
    assert tracker.judge(Observed(), 159.9).status is FAILING
    assert tracker.judge(Observed(), 159.95).status is OK


def test_sticky_conditions_are_independent() -> None:
    """A short outage is still paused after it was disconnected; failing hides it, and both are listed."""
    tracker = HealthTracker()
    tracker.judge(Observed(paused=("Redis is away.",)), 0.0)
    assert tracker.judge(DISCONNECTED, 10.0).status is HealthStatus.DISCONNECTED
    assert tracker.judge(Observed(), 11.0).status is PAUSED
    both = tracker.judge(Observed(credentials="401"), 12.0)
    assert both.status is FAILING
    assert both.conditions == {
        "failing": both.reason,
        "paused": "Recovering for 12 s. Before: Redis is away.",
    }
    assert tracker.judge(Observed(), 30.0).status is FAILING
    assert tracker.judge(Observed(), 42.0).status is OK


def test_other_statuses_come_and_go_at_once() -> None:
    """A connection that is back is back."""
    tracker = HealthTracker()
    found = [tracker.judge(seen, 0.0).status for seen in (DISCONNECTED, Observed(), Observed(is_draining=True))]
    assert found == [HealthStatus.DISCONNECTED, OK, DRAINING]
    assert status(Observed(has_started=False)) is STARTING
    assert repr(tracker) == "<HealthTracker: >"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (WRONG_ENDPOINT, "Check WORKER_DCS_ENDPOINTS."),
        (replace(WRONG_ENDPOINT, error_code=None), "Check project_id and region of the requests"),
        (replace(REJECTED, kind=ErrorKind.UNAUTHENTICATED, condition=Condition.CLOCK_SKEW), "Correct the clock"),
        (
            replace(REJECTED, kind=ErrorKind.UNAUTHENTICATED, condition=Condition.KEY_LOCKED),
            "Stop the program",
        ),
        (CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.NO_CREDENTIALS), "Replace the credentials"),
        *((replace(REJECTED, kind=kind), "") for kind in ErrorKind),
    ],
)
def test_every_error_has_a_remedy(error: CallError, expected: str) -> None:
    """One sentence that begins with a verb or with who must act."""
    said = remedy(error)
    assert said.startswith(expected)
    assert said.endswith(".")


def test_stopped_region_is_said_once() -> None:
    """What fails or pauses the replica does not degrade it as well; another region does."""
    elsewhere = replace(BREAKER_OPEN, region="eu-west-1")
    assert conditions(Observed(regions=(ENDPOINT_HELD,))).keys() == {FAILING, OK}
    assert conditions(Observed(regions=(BREAKER_OPEN,), is_paused_by_breaker=True)).keys() == {PAUSED, OK}
    both = conditions(Observed(regions=(ENDPOINT_HELD, elsewhere)))
    assert both.keys() == {FAILING, DEGRADED, OK}
    assert both[DEGRADED].startswith("eu-west-1: DCS has been failing")
