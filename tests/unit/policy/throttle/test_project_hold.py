"""Projects in trouble: who of them goes through, who waits in hand, who is postponed and for how long."""

from math import inf

import pytest

from worker.policy.call_result import NamedLimit
from worker.policy.throttle.project_hold import (
    CREDENTIALS,
    QUOTA,
    THROTTLED,
    ProjectHold,
    SharedLimit,
)
from worker.policy.throttle.rate_limiter import MAX_RATE_WAIT_SECONDS

DELAYS = (10.0, 60.0, 300.0, 1800.0)
FIVE = NamedLimit(5, 1.0)


def throttled(at: float = 0.0, limit: NamedLimit = FIVE) -> ProjectHold:
    """A project that was throttled once."""
    project = ProjectHold(DELAYS, SharedLimit())
    assert project.throttled(at, at, limit, None)
    return project


def test_project_without_trouble_waits_for_nothing() -> None:
    """Project without trouble waits for nothing."""
    project = ProjectHold(DELAYS, SharedLimit())
    assert (project.wait(2, 0.0), project.why(0.0), project.is_idle(0.0)) == (0.0, "", True)
    assert project.postpone(3, 64, -inf, 0.0) is None


def test_throttled_project_lets_one_at_a_time_through_until_a_call_is_granted() -> None:
    """Throttled project lets one at a time through until a call is granted."""
    project = throttled()
    until = project.wait(2, 0.0)
    assert 0.0 < until < 2.0
    assert project.wait(2, until) == pytest.approx(0.0, abs=0.01)
    assert project.begin()
    assert project.wait(1, 10.0) == inf
    assert not project.accepted(is_created=False, is_judged=False)
    project.end_probe()
    assert (project.reason, project.why(10.0)) == ("", THROTTLED)
    assert project.wait(1, 10.0) == 0.0
    assert not project.begin()


@pytest.mark.parametrize(("reason", "requests"), [(QUOTA, 1), (CREDENTIALS, 3)])
def test_refused_project_is_held(reason: str, requests: int) -> None:
    """A full one at once, one refused to the credentials after three different requests."""
    project = ProjectHold(DELAYS, SharedLimit())
    assert not project.refused(CREDENTIALS, "r0", 0.0, 0.0)
    told = [project.refused(reason, f"r{number}", 0.0, 0.0) for number in range(requests)]
    assert told == [False] * (requests - 1) + [True]
    assert project.wait(2, 0.0) == 10.0
    assert project.postpone(0, 64, -inf, 0.0) == (10.0, reason)
    assert project.postpone(0, 64, -inf, 10.0) is None
    assert project.begin()
    assert project.postpone(0, 64, -inf, 10.0) == (10.0, reason)
    assert not project.refused(reason, "r9", 10.1, 0.0)
    project.end_probe()
    assert project.wait(2, 10.1) == pytest.approx(20.0)


@pytest.mark.parametrize(("reason", "by_judgement"), [(QUOTA, False), (CREDENTIALS, True)])
def test_hold_ends_by_proof_only(reason: str, by_judgement: bool) -> None:
    """A look proves nothing; what judges a request has let its project in, but need not have room in it."""
    project = ProjectHold(DELAYS, SharedLimit())
    for number in range(3):
        project.refused(reason, f"r{number}", 0.0, 0.0)
    assert not project.accepted(is_created=False, is_judged=False)
    assert project.accepted(is_created=False, is_judged=True) is by_judgement
    assert by_judgement or project.accepted(is_created=True, is_judged=False)
    assert project.is_idle(400.0)


def test_refusals_here_and_there_hold_nothing() -> None:
    """Refusals here and there hold nothing."""
    project = ProjectHold(DELAYS, SharedLimit())
    for number in range(20):
        assert not project.refused(CREDENTIALS, f"r{number}", number, 0.0)
        project.accepted(is_created=True, is_judged=False)


def test_throttled_requests_wait_in_hand_for_ten_seconds_at_most() -> None:
    """Five calls a second: a quarter of the prefetch while others come, then as many as have a turn soon."""
    project = throttled()
    for others_at, now, most in ((-inf, 1.0, 16), (49.0, 50.0, 16), (-inf, 50.0, 40)):
        waiting = next(n for n in range(100) if project.postpone(n, 64, others_at, now) is not None)
        assert waiting == pytest.approx(most, abs=3)


def test_slow_project_keeps_no_request_in_hand_for_long() -> None:
    """Five calls a minute: a request makes two, look and create, and with a prefetch of 1 all others wait behind it."""
    project = throttled(limit=NamedLimit(5, 60.0))
    assert project.wait(2, 100.0) == 0.0
    project.limiters[0].take(2, 100.0)
    waits = [project.wait(2, now) for now in map(float, range(100, 140)) if project.postpone(0, 1, -inf, now) is None]
    assert waits
    assert max(waits) <= MAX_RATE_WAIT_SECONDS
