"""Whether a claim is still surely ours, by the monotonic clock."""

from dataclasses import replace

import pytest

from tests.fakes.clock import FakeClock
from tests.unit.claims.sample_migration import MIGRATION
from worker.claims.leases import MAX_RENEWAL_SECONDS, Leases
from worker.claims.scripts import FORGOTTEN, OURS, PROCESS_DIGITS, REGAINED


@pytest.fixture
def clock() -> FakeClock:
    """The clock of `leases`."""
    return FakeClock(1000.0)


@pytest.fixture
def leases(clock: FakeClock) -> Leases:
    """Leases of 30 seconds."""
    return Leases(30.0, clock)


def test_a_lease_is_held_from_before_it_was_asked_for(leases: Leases, clock: FakeClock) -> None:
    """A grant counts for 25 of 30 seconds, from when the command was sent and not from when it was answered."""
    lease = leases.open(MIGRATION)
    asked_at, clock.now = clock.now, clock.now + 20
    assert not leases.is_held(MIGRATION)
    leases.granted(lease, asked_at)
    assert leases.is_held(MIGRATION)
    clock.now = asked_at + 24.9
    assert leases.is_held(MIGRATION)
    clock.now = asked_at + 25
    assert not leases.is_held(MIGRATION)


def test_a_grant_that_comes_too_late_is_not_held(leases: Leases, clock: FakeClock) -> None:
    """A process that was frozen between asking and hearing does not count on the claim."""
    lease = leases.open(MIGRATION)
    asked_at, clock.now = clock.now, clock.now + 60
    leases.granted(lease, asked_at)
    assert not leases.is_held(MIGRATION)


def test_a_lease_that_ran_out_and_was_found_again_is_held(leases: Leases, clock: FakeClock) -> None:
    """Redis still had the claim, so no other replica can have had the request."""
    lease = leases.open(MIGRATION)
    leases.granted(lease, clock.now)
    clock.now += 60
    leases.renewed(lease, clock.now, OURS)
    assert leases.is_held(MIGRATION)


@pytest.mark.parametrize(("elapsed", "is_held"), [(10.0, True), (60.0, False)])
def test_a_lease_that_redis_forgot(leases: Leases, clock: FakeClock, elapsed: float, is_held: bool) -> None:
    """A claim that was restored is held only if it had not run out; else it never is again."""
    lease = leases.open(MIGRATION)
    leases.granted(lease, clock.now)
    clock.now += elapsed
    leases.renewed(lease, clock.now, FORGOTTEN)
    assert leases.is_held(MIGRATION) is is_held
    leases.renewed(lease, clock.now, OURS)
    assert leases.is_held(MIGRATION) is is_held


def test_a_lease_that_another_had_in_between(leases: Leases, clock: FakeClock) -> None:
    """A claim that Redis gave to another meanwhile is not held, however young it is, and never again."""
    lease = leases.open(MIGRATION)
    leases.granted(lease, clock.now)
    for found in (REGAINED, OURS):
        leases.renewed(lease, clock.now, found)
        assert not leases.is_held(MIGRATION)


def test_a_lease_that_was_never_granted_is_not_held(leases: Leases, clock: FakeClock) -> None:
    """A renewal makes no grant of a take whose answer is not known."""
    lease = leases.open(MIGRATION)
    leases.renewed(lease, clock.now, OURS)
    assert not leases.is_held(MIGRATION)


def test_a_lease_is_renewed_for_an_hour_at_most(leases: Leases, clock: FakeClock) -> None:
    """A claim that is never given up ends by itself; younger ones do not."""
    leases.open(MIGRATION)
    clock.now += MAX_RENEWAL_SECONDS
    young = leases.open(replace(MIGRATION, request_id="r-2"))
    assert len(leases.to_renew()) == 2
    clock.now += 1
    assert leases.to_renew() == [young]
    assert leases.get(MIGRATION) is None


def test_closing_an_old_lease_does_not_end_the_next(leases: Leases) -> None:
    """Every lease has a token of its own and is closed for itself."""
    old = leases.open(MIGRATION)
    leases.close(old)
    new = leases.open(MIGRATION)
    leases.close(old)
    assert leases.get(MIGRATION) is new
    assert old.token != new.token
    assert old.token[:PROCESS_DIGITS] == new.token[:PROCESS_DIGITS]


def test_two_processes_have_different_tokens(leases: Leases, clock: FakeClock) -> None:
    """The part of a token that names the process is another for each."""
    tokens = {of.open(MIGRATION).token[:PROCESS_DIGITS] for of in (leases, Leases(30.0, clock))}
    assert len(tokens) == 2
