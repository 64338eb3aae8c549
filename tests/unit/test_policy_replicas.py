"""How many replicas are of use: what the backlog needs, what the service can feed, and the smaller of both."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.replicas import DOUBLE, WITHIN, Feed, Minute, Replicas

HALF_BUSY = Minute(seconds=60.0, ended=600, calls=600, call_seconds=1200.0, cpu_seconds=6.0)
"""Ten requests a second, each two seconds in one call: 20 of 40 hands."""
OPEN = Feed(hands=20)
TWO = Replicas(count=2, ready=0, hands=40, minute=HALF_BUSY, feeds=[OPEN])


def test_what_comes_is_needed_and_nothing_more() -> None:
    """Without a backlog, two replicas that are half busy could be one."""
    assert TWO.needed == TWO.useful == pytest.approx(1.0)


@pytest.mark.parametrize(("ready", "needed"), [(0, 1.0), (1200, 2.0), (12_000, 11.0)])
def test_a_backlog_is_worked_off_within_a_minute(ready: int, needed: float) -> None:
    """A replica that is busy does 20 requests a second, 1,200 a minute."""
    assert replace(TWO, ready=ready).needed == pytest.approx(needed)


def test_no_more_than_twice_as_many_are_believed() -> None:
    """The need is told as it is; what is of use is found out in steps."""
    many = replace(TWO, ready=120_000)
    assert many.needed == pytest.approx(101.0)
    assert many.useful == DOUBLE * 2
    assert replace(many, count=0).useful == DOUBLE


@pytest.mark.parametrize(
    ("feed", "useful"),
    [
        (Feed(20), 4.0),
        (Feed(20, borne=15.0), 1.5),  # 15/s of each of two; one replica makes 20/s
        (Feed(20, borne=15.0, quota=100.0), 1.5),
        (Feed(20, borne=15.0, quota=20.0), 1.0),  # the whole quota is less than what each believes to be its share
        (Feed(20, borne=15.0, is_sick=True), 0.0),
        (Feed(20, is_sick=True), 0.0),
        (Feed(0, borne=15.0), 1.5),
    ],
)
def test_the_service_feeds_so_many(feed: Feed, useful: float) -> None:
    """Its quota is shared: what it bears from one replica it bears from each; a sick service feeds nobody."""
    assert replace(TWO, ready=12_000, feeds=[feed]).useful == pytest.approx(useful)


def test_regions_are_fed_each_from_its_own_quota() -> None:
    """A tenth of what is in hand is for a region that nothing holds back: it gets its need, the other its quota."""
    parts = [Feed(18, borne=5.0), Feed(2)]
    assert replace(TWO, ready=12_000, feeds=parts).useful == pytest.approx(0.5 + 1.1)


def test_regions_of_which_nothing_is_in_hand_count_alike() -> None:
    """One of two is sick: half of what comes is expected to be for the other one."""
    parts = [Feed(0, is_sick=True), Feed(0)]
    assert replace(TWO, ready=1200, feeds=parts).useful == pytest.approx(1.0)


def test_nothing_is_of_use_while_all_is_held() -> None:
    """Credentials that are refused would be refused to others too; the need is there all the same."""
    held = replace(TWO, ready=1200, is_held=True)
    assert held.needed == pytest.approx(2.0)
    assert held.useful == 0.0


@pytest.mark.parametrize(
    ("minute", "rate", "needed"),
    [
        (HALF_BUSY, None, 1.0),
        (HALF_BUSY, 12.5, 1.6),  # 10 of the 12.5 calls a second that it may make
        (replace(HALF_BUSY, cpu_seconds=48.0), None, 1.6),
        (replace(HALF_BUSY, calls=59, cpu_seconds=48.0), None, 1.0),  # the processor did something else
        (Minute(1.0), None, 0.0),
    ],
)
def test_the_load_is_what_is_used_most(minute: Minute, rate: float | None, needed: float) -> None:
    """Hands, the rate that is set, or the processor: two replicas as busy as this one."""
    assert replace(TWO, minute=minute, rate=rate).needed == pytest.approx(needed)


@pytest.mark.parametrize(("rate", "needed"), [(None, 0.25), (2.0, 5.0)])
def test_before_the_first_request_a_second_is_assumed(rate: float | None, needed: float) -> None:
    """600 requests within a minute, a second each: ten of forty hands, unless a rate is set."""
    assert replace(TWO, ready=600, minute=Minute(1.0), rate=rate).needed == pytest.approx(needed)


MINUTES = st.builds(
    Minute,
    seconds=st.floats(1.0, WITHIN),
    ended=st.integers(0, 100_000),
    calls=st.integers(0, 100_000),
    call_seconds=st.floats(0.0, 4000.0),
    cpu_seconds=st.floats(0.0, 60.0),
)
BOUNDS = st.one_of(st.none(), st.floats(1 / 60, 1e4))
FEEDS = st.builds(Feed, hands=st.integers(0, 1000), is_sick=st.booleans(), borne=BOUNDS, quota=BOUNDS)
STATES = st.builds(
    Replicas,
    count=st.integers(0, 100),
    ready=st.integers(0, 10**7),
    hands=st.integers(1, 1000),
    minute=MINUTES,
    feeds=st.lists(FEEDS, min_size=1, max_size=5),
    rate=BOUNDS,
    is_held=st.booleans(),
)


@given(STATES)
def test_useful_is_never_more_than_needed(state: Replicas) -> None:
    """A number, at least none, at most what is needed and twice what there is."""
    assert 0.0 <= state.useful <= state.needed * (1 + 1e-9) < inf
    assert state.useful <= DOUBLE * max(1, state.count)


@given(STATES, st.integers(0, 10**6))
def test_a_longer_queue_never_makes_less_of_use(state: Replicas, more: int) -> None:
    """Nor does a shorter one make more of use."""
    longer = replace(state, ready=state.ready + more)
    assert longer.needed >= state.needed
    assert longer.useful >= state.useful * (1 - 1e-9)


@given(STATES, st.floats(0.1, 1.0))
def test_a_lower_quota_never_makes_more_of_use(state: Replicas, share: float) -> None:
    """Less is fed, so no more are fed."""
    parts = [replace(feed, borne=feed.borne * share) if feed.borne else feed for feed in state.feeds]
    assert replace(state, feeds=parts).useful <= state.useful * (1 + 1e-9)


@given(st.lists(MINUTES, min_size=2, max_size=9))
def test_the_average_is_the_sum(minutes: list[Minute]) -> None:
    """Each replica takes itself for all of them; over all of them that is what they are busy with together."""
    count = len(minutes)
    alone = [Replicas(1, 0, 40, minute, [OPEN]).needed for minute in minutes]
    told = [Replicas(count, 0, 40, minute, [OPEN]).needed for minute in minutes]
    assert sum(told) / count == pytest.approx(sum(alone))
