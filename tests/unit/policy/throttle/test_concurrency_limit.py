"""The limit: grows while it is used, shrinks when throttled and when latency grows with our own load."""

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker.policy.limit import START, Limit

from tests.unit.policy.throttle.service_model import DEADLINE, Service, World


def rounds(limit: Limit, count: int, latency: float, now: float, *, in_use: int | None = None) -> float:
    """So many rounds of answers after `latency` seconds each, with every permitted call in use; the time after."""
    for _ in range(count):
        for _ in range(max(16, limit.value)):
            limit.answered(now, now + latency, limit.value if in_use is None else in_use)
        now += latency + 0.001
    return now


def test_it_begins_low_and_doubles() -> None:
    """From eight up to what is allowed, a factor of two each round."""
    limit, now, values = Limit(64, 30.0), 0.0, []
    for _ in range(5):
        values.append(limit.value)
        now = rounds(limit, 1, 0.1, now)
    assert values == [START, 16, 32, 64, 64]
    assert (repr(limit), repr(limit._latency)) == ("<Limit: 64>", "<Latency: 0.100 s>")
    assert repr(Limit(1, 1.0)._latency) == "<Latency: unknown>"


@pytest.mark.parametrize("ceiling", [1, 4, 64, 500])
def test_it_never_leaves_its_bounds(ceiling: int) -> None:
    """At least one, at most the ceiling."""
    limit = Limit(ceiling, 30.0)
    assert limit.value == min(START, ceiling)
    now = rounds(limit, 100, 0.1, 0.0)
    assert limit.value == ceiling
    for _ in range(100):
        limit.throttled(now, now, 0.1)
        now += 1
    assert limit.value == 1


def test_it_grows_only_while_it_is_used() -> None:
    """Answers to a third of the calls that might be made say nothing about more."""
    limit = Limit(64, 30.0)
    rounds(limit, 20, 0.1, 0.0, in_use=2)
    assert limit.value == START


def test_throttled_it_shrinks_once_a_round_then_grows_by_steps() -> None:
    """Calls that were under way at the first refusal take nothing more away; afterwards it grows by addition."""
    limit = Limit(64, 30.0)
    now = rounds(limit, 4, 0.1, 0.0)
    for n in range(30):
        limit.throttled(now - 0.05, now + n / 1000, 10.0)
    assert limit.value == 48
    rounds(limit, 1, 0.1, now + 1)
    assert limit.value == 50


def test_throttled_it_keeps_what_the_pace_needs() -> None:
    """Thirty calls per second that take a second each need thirty calls at once, and some to spare."""
    limit = Limit(64, 30.0)
    now = rounds(limit, 4, 1.0, 0.0)
    for _ in range(50):
        limit.throttled(now, now, 30.0)
        now += 1
    assert limit.value == 45


def test_throttled_it_reckons_with_the_latency_of_now() -> None:
    """Thirty calls per second that took a tenth of a second and take one now: the pace must not starve."""
    limit = Limit(64, 30.0)
    now = rounds(limit, 4, 0.1, 0.0)
    for _ in range(50):
        limit.answered(now, now + 1.0, 64)
        now += 1
        limit.throttled(now, now, 30.0)
    assert limit.value >= 40


def test_after_an_outage_it_ramps_up() -> None:
    """One call, then one more for each answer, then by doubling to half of what there was, then by steps."""
    limit = Limit(64, 30.0)
    now = rounds(limit, 4, 0.1, 0.0)
    limit.restart(now)
    values = [limit.value]
    for _ in range(7):
        limit.answered(now, now + 0.1, limit.value)
        values.append(limit.value)
    assert values == [1, 2, 3, 4, 5, 6, 7, 8]
    now = rounds(limit, 3, 0.1, now + 1)
    assert limit.value in (32, 34)


def test_one_slow_round_is_an_accident() -> None:
    """Two in a row are none: half of the calls are taken back."""
    limit = Limit(64, 30.0)
    now = rounds(limit, 4, 0.1, 0.0)
    now = rounds(limit, 1, 0.5, now)
    now = rounds(limit, 1, 0.1, now)
    assert limit.value == 64
    rounds(limit, 2, 0.5, now)
    assert limit.value == 32


def test_a_service_that_became_slower_is_no_reason() -> None:
    """If taking calls back makes it no faster, the limit comes back, and the new latency is usual."""
    limit = Limit(64, 30.0)
    now = rounds(limit, 4, 0.1, 0.0)
    now = rounds(limit, 4, 0.5, now)
    assert limit.value == 64
    rounds(limit, 20, 0.5, now)
    assert limit.value == 64


def test_near_the_deadline_it_shrinks_though_latency_grew_little() -> None:
    """Half as much again, a quarter of the deadline: what is tried out before calls time out."""
    limit = Limit(64, 2.0)
    now = rounds(limit, 4, 0.4, 0.0)
    rounds(limit, 2, 0.65, now)
    assert limit.value == 32


def test_time_outs_are_never_usual() -> None:
    """Calls that all time out are taken back down to one, though that makes them no faster."""
    limit = Limit(64, 2.0)
    now = rounds(limit, 4, 0.1, 0.0)
    rounds(limit, 30, 2.0, now)
    assert limit.value == 1


@given(st.lists(st.tuples(st.floats(0.0, 3.0), st.integers(1, 70), st.sampled_from("aaaaaaaatr")), max_size=400))
def test_the_limit_stays_within_bounds(endings: list[tuple[float, int, str]]) -> None:
    """Any mixture of answers, refusals and outages."""
    limit, now = Limit(64, 2.0), 0.0
    for seconds, in_use, what in endings:
        begun, now = now, now + seconds
        if what == "a":
            limit.answered(begun, now, in_use)
        elif what == "t":
            limit.throttled(begun, now, seconds)
        else:
            limit.restart(now)
        assert 1 <= limit.value <= 64


# Against a modelled service, in virtual time.


@pytest.mark.parametrize("replicas", [1, 2])
def test_latency_that_doubles_and_doubles_again(replicas: int) -> None:
    """Throughput follows what the service can do, and no call times out because of our own load."""
    service = Service(latency=0.1, capacity=10)
    world = World(service, replicas)
    for doubled, possible in enumerate((100, 50, 25)):
        service.latency = 0.1 * 2**doubled
        begin = world.now
        world.run(begin + 40)
        done = len(world.between(begin + 10, begin + 40, "ok")) / 30
        assert done >= possible * 0.7, doubled
    assert not [call for call in world.calls if call.ending == "timeout"]


@pytest.mark.parametrize("noise", [lambda rng: rng.uniform(0.9, 1.2), lambda rng: 0.3 + 0.7 * rng.expovariate(1)])
def test_a_latency_that_is_not_ours_costs_nothing(noise: Callable[[random.Random], float]) -> None:
    """Where the service takes twice as long for everybody, the calls at once stay what they may be."""
    service = Service(latency=0.1, noise=noise)
    world = World(service, 2).run(30)
    service.latency = 0.2
    world.run(90)
    assert len(world.between(60, 90, "ok")) / 30 >= 128 / 0.2 * 0.85


def test_the_model_times_out() -> None:
    """What the proofs above would show if nothing held the calls back."""
    service = Service(latency=0.4, capacity=10)
    for _ in range(64):
        ending, seconds = service.call(0.0)
    assert ending == "ok"
    assert seconds > DEADLINE
