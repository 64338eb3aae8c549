"""The rules of a check-up: what failures lead to, what a version implies, how long a request is in hand."""

import pytest

from worker.policy.broker_versions import check_version
from worker.policy.diagnostics import (
    Check,
    CheckResult,
    FailureKind,
    failed,
    most_urgent_failure,
    ok,
    unchecked,
    warning,
)
from worker.policy.handling_time import DEFAULT_CONSUMER_TIMEOUT_SECONDS, HandlingTime, check_consumer_timeout


def _failure(kind: FailureKind) -> Check:
    return failed("broker", "is away", "start it", failure_kind=kind)


def test_warnings_and_open_questions_are_no_trouble() -> None:
    """Only what failed counts."""
    assert (
        most_urgent_failure([ok("a", "is fine"), warning("b", "is old", "renew it"), unchecked("c", "is not known")])
        is None
    )


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        ([FailureKind.WRONG], FailureKind.WRONG),
        ([FailureKind.WRONG, FailureKind.UNREACHABLE], FailureKind.UNREACHABLE),
        ([FailureKind.UNREACHABLE, FailureKind.WRONG, FailureKind.CONFIGURATION], FailureKind.CONFIGURATION),
    ],
)
def test_the_configuration_has_to_be_cured_first(kinds: list[FailureKind], first: FailureKind) -> None:
    """Of several failures the configuration goes first, then what cannot be reached."""
    assert most_urgent_failure([ok("a", "is fine"), *map(_failure, kinds)]) is first


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("3.10.8", "reject, nack and a lost channel count as a delivery; there is no delivery limit by default"),
        ("3.13.7", "there is no delivery limit by default; an overdue acknowledgement closes the channel"),
        ("4.0.5", "reject, nack and a lost channel count as a delivery; the delivery limit is 20 by default"),
        ("4.2.0-rc.1", "an overdue acknowledgement closes the channel"),
        ("4.3.6", "nack, recover and time-outs do not; the delivery limit is 20 by default"),
        ("4.3.0", "what consumers of a lost node hold returns after 60 s by default"),
        ("4.10.0", "taken to be as in 4.3"),
        ("5.0.0", "an overdue acknowledgement cancels the consumer"),
    ],
)
def test_a_version_implies_its_rules(version: str, said: str) -> None:
    """Every supported version is told with the rules that hold for it."""
    check = check_version("RabbitMQ", version, "host:5672")

    assert (check.result, check.subject) == (CheckResult.OK, "host:5672")
    assert said in check.found


@pytest.mark.parametrize("version", ["3.9.29", "2.8.7", "", "unknown"])
def test_an_old_broker_fails(version: str) -> None:
    """Before 3.10 quorum queues lack what the retry schedule is made of."""
    check = check_version("RabbitMQ", version, "")

    assert check.result is CheckResult.FAILED
    assert "3.10" in (check.remedy or "")


def test_another_broker_is_a_warning() -> None:
    """Nothing is known of brokers that only speak the same protocol."""
    assert check_version("LavinMQ", "2.1.0", "").result is CheckResult.WARNING


def test_the_worst_case_adds_up() -> None:
    """Three tries of a look-up and a create, two waits between them, and the waits beside."""
    handling_time = HandlingTime(
        tries=3, permit_seconds=60.0, credential_seconds=15.0, call_seconds=30.0, other_seconds=140.0
    )

    assert handling_time.worst_case_seconds == 3 * 2 * 105.0 + 2 * 5.0 + 140.0


@pytest.mark.parametrize(
    ("call_seconds", "result"),
    [(299.0, CheckResult.OK), (301.0, CheckResult.WARNING), (599.0, CheckResult.WARNING), (601.0, CheckResult.FAILED)],
)
def test_half_of_the_time_out_is_enough_and_all_of_it_too_little(call_seconds: float, result: CheckResult) -> None:
    """Up to half of the broker's time-out is well, up to all of it a warning, beyond it a failure."""
    per_try = HandlingTime(
        tries=1,
        permit_seconds=0.0,
        credential_seconds=0.0,
        call_seconds=call_seconds,
        other_seconds=DEFAULT_CONSUMER_TIMEOUT_SECONDS / 2 - 600.0,
    )
    handling_time = (
        per_try
        if call_seconds < 400
        else HandlingTime(
            tries=1, permit_seconds=0.0, credential_seconds=0.0, call_seconds=call_seconds, other_seconds=600.0
        )
    )

    check = check_consumer_timeout(handling_time)

    assert check.result is result
    assert "1800 s, the default, are assumed" in check.found
    assert (check.remedy is None) == (result is CheckResult.OK)


def test_the_remedy_names_a_time_out_that_would_do() -> None:
    """The setting of the broker is given in its own unit, with twice the worst case."""
    check = check_consumer_timeout(
        HandlingTime(tries=1, permit_seconds=0.0, credential_seconds=0.0, call_seconds=0.0, other_seconds=2000.0)
    )

    assert "`consumer_timeout = 4020000`" in (check.remedy or "")
