"""What a fault leads to: a wait in hand, or the way through the broker and what it spends."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from worker.policy import error_table
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence, NamedLimit
from worker.policy.outcome import RetryLater
from worker.policy.retry_policy import FREE_RETRY_LIMIT_SECONDS, RetryPolicy

NOW = 1_790_000_000.0
RULES = RetryPolicy()
REPEAT = replace(Envelope.read({}, redelivered=False, now=NOW), is_repeat=True)
BUSY = CallError(Evidence.REFUSED, ErrorKind.RETRY, CallStatus.ANSWERED)
FULL = CallError(Evidence.REFUSED, ErrorKind.CAPACITY, CallStatus.ANSWERED)
THROTTLED = CallError(Evidence.REFUSED, ErrorKind.THROTTLED, CallStatus.ANSWERED)

chances = st.floats(0.0, 1.0, exclude_max=True)
waits = st.floats(0.0, 86400.0)
faults = st.builds(
    CallError,
    evidence=st.sampled_from(Evidence),
    kind=st.sampled_from(ErrorKind),
    status=st.just(CallStatus.RESET),
    retry_after=st.none() | waits,
    throttle=st.none() | st.builds(NamedLimit, calls=st.just(5), window=waits),
)


@pytest.mark.parametrize(
    ("fault", "attempt", "random_unit", "wait"),
    [
        (BUSY, 1, 0.5, 0.1),
        (BUSY, 2, 0.5, 0.2),
        (BUSY, 3, 0.5, None),  # no try left
        (FULL, 1, 0.5, None),  # takes long
        (THROTTLED, 1, 0.5, 0.1),
        (replace(THROTTLED, retry_after=2.0), 1, 0.0, 2.0),
        (replace(THROTTLED, retry_after=2.0), 1, 0.5, 2.25),
        (replace(THROTTLED, throttle=NamedLimit(5, 1.0)), 1, 0.0, 1.0),
        (replace(THROTTLED, retry_after=0.0, throttle=NamedLimit(5, 60.0)), 1, 0.5, 0.1),
        (replace(THROTTLED, retry_after=5.0), 1, 0.0, 5.0),
        (replace(THROTTLED, retry_after=5.0), 1, 0.1, None),
        (replace(THROTTLED, throttle=NamedLimit(5, 60.0)), 1, 0.0, None),
    ],
)
def test_moments_are_waited_in_hand(fault: CallError, attempt: int, random_unit: float, wait: float | None) -> None:
    """A short wait is taken in hand, as long as tries are left; the service's word lengthens it."""
    assert RULES.wait_in_hand(fault, attempt, random_unit) == (None if wait is None else pytest.approx(wait))


@given(faults, st.integers(1, 5), chances)
def test_a_wait_in_hand_is_never_too_short_nor_too_long(fault: CallError, attempt: int, random_unit: float) -> None:
    """In hand nothing is waited for longer than 5 s, nor less than the service asks."""
    wait = RULES.wait_in_hand(fault, attempt, random_unit)
    if wait is not None:
        assert attempt < RULES.tries
        assert error_table.asked_wait(fault) <= wait <= 5.0


@pytest.mark.parametrize(
    ("fault", "round_", "at_least", "level", "spent"),
    [
        (BUSY, 0, 0.0, 1, 1),
        (BUSY, 1, 0.0, 2, 2),
        (BUSY, 3, 0.0, 4, 4),
        (BUSY, 0, 50.0, 2, 1),  # a settle time is owed: a later place, but only one is spent
        (BUSY, 2, 50.0, 3, 3),
        (BUSY, 4, 0.0, 1, 5),  # over the end only looking is left, which need not wait long
        (BUSY, 4, 50.0, 2, 5),
        (BUSY, 9, 50.0, 2, 5),  # and the count does not run away
        (replace(BUSY, retry_after=200.0), 0, 50.0, 3, 1),
        (replace(BUSY, retry_after=5000.0), 0, 0.0, 4, 1),
        (FULL, 0, 0.0, 4, 1),
        (FULL, 2, 0.0, 4, 3),
        (THROTTLED, 0, 0.0, 1, 0),
        (THROTTLED, 3, 0.0, 1, 3),
        (THROTTLED, 0, 50.0, 2, 0),
        (replace(THROTTLED, throttle=NamedLimit(5, 60.0)), 2, 0.0, 2, 2),
    ],
)
def test_a_failed_call_spends_one_place(fault: CallError, round_: int, at_least: float, level: int, spent: int) -> None:
    """The next place, or the first that waits long enough; full capacity waits longest; being throttled is free."""
    envelope = replace(REPEAT, round=round_)
    assert RULES.after(fault, envelope, at_least, NOW) == RetryLater(
        level, replace(envelope, round=spent), fault.label, RULES.delays[level - 1]
    )


@pytest.mark.parametrize(("age", "spent"), [(0.0, 0), (FREE_RETRY_LIMIT_SECONDS - 1, 0), (FREE_RETRY_LIMIT_SECONDS, 1)])
def test_being_throttled_is_free_for_a_day(age: float, spent: int) -> None:
    """After a day a request that is always throttled spends places like any other."""
    envelope = replace(REPEAT, first_received_at=NOW - age)
    assert RULES.costs_nothing(THROTTLED, envelope, NOW) is (spent == 0)
    assert RULES.after(THROTTLED, envelope, 0.0, NOW).envelope.round == spent


def test_no_other_fault_is_free() -> None:
    """Only being throttled counts against no one."""
    free = [remedy for remedy in ErrorKind if RULES.costs_nothing(replace(BUSY, kind=remedy), REPEAT, NOW)]
    assert free == [ErrorKind.THROTTLED]


@given(faults, st.integers(0, 8), st.floats(0.0, 1800.0), st.floats(0.0, 2e5))
def test_the_way_through_the_broker_is_long_enough_and_ends(
    fault: CallError, round_: int, at_least: float, age: float
) -> None:
    """Every wait covers what is owed as far as the schedule reaches, and the schedule is used up in the end."""
    envelope = replace(REPEAT, round=round_, first_received_at=NOW - age)
    postponed = RULES.after(fault, envelope, at_least, NOW)
    wanted = min(max(at_least, error_table.asked_wait(fault)), RULES.delays[-1])
    assert RULES.delays[postponed.retry_level - 1] >= wanted
    assert 0 < postponed.retry_level <= RULES.levels
    if not RULES.costs_nothing(fault, envelope, NOW):
        assert postponed.envelope.round == min(round_, RULES.levels) + 1


@pytest.mark.parametrize(("at_least", "level"), [(0.0, 1), (50.0, 2), (301.0, 4), (1e9, 4)])
def test_waiting_spends_nothing(at_least: float, level: int) -> None:
    """A wait to settle or for a turn leaves the envelope as it is."""
    assert RULES.wait(REPEAT, at_least, "settle") == RetryLater(level, REPEAT, "settle", RULES.delays[level - 1])


@pytest.mark.parametrize("evidence", list(Evidence))
def test_a_fault_is_ambiguous_only_by_its_evidence(evidence: Evidence) -> None:
    """Never sent and refused are certain, everything else is not."""
    assert replace(BUSY, evidence=evidence).is_ambiguous is (evidence is Evidence.AMBIGUOUS)


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({}, 0.0),
        ({"retry_after": 7.0}, 7.0),
        ({"throttle": NamedLimit(5, 60.0)}, 60.0),
        ({"retry_after": 7.0, "throttle": NamedLimit(5, 60.0)}, 7.0),
    ],
)
def test_the_header_goes_before_the_message(changes: dict[str, Any], asked: float) -> None:
    """What the service asks for is its header, else the window in its message, else nothing."""
    assert error_table.asked_wait(replace(THROTTLED, **changes)) == asked
