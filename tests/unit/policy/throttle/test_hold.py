"""Holds of regions and credentials: checked by a probe at once, kept until a probe is accepted."""

import pytest

from worker.policy.call_result import ErrorScope
from worker.policy.throttle.hold import (
    CREDENTIALS_TIMES,
    PROJECT_TIMES,
    REGION_TIMES,
    UNCLEAR_SECONDS,
    Hold,
    ProbeTimes,
)


def credentials() -> Hold:
    """A hold of credentials."""
    return Hold("credentials", (ErrorScope.CREDENTIALS,), CREDENTIALS_TIMES)


def test_first_refusal_is_checked_at_once() -> None:
    """First refusal is checked at once."""
    hold = credentials()
    assert (hold.is_blocking, repr(hold)) == (False, "<Hold credentials: free>")
    assert hold.refused("no", 100.0, 0.0)
    assert (hold.is_blocking, hold.is_held, hold.probes.at, hold.since) == (True, False, 100.0, 100.0)
    assert not hold.refused("no", 101.0, 0.0)
    assert repr(hold) == "<Hold credentials: checking>"


def test_refused_probe_holds_and_accepted_one_releases() -> None:
    """Refused probe holds and accepted one releases."""
    hold = credentials()
    hold.refused("no", 100.0, 0.0)
    hold.probe_ended(True, "still no", 100.1, 0.0)
    assert (hold.is_blocking, hold.is_held, hold.message) == (True, True, "still no")
    hold.probe_ended(False, "", 160.0, 0.0)
    assert (hold.is_blocking, hold.is_held) == (False, False)
    assert hold.refused("again", 200.0, 0.0)


def test_locked_key_is_not_probed_before_its_time() -> None:
    """Neither at once, nor after a probe that met the lock."""
    hold = credentials()
    hold.refused("locked", 100.0, 300.0)
    assert (hold.is_held, hold.probes.at) == (True, 400.0)
    hold.probes.schedule(400.0, 0.0)
    hold.probe_ended(True, "locked", 400.1, 300.0)
    assert hold.probes.at == pytest.approx(700.1)


def test_unclear_probe_is_no_refusal_and_is_soon_repeated() -> None:
    """Unclear probe is no refusal and is soon repeated."""
    hold = credentials()
    hold.refused("no", 100.0, 0.0)
    hold.probes.schedule(100.0, 0.0)
    hold.probe_ended(None, "", 101.0, 0.0)
    assert (hold.is_held, hold.probes.at, hold.message) == (True, 101.0 + UNCLEAR_SECONDS, "no")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (CREDENTIALS_TIMES, [60, 120, 240, 300, 300]),
        (PROJECT_TIMES, [10, 20, 40, 80, 160]),
        (REGION_TIMES, [2, 3, 4.5, 6.4, 6.4]),
    ],
)
def test_probes_come_further_and_further_apart(times: tuple[float, float, float, float], expected: list[float]) -> None:
    """Probes come further and further apart."""
    probes, now = ProbeTimes(*times), 0.0
    for least in expected:
        probes.schedule(now, 0.999)
        assert least <= probes.at - now <= least * 1.25
        now = probes.at
    probes.reset()
    probes.schedule(now, 0.0)
    assert probes.at - now == expected[0]
