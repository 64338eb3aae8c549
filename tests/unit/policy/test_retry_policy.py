"""The rules: when to look, how long to settle, what is poison, how far the schedule reaches."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from worker.policy.retry_policy import FREE_RETRY_LIMIT_SECONDS, Reconcile, RetryPolicy

NOW = 1_790_000_000.0
RULES = RetryPolicy()
FIRST = Envelope.read({}, redelivered=False, now=NOW)
REPEAT = replace(FIRST, is_repeat=True)


def test_the_defaults_are_the_documented_ones() -> None:
    """Operators are told these settings and this day's grace for what is throttled."""
    assert RetryPolicy(delays=(10.0, 60.0, 300.0, 1800.0), tries=3, reconcile="always", settle=45.0) == RULES
    assert (RULES.delivery_limit, FREE_RETRY_LIMIT_SECONDS) == (10, 86400.0)


@pytest.mark.parametrize(
    ("reconcile", "first", "repeat"),
    [("ambiguous", False, True), ("always", True, True), ("off", False, False)],
)
def test_only_a_first_delivery_creates_without_looking(reconcile: Reconcile, first: bool, repeat: bool) -> None:
    """A repeat looks first unless looking is off; a first delivery only if every create is to be looked for."""
    rules = RetryPolicy(reconcile=reconcile)
    assert rules.needs_lookup(FIRST) is first
    assert rules.needs_lookup(REPEAT) is repeat


@pytest.mark.parametrize(
    ("settle", "elapsed", "listing_delay_left"),
    [
        (45.0, 0.0, 50.0),
        (45.0, 20.0, 30.0),
        (45.0, 49.9, 0.1),
        (45.0, 50.0, 0.0),
        (45.0, 1e9, 0.0),
        (45.0, -10.0, 50.0),  # the other clock is ahead
        (45.0, -1e9, 50.0),  # or lies
        (3.0, 0.0, 4.0),  # the allowance is a third of a short settle time
        (3.0, 4.0, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_settling_is_owed_from_the_last_create(settle: float, elapsed: float, listing_delay_left: float) -> None:
    """The settle time and an allowance for clocks are owed, less what has passed, never more than the whole."""
    assert RetryPolicy(settle=settle).listing_delay_left(NOW - elapsed, NOW) == pytest.approx(listing_delay_left)


def test_nothing_is_owed_for_what_was_never_sent() -> None:
    """No create, no wait."""
    assert RULES.listing_delay_left(None, NOW) == 0.0


@given(st.floats(0.0, 3600.0), st.floats(-1e10, 1e10), st.floats(0.0, 1e10))
def test_what_is_owed_is_bounded_and_passes(settle: float, last_sent_at: float, now: float) -> None:
    """However far off a clock is, the wait ends: it is never below 0 nor above settle time and allowance."""
    rules = RetryPolicy(settle=settle)
    listing_delay_left = rules.listing_delay_left(last_sent_at, now)
    assert 0.0 <= listing_delay_left <= settle + min(5.0, settle / 3)
    assert rules.listing_delay_left(last_sent_at, max(now, last_sent_at) + settle + 6.0) == 0.0


@pytest.mark.parametrize(
    ("interruptions", "redelivered", "is_poison"),
    [(9, True, False), (10, True, True), (11, True, True), (10, False, True)],
)
def test_so_many_interruptions_are_poison(interruptions: int, redelivered: bool, is_poison: bool) -> None:
    """At the limit a request is poison, also when it comes back from a retry queue and not by redelivery."""
    envelope = replace(REPEAT, interruptions=interruptions, is_redelivered=redelivered)
    assert RULES.is_poison(envelope) is is_poison


@pytest.mark.parametrize(
    ("limit", "interruptions", "is_suspect"), [(10, 4, False), (10, 5, True), (1, 0, False), (1, 1, True), (3, 1, True)]
)
def test_half_way_to_poison_is_suspect(limit: int, interruptions: int, is_suspect: bool) -> None:
    """From half the limit on, and never without an interruption, a request is worked on alone."""
    assert RetryPolicy(delivery_limit=limit).is_suspect(replace(REPEAT, interruptions=interruptions)) is is_suspect


@pytest.mark.parametrize(
    ("round_", "has_retries_left", "retries_exhausted"),
    [(0, True, False), (3, True, False), (4, False, False), (5, False, True)],
)
def test_the_schedule_has_so_many_places(round_: int, has_retries_left: bool, retries_exhausted: bool) -> None:
    """Four places can be spent; a fifth use of the schedule is beyond its end."""
    envelope = replace(REPEAT, round=round_)
    assert (RULES.has_retries_left(envelope), RULES.retries_exhausted(envelope)) == (
        has_retries_left,
        retries_exhausted,
    )
