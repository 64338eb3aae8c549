"""The breaker: opened by failures of several requests, asked again by single probes, closed by the first success."""

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker.policy.breaker import PATIENCE, STEADY, Breaker, State
from worker.policy.tempo import OF_PROJECT, Tempo

from tests.unit.policy.throttle.service_model import Service, World


def opened(random_unit: float = 1.0, tempo: Tempo | None = None) -> Breaker:
    """A breaker that five requests have just opened, at the time 0."""
    breaker = Breaker(tempo)
    assert [breaker.failed(0, request, 0.0, random_unit) for request in range(5)] == [False] * 4 + [True]
    return breaker


def probe(breaker: Breaker, now: float) -> tuple[float, int]:
    """Wait for the next probe, and begin it; when, and its generation."""
    now += breaker.wait(now)
    return now, breaker.begin(now, 1.0)


def test_closed_it_lets_everything_through() -> None:
    """No wait, and calls change nothing."""
    breaker = Breaker()
    assert (breaker.wait(0.0), breaker.begin(0.0, 0.5), breaker.state) == (0.0, 0, State.CLOSED)
    assert not breaker.succeeded(0)
    assert repr(breaker) == "<Breaker: closed>"


@pytest.mark.parametrize(
    ("requests", "is_open"),
    [
        ("aaaaaaaaaaaaaaaaaaaaaaaa", False),
        ("abababababababababababab", False),
        ("abcd", False),
        ("aaabc", True),
        ("abcde", True),
        ("ab.cd.ef.gh.ij.kl.mn.op", False),
        ("abcd.efgh.ijkl.mnop.qrst.uvwx", True),
        ("................abcd", False),
    ],
)
def test_what_opens_it(requests: str, is_open: bool) -> None:
    """Five failures in a row or half of the last calls, but never one or two requests; a dot is a success."""
    breaker = Breaker()
    for request in requests:
        if request == ".":
            breaker.succeeded(0)
        else:
            breaker.failed(0, request, 1.0, 0.5)
    assert breaker.is_open is is_open


@given(st.lists(st.sampled_from("ab."), max_size=200))
def test_two_requests_never_open_it(endings: list[str]) -> None:
    """However often they fail: each may be to blame for its own failures."""
    breaker = Breaker()
    for ending in endings:
        if ending == ".":
            breaker.succeeded(0)
        else:
            assert not breaker.failed(0, ending, 0.0, 0.5)
    assert breaker.state is State.CLOSED


def test_open_it_waits_before_it_probes() -> None:
    """Two seconds, so that two replicas make no more than one call per second together."""
    breaker = opened()
    assert (breaker.state, breaker.since, breaker.wait(0.5)) == (State.OPEN, 0.0, 1.5)


def test_probes_are_single() -> None:
    """While one is under way none other begins, for some seconds; its failure schedules the next one."""
    breaker = opened()
    now, generation = probe(breaker, 0.0)
    assert (now, breaker.state) == (2.0, State.HALF_OPEN)
    assert breaker.wait(now) == PATIENCE
    assert not breaker.failed(generation, "f", 2.1, 1.0)
    assert breaker.state is State.OPEN
    assert breaker.wait(2.1) == pytest.approx(2.0 + 2.4 - 2.1)


def test_a_probe_without_an_answer_does_not_keep_the_others_back_for_ever() -> None:
    """A service that swallows calls is probed every few seconds, long before the calls time out."""
    breaker = opened()
    times = [0.0]
    for _ in range(6):
        times.append(probe(breaker, times[-1])[0])
    assert all(PATIENCE <= later - earlier <= 15.0 for earlier, later in pairwise(times[1:]))


def test_the_first_success_of_a_probe_closes_it() -> None:
    """And whatever began before, or was still under way, changes nothing any more."""
    breaker = opened()
    _, generation = probe(breaker, 0.0)
    assert not breaker.succeeded(0)
    assert not breaker.failed(0, "late", 2.5, 0.5)
    assert [breaker.is_open, breaker.succeeded(generation), breaker.is_open] == [True, True, False]
    assert not any(breaker.failed(generation, request, 3.0, 0.5) for request in range(20))


def test_a_probe_without_result_lets_another_start() -> None:
    """A delivery that was gone by then costs the others no time."""
    breaker = opened()
    now, generation = probe(breaker, 0.0)
    breaker.void(generation)
    assert (breaker.state, breaker.wait(now)) == (State.OPEN, 0.0)
    breaker.void(generation)
    closed = Breaker()
    closed.void(0)
    assert closed.state is State.CLOSED


def test_a_probe_that_was_throttled_leaves_the_next_one_its_time() -> None:
    """It was made, unlike one that is void; and a call from before the outage changes nothing."""
    breaker = opened()
    now, generation = probe(breaker, 0.0)
    breaker.passed(generation - 1)
    assert breaker.state is State.HALF_OPEN
    breaker.passed(generation)
    assert repr(breaker) == "<Breaker: open>"
    assert breaker.wait(now) == pytest.approx(2.4)


@given(st.lists(st.floats(0.0, 0.999), min_size=40, max_size=40))
def test_probes_come_further_and_further_apart(chances: list[float]) -> None:
    """Never less than two seconds, never more than fifteen, and a fifth more each time but for the jitter."""
    breaker = opened(chances[0])
    times = [breaker.wait(0.0)]
    for random_unit in chances[1:]:
        now = times[-1]
        breaker.failed(breaker.begin(now, random_unit), "r", now, random_unit)
        times.append(now + breaker.wait(now))
    gaps = [later - earlier for earlier, later in pairwise([0.0, *times])]
    assert all(2.0 - 1e-6 <= gap <= 15.0 + 1e-6 for gap in gaps)
    assert sum(gaps[-5:]) > sum(gaps[:5]) * 3


def test_an_outage_that_comes_back_goes_on_with_its_intervals() -> None:
    """Only after some successes in a row the next one begins with short intervals again."""
    breaker = opened()
    now = 0.0
    for _ in range(8):
        now, generation = probe(breaker, now)
        breaker.failed(generation, "r", now, 1.0)
    now, generation = probe(breaker, now)
    breaker.succeeded(generation)
    for request in range(5):
        breaker.failed(breaker.generation, request, now, 1.0)
    assert breaker.wait(now) > 8.0
    now, generation = probe(breaker, now)
    breaker.succeeded(generation)
    for _ in range(STEADY):
        breaker.succeeded(breaker.generation)
    for request in range(5):
        breaker.failed(breaker.generation, request, now, 1.0)
    assert breaker.wait(now) == 2.0


def test_a_project_is_asked_more_seldom() -> None:
    """Ten seconds, then twice as long each time, up to five minutes; the share of failures says nothing."""
    breaker = opened(tempo=OF_PROJECT)
    now, gaps = 0.0, []
    for _ in range(8):
        later, generation = probe(breaker, now)
        gaps.append(later - now)
        now = later
        breaker.failed(generation, "r", now, 1.0)
    assert gaps == [10, 20, 40, 80, 160, 300, 300, 300]
    mixed = Breaker(OF_PROJECT)
    for request in range(100):
        mixed.failed(0, request, 0.0, 0.5)
        mixed.failed(0, -request, 0.0, 0.5)
        mixed.succeeded(0)
    assert not mixed.is_open


@pytest.mark.parametrize("seed", range(20))
def test_an_outage_of_thirty_seconds(seed: int) -> None:
    """Two replicas make a call per second at most, succeed within 10 s of the return, and ramp up."""
    world = World(Service(latency=0.05), 2, seed=seed).run(5)
    world.service.is_down = True
    world.run(35)
    world.service.is_down = False
    assert all(replica.breaker.is_open for replica in world.replicas)
    assert len(world.between(6, 35)) <= 29
    world.run(60)
    first = world.between(35, 60, "ok")[0].at
    assert first <= 45
    ramp = [len(world.between(first + n * 0.06, first + (n + 1) * 0.06)) for n in range(5)]
    assert ramp[0] <= 4
    assert len(world.between(58, 60)) > 1000


def test_late_results_are_ignored_in_any_order() -> None:
    """Any interleaving of old endings leaves an open breaker open, and a closed one closed."""
    rng = random.Random(3)
    breaker = opened()
    for _ in range(200):
        if rng.random() < 0.5:
            breaker.succeeded(0)
        else:
            breaker.failed(0, rng.random(), 1.0, 0.5)
    assert (breaker.state, breaker.wait(1.0)) == (State.OPEN, 1.0)
