"""The concurrency limit: additive increase while it is used, multiplicative decrease on overload."""

import pytest

from tests.unit.policy.throttle.service_model import Service, World
from worker.policy.throttle.concurrency_limit import START, ConcurrencyLimit, fitting_prefetch


def answered(limit: ConcurrencyLimit, count: int, *, in_use: int | None = None, at: float = 1.0) -> None:
    """So many answers, quick ones."""
    for _ in range(count):
        limit.answered(at, at + 0.1, limit.value if in_use is None else in_use)


def test_new_worker_begins_with_some_calls_and_doubles() -> None:
    """New worker begins with some calls and doubles."""
    limit = ConcurrencyLimit(64, 30.0)
    assert (limit.value, repr(limit)) == (START, "<ConcurrencyLimit: 8>")
    answered(limit, START)
    assert limit.value == 2 * START
    answered(limit, 1000)
    assert limit.value == 64
    assert ConcurrencyLimit(3, 30.0).value == 3


def test_limit_that_is_not_used_does_not_grow() -> None:
    """Limit that is not used does not grow."""
    limit = ConcurrencyLimit(64, 30.0)
    answered(limit, 1000, in_use=3)
    assert limit.value == START


def test_overload_takes_a_quarter_once() -> None:
    """Calls that began before the decrease do not count again."""
    limit = ConcurrencyLimit(64, 30.0)
    answered(limit, 100)
    for _ in range(64):
        limit.overloaded(1.0, 2.0)
    assert limit.value == 48
    answered(limit, 1000, at=1.0)
    assert limit.value == 48
    limit.overloaded(2.0, 3.0)
    assert limit.value == 36


def test_after_a_decrease_it_grows_by_one_a_round() -> None:
    """After a decrease it grows by one a round."""
    limit = ConcurrencyLimit(64, 30.0)
    answered(limit, 100)
    limit.overloaded(1.0, 1.5)
    for expected in range(49, 60):
        answered(limit, limit.value, at=2.0)
        assert limit.value == expected


def test_slow_answers_lower_it_before_they_time_out_but_not_below_the_start() -> None:
    """Slow answers lower it before they time out but not below the start."""
    limit = ConcurrencyLimit(64, 30.0)
    answered(limit, 100)
    for number in range(20):
        limit.answered(10.0 * number, 10.0 * number + 13.0, limit.value)
    assert limit.value == START


def test_time_outs_lower_it_to_one() -> None:
    """Time outs lower it to one."""
    limit = ConcurrencyLimit(64, 30.0)
    for number in range(20):
        limit.overloaded(number, number + 1.0)
    assert limit.value == 1


def test_after_an_outage_it_begins_with_one_call_and_doubles_up_to_half() -> None:
    """After an outage it begins with one call and doubles up to half."""
    limit = ConcurrencyLimit(64, 30.0)
    answered(limit, 100)
    limit.restart(5.0)
    assert limit.value == 1
    answered(limit, 31, at=6.0)
    assert limit.value == 32
    answered(limit, 32, at=6.0)
    assert limit.value == 33


@pytest.mark.parametrize("seed", range(3))
def test_service_that_gets_slower_is_used_without_time_outs(seed: int) -> None:
    """Twice as slow, and twice again; beyond ten calls at once it only gets slower. The deadline of a call is 2 s."""
    world = World(Service(latency=0.1, capacity=10), 2, seed=seed).run(30.0)
    for begin, possible in ((30.0, 50), (60.0, 25)):
        world.service.latency *= 2
        world.run(begin + 30)
        assert len(world.between(begin + 10, begin + 30, "ok")) / 20 >= possible * 0.5
    assert len(world.between(0, 90, "timeout")) <= 0.02 * len(world.between(0, 90))


@pytest.mark.parametrize(("limit", "expected"), [(1, 8), (4, 8), (5, 16), (16, 32), (17, 64), (64, 64), (1000, 64)])
def test_prefetch_rises_to_twice_the_limit_at_once(limit: int, expected: int) -> None:
    """Rises to twice the limit at once."""
    assert fitting_prefetch(8, limit, 64) == expected


@pytest.mark.parametrize(("limit", "expected"), [(30, 64), (16, 64), (10, 32), (8, 32), (5, 16), (1, 8)])
def test_prefetch_falls_later_than_it_rises(limit: int, expected: int) -> None:
    """So that a limit that goes up and down does not take it along."""
    assert fitting_prefetch(64, limit, 64) == expected


@pytest.mark.parametrize("ceiling", [1, 3, 8])
def test_prefetch_never_exceeds_what_is_configured(ceiling: int) -> None:
    """Never exceeds what is configured."""
    assert fitting_prefetch(ceiling, 64, ceiling) == ceiling
