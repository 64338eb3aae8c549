"""The rate limiter: what it holds back, what it learns from 429s, and what two replicas make of one quota."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.policy.throttle.service_model import Service, World
from worker.policy.call_result import NamedLimit
from worker.policy.throttle.rate_limiter import FORGET, LEAST_UNNAMED, RateLimiter

NAMED = NamedLimit(100, 1.0)


def learnt(calls: int = 100, window: float = 1.0, at: float = 0.0) -> RateLimiter:
    """A limiter that was refused once, with a named limit."""
    limiter = RateLimiter()
    limiter.take(1, at)
    assert limiter.throttled(at, at, NamedLimit(calls, window), None)
    return limiter


def test_without_429_nothing_is_limited() -> None:
    """Without 429 nothing is limited."""
    limiter = RateLimiter()
    for _ in range(1000):
        assert limiter.wait(2, 0.0) == 0.0
        limiter.take(2, 0.0)
    assert (limiter.rate, limiter.is_limiting(0.0), repr(limiter)) == (None, False, "<RateLimiter: no limit>")


def test_fixed_rate_gives_look_and_create_together() -> None:
    """Ten a second: a permit of two calls every 0.2 s, and a further call is owed."""
    limiter = RateLimiter(10.0)
    assert limiter.wait(2, 0.0) == 0.0
    limiter.take(2, 0.0)
    assert limiter.wait(2, 0.0) == pytest.approx(0.2, abs=0.001)
    limiter.take(1, 0.0)
    assert limiter.wait(2, 0.0) == pytest.approx(0.3, abs=0.001)
    assert limiter.wait(2, 0.31) == 0.0
    limiter.throttled(0.3, 0.31, NAMED, None)
    assert (limiter.rate, limiter.named, limiter.is_limiting(0.3)) == (10.0, None, True)
    assert repr(limiter) == "<RateLimiter: 10.00/s>"


def test_what_was_not_used_is_given_back() -> None:
    """What was not used is given back."""
    limiter = RateLimiter(10.0)
    limiter.take(2, 0.0)
    limiter.give_back(1, 0.0)
    assert limiter.wait(1, 0.0) == 0.0
    assert limiter.wait(2, 0.0) == pytest.approx(0.1, abs=0.001)


def test_what_was_taken_before_a_cut_is_not_given_back() -> None:
    """Many permits that were out when the quota was met free no tokens for more."""
    limiter = learnt()
    waits = limiter.wait(2, 0.0)
    limiter.give_back(50, -1.0)
    assert limiter.wait(2, 0.0) == waits > 0.0


def test_retry_after_beats_everything() -> None:
    """Retry after beats everything."""
    limiter = RateLimiter()
    limiter.throttled(0.0, 0.0, None, 30.0)
    assert limiter.wait(1, 0.0) == 30.0
    fixed = RateLimiter(1000.0)
    fixed.throttled(0.0, 0.0, None, 30.0)
    assert fixed.wait(1, 10.0) == 20.0


def test_named_limit_is_ceiling() -> None:
    """The rate is cut below it, grows back to it and never beyond."""
    limiter = learnt(100)
    assert limiter.rate == pytest.approx(80)
    now = 1.0
    for _ in range(3000):
        now += max(0.0, limiter.wait(1, now))
        limiter.take(1, now)
        limiter.granted()
    assert limiter.rate == 100.0


def test_rate_that_is_not_used_does_not_grow() -> None:
    """Rate that is not used does not grow."""
    limiter = learnt(100)
    before = limiter.rate
    assert limiter.wait(1, 200.0) == 0.0
    assert limiter.rate == pytest.approx(before)


def test_limit_is_forgotten_after_a_while_without_429() -> None:
    """Limit is forgotten after a while without 429."""
    limiter = learnt(100)
    assert limiter.is_limiting(FORGET[0] - 1)
    assert limiter.wait(1000, FORGET[0] + 1) == 0.0
    assert (limiter.rate, limiter.named) == (None, None)
    slow = learnt(10, 60.0)
    assert slow.is_limiting(1100.0)


def test_one_burst_cuts_once() -> None:
    """Calls that were under way at the cut say nothing new, nor does what follows within the window."""
    limiter = learnt(100, at=1.0)
    assert not limiter.throttled(0.9, 1.1, NAMED, None)
    assert limiter.throttled(1.1, 1.2, NAMED, None)
    assert limiter.rate == pytest.approx(80)
    assert limiter.throttled(2.1, 2.2, NAMED, None)
    assert limiter.rate == pytest.approx(64)


def test_full_window_is_asked_less_and_less() -> None:
    """Refused again and again, calls wait longer and longer, but not longer than the window."""
    limiter, waits, now = learnt(100, 60.0), [], 1.0
    for _ in range(8):
        limiter.throttled(now, now, NamedLimit(100, 60.0), None)
        waits.append(limiter.wait(1, now))
        now += waits[-1] + 0.01
    assert waits == pytest.approx(sorted(waits))
    assert waits[-1] == pytest.approx(60.0)


def test_unnamed_limit_is_believed_after_five_refusals_in_a_row() -> None:
    """Unnamed limit is believed after five refusals in a row."""
    limiter, told = RateLimiter(), []
    for number in range(10):
        limiter.take(100, number)
        if number == 3:
            limiter.granted()
        told.append(limiter.throttled(number, number + 0.1, None, None))
    assert told.index(True) == 7
    assert limiter.rate is not None
    assert limiter.rate > LEAST_UNNAMED


def test_unnamed_refusals_of_calls_under_way_together_are_one() -> None:
    """Refusals come back sooner than answers: five of a burst are no row."""
    limiter = RateLimiter()
    assert not any(limiter.throttled(0.0, 0.01 * number, None, None) for number in range(1, 20))


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.booleans()), max_size=200))
def test_rate_stays_within_its_bounds(steps: list[tuple[float, bool, bool]]) -> None:
    """Whatever happens, an unnamed limit is at least four calls a second, and no wait is negative or endless."""
    limiter, now = RateLimiter(), 0.0
    for seconds, is_refused, is_named in steps:
        now += seconds
        limiter.take(1, now)
        if is_refused:
            limiter.throttled(now, now, NAMED if is_named else None, None)
        else:
            limiter.granted()
        assert 0.0 <= limiter.wait(1, now) < inf
        assert limiter.rate is None or limiter.rate >= (2.0 if limiter.named else LEAST_UNNAMED)
        assert limiter.rate is None or limiter.rate <= (limiter.named or inf)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_quota_is_used_and_hardly_exceeded(seed: int, replicas: int) -> None:
    """Nobody told the replicas of the quota, nor of each other; a lower one is followed within 15 s."""
    world = World(Service(100), replicas, seed=seed).run(60.0)
    assert world.used(20, 60, 100) >= 0.85
    assert world.refused(20, 60) <= 0.05
    world.service.quota = 30
    world.run(120.0)
    assert world.used(75, 120, 30) >= 0.85
    assert world.refused(75, 120) <= 0.05


def test_quota_per_minute_is_used() -> None:
    """Quota per minute is used."""
    world = World(Service(60, 60.0), 2).run(1800.0)
    assert world.used(600, 1800, 1.0) >= 0.7
    assert world.refused(600, 1800) <= 0.2


def test_quota_that_is_not_named_is_found() -> None:
    """Some more is refused: a service may refuse a share of calls whatever we do."""
    world = World(Service(100, is_named=False), 2).run(60.0)
    assert world.used(20, 60, 100) >= 0.85
    assert world.refused(20, 60) <= 0.25


def test_every_tenth_call_refused_at_random_slows_little_down() -> None:
    """A 429 that names no limit is no reason to make fewer calls, unless they come in a row."""
    at_best = len(World(Service(), 1).run(30.0).between(0, 30, "ok"))
    refused = World(Service(refuses=0.1), 1).run(30.0)
    assert len(refused.between(0, 30, "ok")) >= at_best * 0.6
