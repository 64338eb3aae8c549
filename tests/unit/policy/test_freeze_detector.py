"""The pulse: freezes of this process are noticed."""

from tests.fakes.clock import FakeClock
from worker.policy.freeze_detector import FROZEN_AFTER, FreezeDetector


def test_a_steady_pulse_counts_nothing() -> None:
    """Beats in time, up to the very limit, are no freeze."""
    clock = FakeClock(100.0)
    freeze_detector = FreezeDetector(clock)
    for pause in (0.0, 1.0, FROZEN_AFTER):
        clock.now += pause
        assert freeze_detector.tick() == 0


def test_every_freeze_counts_once() -> None:
    """A pause beyond the limit counts one, whatever its length, and the beats after it none."""
    clock = FakeClock(100.0)
    freeze_detector = FreezeDetector(clock)
    clock.now += FROZEN_AFTER + 0.1
    assert freeze_detector.tick() == 1
    assert freeze_detector.tick() == 1
    clock.now += 10_000.0
    assert freeze_detector.tick() == 2
    assert repr(freeze_detector) == "<FreezeDetector: 2 freezes>"


def test_the_time_before_the_first_beat_counts() -> None:
    """A process that froze between start and first beat did freeze."""
    clock = FakeClock(100.0)
    freeze_detector = FreezeDetector(clock)
    clock.now += 60.0
    assert freeze_detector.tick() == 1
