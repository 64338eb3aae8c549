"""The pace: spread evenly under a quota that is set or learnt, alone and beside replicas that are not known."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker.policy.meter import Meter
from worker.policy.pace import Pace

from tests.unit.policy.throttle.service_model import Service, World
from worker.policy.call_result import Throttle

HUNDRED = Throttle(100, 1.0)


def test_a_meter_counts_the_last_second() -> None:
    """A second ago weighs nothing, half a second ago half of its second."""
    meter = Meter()
    for number in range(20):
        meter.count(10.0 + number / 10)
    assert meter.per_second(12.0) == 10.0
    assert meter.per_second(12.5) == 5.0
    assert meter.per_second(20.0) == 0.0
    assert repr(meter) == "<Meter: 0, 0>"


def begun(pace: Pace, calls: int, now: float = 0.0) -> list[float]:
    """When so many calls begin that all want to begin at once."""
    times = []
    for _ in range(calls):
        now += pace.wait(now)
        pace.begin(now)
        times.append(now)
    return times


def test_nothing_is_held_back_before_a_refusal() -> None:
    """Without a rate every call may begin at once."""
    pace = Pace()
    assert begun(pace, 1000) == [0.0] * 1000
    assert repr(pace) == "<Pace: none>"


def test_a_set_rate_is_spread_evenly() -> None:
    """Ten calls per second are a tenth of a second apart, from the first one on."""
    times = begun(Pace(10.0), 50, 5.0)
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([0.1] * 49, abs=0.051)
    assert times[-1] - times[0] == pytest.approx(4.9, abs=0.06)


def test_a_set_rate_stays_what_it_is() -> None:
    """Neither refusals nor time change it, but a refusal is waited out."""
    pace = Pace(10.0)
    pace.begin(0.0)
    assert not pace.refused(0.0, 0.01, HUNDRED, None)
    assert pace.wait(0.01) == pytest.approx(0.2)
    begun(pace, 100, 1000.0)
    assert pace.rate == 10.0


def test_idle_time_is_no_credit() -> None:
    """After a pause calls do not burst."""
    pace = Pace(10.0)
    begun(pace, 1)
    times = begun(pace, 5, 100.0)
    assert times[-1] - times[0] >= 0.3


def test_the_first_refusal_teaches_what_was_just_made() -> None:
    """Eighty calls within a second, then a refusal that names a quota of a hundred: eighty a second."""
    pace = Pace()
    for number in range(80):
        pace.begin(number / 100)
    assert pace.refused(0.79, 0.8, HUNDRED, None)
    assert (pace.rate, pace.quota) == (80.0, 100.0)


@pytest.mark.parametrize(
    ("made", "throttle", "rate"),
    [
        (500, HUNDRED, 100.0),
        (1, HUNDRED, 25.0),
        (90, Throttle(60, 60.0), 1.0),
    ],
)
def test_what_is_learnt_is_bounded(made: int, throttle: Throttle | None, rate: float) -> None:
    """Never more than the quota; never less than a part of it, since one moment says little."""
    pace = Pace()
    for _ in range(made):
        pace.begin(0.0)
    pace.refused(0.0, 0.1, throttle, None)
    assert pace.rate == rate


@pytest.mark.parametrize(("made", "rate"), [(30, 30.0), (1, 4.0)])
def test_a_quota_that_is_not_named_is_believed_in_when_nothing_is_granted(made: int, rate: float) -> None:
    """Five refusals in a row teach what was just made, and never less than four calls a second."""
    pace = Pace()
    for _ in range(made):
        pace.begin(0.0)
    for _ in range(4):
        assert not pace.refused(0.0, 0.1, None, None)
    pace.granted()
    assert not any(pace.refused(0.0, 0.1, None, None) for _ in range(4))
    assert repr(pace) == "<Pace: none>"
    assert pace.refused(0.0, 0.1, None, None)
    assert (pace.rate, pace.quota) == (rate, None)
    assert pace.wait(0.1) == pytest.approx(1 / rate)


def test_a_quota_that_is_not_named_is_asked_for_four_times_a_second() -> None:
    """However long everything is refused, no call waits longer."""
    pace, now = Pace(), 0.0
    for _ in range(40):
        now += pace.wait(now)
        pace.begin(now)
        pace.refused(now, now, None, None)
        assert pace.wait(now) <= 0.25 + 1e-9
    assert (pace.rate or 0.0) >= 4.0


def learnt(rate: float = 50.0) -> Pace:
    """A pace that was just learnt under a quota of a hundred."""
    pace = Pace()
    for _ in range(int(rate)):
        pace.begin(0.0)
    pace.refused(0.0, 0.1, HUNDRED, None)
    return pace


def test_refusals_of_one_moment_count_once() -> None:
    """Calls that were under way when the first one was refused cut nothing more."""
    pace = learnt()
    rate = pace.rate
    assert not any(pace.refused(0.05, 0.1 + n / 1000, HUNDRED, None) for n in range(40))
    assert pace.rate == rate


def test_refused_in_a_row_calls_wait_longer_and_longer() -> None:
    """Each try after a wait that is refused again doubles the wait, up to the window."""
    pace = learnt()
    now, waits = 0.1, []
    for _ in range(10):
        wait = pace.wait(now)
        waits.append(wait)
        now += wait
        pace.begin(now)
        pace.refused(now, now, HUNDRED, None)
    assert all(later >= earlier * 1.3 for earlier, later in pairwise(waits[:4]))
    assert waits[-1] == pytest.approx(1.0)


def test_a_longer_wait_that_the_service_asks_for_is_the_bound() -> None:
    """Retry-After above the window is where the growing waits end."""
    pace = learnt()
    now = 0.1
    for _ in range(20):
        now += pace.wait(now)
        pace.begin(now)
        pace.refused(now, now, HUNDRED, 7.0)
    assert pace.wait(now) == pytest.approx(7.0)


def test_a_lower_quota_is_followed_at_once() -> None:
    """A refusal that names less than the last one scales the rate."""
    pace = learnt()
    begun(pace, 1, 0.5)
    assert pace.refused(0.5, 0.51, Throttle(30, 1.0), None)
    assert pace.rate == pytest.approx(15.0, rel=0.1)


def test_an_unrefused_rate_grows_slowly_and_is_forgotten_at_last() -> None:
    """Used to the full it grows, first by little; after five minutes without a refusal there is none."""
    pace, now = learnt(), 0.1
    for _ in range(100):  # the first cut ends the quick search
        now = begun(pace, 1, now)[0]
    pace.refused(now, now, HUNDRED, None)
    cut, cut_at = pace.rate or 0.0, now
    while now < cut_at + 5:
        now = begun(pace, 1, now)[0]
        pace.granted()
    assert cut < (pace.rate or 0.0) < cut * 1.2
    begun(pace, 1, cut_at + 301)
    assert pace.rate is None


def test_a_rate_that_is_not_used_does_not_grow() -> None:
    """One call a second says nothing about whether more than fifty would be granted."""
    pace = learnt()
    for second in range(1, 60):
        begun(pace, 1, float(second))
    assert pace.rate == pytest.approx(50.0, rel=0.1)


@given(
    st.lists(
        st.tuples(st.floats(0.0, 5.0), st.booleans(), st.integers(1, 1000), st.sampled_from([1.0, 60.0])), max_size=60
    )
)
def test_there_is_always_a_next_call(steps: list[tuple[float, bool, int, float]]) -> None:
    """Whatever is refused, the next call may begin within a minute."""
    pace, now = Pace(), 0.0
    for pause, is_refused, calls, window in steps:
        now += pause
        wait = pace.wait(now)
        assert 0.0 <= wait <= 60.0 + 1e-6
        now += wait
        pace.begin(now)
        if is_refused:
            pace.refused(now, now, Throttle(calls, window), None)
            assert pace.rate is not None
            assert pace.rate >= 1 / 60
        else:
            pace.granted()


# Against a modelled service, in virtual time.


@pytest.mark.parametrize("latency", [0.05, 0.5, 1.0])
@pytest.mark.parametrize("counts_refused", [False, True])
@pytest.mark.parametrize("replicas", [1, 2, 4])
def test_an_unannounced_quota_is_used(latency: float, counts_refused: bool, replicas: int) -> None:
    """From 20 s on nine tenths of 100 calls per second are used, and at most one in twenty is refused."""
    if replicas == 1 and latency == 1.0:
        pytest.skip("64 calls at once are fewer than a hundred a second")
    world = World(Service(100, latency=latency, counts_refused=counts_refused), replicas).run(80)
    assert world.used(20, 80, 100) >= 0.92
    assert world.refused(20, 80) <= 0.05
    assert world.refused(0, 80) <= 0.05


def test_replicas_share_fairly_enough() -> None:
    """Of four, none takes more than thrice what another one takes."""
    world = World(Service(100), 4).run(120)
    rates = sorted(replica.pace.rate or 0.0 for replica in world.replicas)
    assert rates[-1] < rates[0] * 3


def test_a_quota_that_changes_is_followed() -> None:
    """From 100 to 30 calls per second within 15 s, and back again without anybody telling."""
    world = World(Service(100, latency=0.1), 2).run(30)
    world.service.quota = 30
    world.run(90)
    assert world.used(45, 90, 30) >= 0.92
    assert world.refused(45, 90) <= 0.05
    world.service.quota = 100
    world.run(180)
    assert world.used(140, 180, 100) >= 0.9
    assert world.refused(90, 180) <= 0.05


def test_a_window_of_a_minute() -> None:
    """Three hundred a minute, used up in the first seconds: the minute is waited out with a few tries."""
    world = World(Service(300, window=60.0), 2).run(600)
    assert world.used(60, 600, 5) >= 0.8
    assert world.refused(0, 600) <= 0.1
