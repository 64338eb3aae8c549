"""Projects in trouble: who of them goes through, who waits in hand, who is postponed and for how long."""

from collections import Counter
from math import inf

import pytest

from worker.policy.call_result import NamedLimit
from worker.policy.throttle.project_hold import CREDENTIALS, QUOTA, THROTTLED, ProjectHold, RetrySpread

DELAYS = (10.0, 60.0, 300.0, 1800.0)
FIVE = NamedLimit(5, 1.0)


def throttled(at: float = 0.0, limit: NamedLimit = FIVE) -> ProjectHold:
    """A project that was throttled once."""
    project = ProjectHold(DELAYS)
    assert project.throttled(at, at, limit, None)
    return project


def test_project_without_trouble_waits_for_nothing() -> None:
    """Project without trouble waits for nothing."""
    project = ProjectHold(DELAYS)
    assert (project.wait(2, 0.0), project.why(0.0), project.is_idle(0.0)) == (0.0, "", True)
    assert project.postpone(3, 64, 0.0, 0.0) is None


def test_throttled_project_lets_one_at_a_time_through_until_a_call_is_granted() -> None:
    """Throttled project lets one at a time through until a call is granted."""
    project = throttled()
    until = project.wait(2, 0.0)
    assert 0.0 < until < 2.0
    assert project.wait(2, until) == pytest.approx(0.0, abs=0.01)
    assert project.begin(2, until)
    assert project.wait(1, 10.0) == inf
    assert not project.accepted(is_created=False, is_judged=False)
    project.end(1, until, is_probe=True)
    assert (project.reason, project.why(10.0)) == ("", THROTTLED)
    assert project.wait(1, 10.0) == 0.0
    assert not project.begin(1, 10.0)


def test_permit_that_is_no_probe_leaves_the_probe_alone() -> None:
    """Permit that is no probe leaves the probe alone."""
    project = ProjectHold(DELAYS)
    assert not project.begin(1, 0.0)
    project.throttled(0.0, 0.0, FIVE, None)
    assert project.begin(1, 5.0)
    project.end(0, 0.0, is_probe=False)
    assert project.wait(1, 6.0) == inf


@pytest.mark.parametrize(("reason", "requests"), [(QUOTA, 1), (CREDENTIALS, 3)])
def test_refused_project_is_held(reason: str, requests: int) -> None:
    """A full one at once, one refused to the credentials after three different requests."""
    project = ProjectHold(DELAYS)
    assert not project.refused(CREDENTIALS, "r0", 0.0, 0.0)
    told = [project.refused(reason, f"r{number}", 0.0, 0.0) for number in range(requests)]
    assert told == [False] * (requests - 1) + [True]
    assert project.wait(2, 0.0) == 10.0
    assert project.postpone(0, 64, -inf, 0.0) == (10.0, reason)
    assert project.postpone(0, 64, -inf, 10.0) is None
    assert project.begin(2, 10.0)
    assert project.postpone(0, 64, -inf, 10.0) == (10.0, reason)
    assert not project.refused(reason, "r9", 10.1, 0.0)
    project.end(0, 10.0, is_probe=True)
    assert project.wait(2, 10.1) == pytest.approx(20.0)


@pytest.mark.parametrize(("reason", "by_judgement"), [(QUOTA, False), (CREDENTIALS, True)])
def test_hold_ends_by_proof_only(reason: str, by_judgement: bool) -> None:
    """A look proves nothing; what judges a request has let its project in, but need not have room in it."""
    project = ProjectHold(DELAYS)
    for number in range(3):
        project.refused(reason, f"r{number}", 0.0, 0.0)
    assert not project.accepted(is_created=False, is_judged=False)
    assert project.accepted(is_created=False, is_judged=True) is by_judgement
    assert by_judgement or project.accepted(is_created=True, is_judged=False)
    assert project.is_idle(400.0)


def test_refusals_here_and_there_hold_nothing() -> None:
    """Refusals here and there hold nothing."""
    project = ProjectHold(DELAYS)
    for number in range(20):
        assert not project.refused(CREDENTIALS, f"r{number}", number, 0.0)
        project.accepted(is_created=True, is_judged=False)


def test_throttled_requests_wait_in_hand_for_ten_seconds_at_most() -> None:
    """Five calls a second: a quarter of the hands while others come or may come, then as many as have a turn soon."""
    project = throttled()
    for others_at, now, most in ((-inf, 1.0, 16), (49.0, 50.0, 16), (-inf, 50.0, 40)):
        waiting = next(n for n in range(100) if project.postpone(n, 64, others_at, now) is not None)
        assert waiting == pytest.approx(most, abs=3)


def test_postponed_requests_come_back_as_they_can_be_used() -> None:
    """Each queue takes what can be used until those of the next one come back."""
    spread = RetrySpread(DELAYS)
    assert Counter(spread.choose(2.0, 0.0, 1.0) for _ in range(5000)) == {
        10.0: 120,
        60.0: 600,
        300.0: 3600,
        1800.0: 680,
    }
    assert spread.choose(2.0, 0.0, 11.5) == 10.0
    assert spread.choose(2.0, 100.0, 400.0) == 300.0
    assert RetrySpread((50.0,)).choose(1.0, 90.0, 0.0) == 50.0
