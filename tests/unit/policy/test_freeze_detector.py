"""The pulse: freezes of this process are noticed."""

from tests.fakes.clock import FakeClock
from worker.policy.pulse import FROZEN_AFTER, Pulse


def test_a_steady_pulse_counts_nothing() -> None:
    """Beats in time, up to the very limit, are no freeze."""
    clock = FakeClock(100.0)
    pulse = Pulse(clock)
    for pause in (0.0, 1.0, FROZEN_AFTER):
        clock.now += pause
        assert pulse.beat() == 0


def test_every_freeze_counts_once() -> None:
    """A pause beyond the limit counts one, whatever its length, and the beats after it none."""
    clock = FakeClock(100.0)
    pulse = Pulse(clock)
    clock.now += FROZEN_AFTER + 0.1
    assert pulse.beat() == 1
    assert pulse.beat() == 1
    clock.now += 10_000.0
    assert pulse.beat() == 2
    assert repr(pulse) == "<Pulse: 2 freezes>"


def test_the_time_before_the_first_beat_counts() -> None:
    """A process that froze between start and first beat did freeze."""
    clock = FakeClock(100.0)
    pulse = Pulse(clock)
    clock.now += 60.0
    assert pulse.beat() == 1
