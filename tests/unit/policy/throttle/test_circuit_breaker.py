"""The circuit breaker: when it opens, how it is probed, how it closes."""

import pytest

from tests.unit.policy.throttle.service_model import Service, World
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence, TaskNotFound
from worker.policy.throttle.circuit_breaker import BreakerState, CircuitBreaker

OUTAGE = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)
NEVER_SENT = CallError(Evidence.NEVER_SENT, ErrorKind.RETRY, CallStatus.FROZEN)
NO_KEYS = CallError(Evidence.NEVER_SENT, ErrorKind.UNAUTHENTICATED, CallStatus.NO_CREDENTIALS)


def fail(breaker: CircuitBreaker, *requests: str, now: float = 0.0) -> list[str]:
    """Failures of these requests; what each did."""
    return [breaker.failed(breaker.generation, request, now, 0.0) for request in requests]


def opened() -> CircuitBreaker:
    """An open breaker."""
    breaker = CircuitBreaker()
    assert fail(breaker, *"abcde")[-1]
    return breaker


def test_five_failures_in_a_row_of_three_requests_open_it() -> None:
    """Five failures in a row of three requests open it."""
    breaker = CircuitBreaker()
    assert fail(breaker, *"aabbc") == [""] * 4 + ["opened"]
    assert (breaker.state, breaker.is_blocking, repr(breaker)) == (BreakerState.OPEN, True, "<CircuitBreaker: open>")


def test_one_request_alone_never_opens_it() -> None:
    """One request alone never opens it."""
    breaker = CircuitBreaker()
    assert not any(fail(breaker, *"abababab" * 20))


def test_success_ends_the_row() -> None:
    """Success ends the row."""
    breaker = CircuitBreaker()
    for _ in range(2):
        assert not any(fail(breaker, *"abcd"))
        breaker.succeeded(breaker.generation)
    assert not breaker.is_blocking


def test_answers_of_another_party_to_three_requests_open_it() -> None:
    """A proxy that answers three different requests in a row answers all; one request may itself be the cause."""
    breaker = CircuitBreaker()
    row = [breaker.failed(breaker.generation, request, 0.0, 0.0, is_foreign=True) for request in "aabbac"]
    assert row == [""] * 5 + ["opened"]
    breaker = CircuitBreaker()
    for request in "abcdefgh":
        assert not breaker.failed(breaker.generation, request, 0.0, 0.0, is_foreign=True)
        breaker.succeeded(breaker.generation)
        breaker.succeeded(breaker.generation)


def test_half_of_the_last_twenty_calls_open_it() -> None:
    """Half of the last twenty calls open it."""
    breaker, told = CircuitBreaker(), []
    for number in range(10):
        told += fail(breaker, f"r{number}")
        breaker.succeeded(breaker.generation)
    assert told == [""] * 9 + ["opened"]


def test_fewer_than_half_do_not() -> None:
    """Fewer than half do not."""
    breaker = CircuitBreaker()
    for number in range(100):
        assert not any(fail(breaker, f"r{number}"))
        for _ in range(2):
            breaker.succeeded(breaker.generation)


def test_what_began_before_tells_nothing_about_the_time_after() -> None:
    """What began before tells nothing about the time after."""
    breaker = CircuitBreaker()
    old = breaker.generation
    fail(breaker, *"abcde")
    assert not breaker.succeeded(old)
    assert not breaker.failed(old, "f", 1.0, 0.0)
    assert breaker.is_blocking


@pytest.mark.parametrize("random_unit", [0.0, 0.999])
def test_probes_are_two_to_eight_seconds_apart(random_unit: float) -> None:
    """Probes are two to eight seconds apart."""
    breaker, now, waits = CircuitBreaker(), 100.0, []
    for request in "abcde":
        breaker.failed(breaker.generation, request, now, random_unit)
    for _ in range(10):
        waits.append(breaker.probes.at - now)
        now = breaker.probes.at
        breaker.probes.schedule(now, random_unit)
        breaker.probe_ended(OUTAGE, now)
    assert waits == sorted(waits)
    assert (waits[0] >= 2.0, waits[-1] <= 8.0) == (True, True)


def test_only_an_answered_probe_lets_requests_try() -> None:
    """Only an answered probe lets requests try."""
    breaker = opened()
    for result in (OUTAGE, NEVER_SENT, NO_KEYS):
        assert breaker.probe_ended(result, 1.0) == "probed"
        assert (breaker.is_blocking, breaker.error) == (True, OUTAGE)  # the service was not asked by the others
    breaker.probe_ended(TaskNotFound(), 2.0)
    assert (breaker.state, breaker.is_blocking) == (BreakerState.HALF_OPEN, False)


def test_first_success_closes_it_and_first_failure_opens_it_again() -> None:
    """First success closes it and first failure opens it again."""
    breaker = opened()
    breaker.probe_ended(TaskNotFound(), 1.0)
    assert fail(breaker, "a", now=5.0) == ["probed"]
    assert (breaker.state, breaker.since) == (BreakerState.OPEN, 0.0)
    breaker.probe_ended(TaskNotFound(), 6.0)
    assert breaker.succeeded(breaker.generation) == "closed"
    assert breaker.state is BreakerState.CLOSED
    assert fail(breaker, *"abcd") == [""] * 4


def test_outage_of_a_modelled_service() -> None:
    """Two replicas: a call a second together while it is away, the first success soon after its return."""
    world = World(Service(), 2).run(10.0)
    world.service.is_down = True
    world.run(40.0)
    assert len(world.between(11, 40)) <= 29
    world.service.is_down = False
    world.run(60.0)
    assert min(call.at for call in world.between(40, 60, "ok")) <= 49
    assert len(world.between(55, 60, "ok")) >= 5 * 500
