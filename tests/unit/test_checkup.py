"""The rules of a check-up: what failures lead to, what a version implies, how long a request is in hand."""

import pytest

from worker.policy.broker_rules import check_version
from worker.policy.checkup import Check, Result, Trouble, failed, ok, trouble, unchecked, warning
from worker.policy.in_hand import CONSUMER_TIMEOUT, Handling, check_consumer_timeout


def _failure(kind: Trouble) -> Check:
    return failed("broker", "is away", "start it", trouble=kind)


def test_warnings_and_open_questions_are_no_trouble() -> None:
    """Only what failed counts."""
    assert trouble([ok("a", "is fine"), warning("b", "is old", "renew it"), unchecked("c", "is not known")]) is None


@pytest.mark.parametrize(
    ("kinds", "first"),
    [
        ([Trouble.WRONG], Trouble.WRONG),
        ([Trouble.WRONG, Trouble.UNREACHABLE], Trouble.UNREACHABLE),
        ([Trouble.UNREACHABLE, Trouble.WRONG, Trouble.CONFIGURATION], Trouble.CONFIGURATION),
    ],
)
def test_the_configuration_has_to_be_cured_first(kinds: list[Trouble], first: Trouble) -> None:
    """Of several failures the configuration goes first, then what cannot be reached."""
    assert trouble([ok("a", "is fine"), *map(_failure, kinds)]) is first


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

    assert (check.result, check.subject) == (Result.OK, "host:5672")
    assert said in check.found


@pytest.mark.parametrize("version", ["3.9.29", "2.8.7", "", "unknown"])
def test_an_old_broker_fails(version: str) -> None:
    """Before 3.10 quorum queues lack what the retry schedule is made of."""
    check = check_version("RabbitMQ", version, "")

    assert check.result is Result.FAILED
    assert "3.10" in (check.remedy or "")


def test_another_broker_is_a_warning() -> None:
    """Nothing is known of brokers that only speak the same protocol."""
    assert check_version("LavinMQ", "2.1.0", "").result is Result.WARNING


def test_the_worst_case_adds_up() -> None:
    """Three tries of a look-up and a create, two waits between them, and the waits beside."""
    handling = Handling(tries=3, turn=60.0, proof=15.0, call=30.0, aside=140.0)

    assert handling.longest == 3 * 2 * 105.0 + 2 * 5.0 + 140.0


@pytest.mark.parametrize(
    ("call", "result"), [(299.0, Result.OK), (301.0, Result.WARNING), (599.0, Result.WARNING), (601.0, Result.FAILED)]
)
def test_half_of_the_time_out_is_enough_and_all_of_it_too_little(call: float, result: Result) -> None:
    """Up to half of the broker's time-out is well, up to all of it a warning, beyond it a failure."""
    per_try = Handling(tries=1, turn=0.0, proof=0.0, call=call, aside=CONSUMER_TIMEOUT / 2 - 600.0)
    handling = per_try if call < 400 else Handling(tries=1, turn=0.0, proof=0.0, call=call, aside=600.0)

    check = check_consumer_timeout(handling)

    assert check.result is result
    assert "1800 s, the default, are assumed" in check.found
    assert (check.remedy is None) == (result is Result.OK)


def test_the_remedy_names_a_time_out_that_would_do() -> None:
    """The setting of the broker is given in its own unit, with twice the worst case."""
    check = check_consumer_timeout(Handling(tries=1, turn=0.0, proof=0.0, call=0.0, aside=2000.0))

    assert "`consumer_timeout = 4020000`" in (check.remedy or "")
