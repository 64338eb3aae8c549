"""What is taken in: nothing during an outage but probes, else as much as can be worked on."""

from math import inf

import pytest
from worker.policy.intake import Intake, Region, Wish


def region(
    limit: int = 64, waiting: int = 0, in_use: int = 0, probe_in: float | None = None, idle: float = 0.0
) -> Region:
    """A region that was used just now."""
    return Region(limit, waiting, in_use, probe_in, idle)


def test_in_good_health_everything_is_taken_in() -> None:
    """The prefetch that was configured, without a pause."""
    intake = Intake(64)
    assert intake.wish([region()], 0.0) == Wish(False, 64)
    assert repr(intake) == "<Intake: 64>"


@pytest.mark.parametrize(("waiting", "in_use"), [(3, 0), (0, 1)])
def test_an_outage_pauses_while_anything_is_in_hand(waiting: int, in_use: int) -> None:
    """What is in hand will be the probes."""
    assert Intake(64).wish([region(waiting=waiting, in_use=in_use, probe_in=3.0)], 0.0) == Wish(True, 64)


def test_a_probe_is_taken_in_when_nothing_is_in_hand() -> None:
    """One request, and not before it is time."""
    intake = Intake(64)
    assert intake.wish([region(probe_in=3.0)], 0.0) == Wish(True, 64, 3.0)
    assert intake.wish([region(probe_in=0.0)], 3.0) == Wish(False, 1)
    assert intake.wish([region(probe_in=None)], 4.0) == Wish(False, 64)


def test_a_healthy_region_keeps_the_intake_open() -> None:
    """Its requests share the queue with those of the sick one."""
    assert not Intake(64).wish([region(probe_in=3.0, waiting=2), region()], 0.0).is_paused


@pytest.mark.parametrize("idle", [600.0, inf])
def test_a_region_that_is_not_used_does_so_now_and_then(idle: float) -> None:
    """Nobody asked for it for ten minutes: the queue is looked through for half a minute in five."""
    intake, regions = Intake(64), [region(probe_in=3.0, waiting=2), region(idle=idle)]
    assert intake.wish(regions, 100.0) == Wish(False, 64, 30.0)
    assert intake.wish(regions, 110.0) == Wish(False, 64, 20.0)
    assert [intake.wish(regions, now).is_paused for now in (130.0, 399.0, 400.0, 429.0, 430.0)] == [
        *(True, True),
        *(False, False),
        True,
    ]


def test_before_the_first_request_nothing_is_paused() -> None:
    """No region was used yet, none is sick."""
    assert Intake(64).wish([region(idle=inf), region(idle=inf)], 0.0) == Wish(False, 64)


def test_a_larger_prefetch_ends_after_a_while() -> None:
    """More waits than may be called at once, for five seconds: then less is taken in, and again more with the limit."""
    intake = Intake(64)
    assert intake.wish([region(limit=8, waiting=56)], 0.0) == Wish(False, 64, 5.0)
    assert intake.wish([region(limit=8, waiting=56)], 3.0) == Wish(False, 64, 2.0)
    assert intake.wish([region(limit=8, waiting=56)], 5.0) == Wish(False, 16)
    assert intake.wish([region(limit=9, waiting=8)], 6.0) == Wish(False, 16)
    assert intake.wish([region(limit=12, waiting=8)], 7.0) == Wish(False, 32)
    assert intake.wish([region(limit=40, waiting=0)], 8.0) == Wish(False, 64)


def test_a_low_limit_alone_is_no_hoarding() -> None:
    """A new worker, or one with nothing to do, stays ready for more; so does one that recovered meanwhile."""
    intake = Intake(64)
    assert intake.wish([region(limit=8, waiting=2)], 0.0) == Wish(False, 64)
    assert intake.wish([region(limit=8, waiting=56)], 1.0).again_in == 5.0
    assert intake.wish([region(limit=64, waiting=56)], 3.0) == Wish(False, 64)
    assert intake.wish([region(limit=8, waiting=56)], 7.0).again_in == 5.0


def test_what_is_configured_is_never_exceeded() -> None:
    """Not by the limits of several regions together, and a prefetch of one stays one."""
    assert Intake(64).wish([region(), region()], 0.0) == Wish(False, 64)
    small = Intake(1)
    assert small.wish([region(limit=1, waiting=9)], 0.0) == Wish(False, 1)
    assert small.wish([region(limit=1, waiting=9)], 9.0) == Wish(False, 1)
