"""Holds of regions and credentials: checked by a probe at once, kept until a probe is accepted."""

from dataclasses import replace

import pytest

from worker.policy.call_result import (
    CallError,
    CallStatus,
    Condition,
    ErrorKind,
    ErrorScope,
    Evidence,
    TaskNotFound,
)
from worker.policy.throttle.hold import (
    CREDENTIALS_TIMES,
    PROJECT_TIMES,
    REGION_TIMES,
    UNCLEAR_SECONDS,
    Hold,
    ProbeTimes,
)

REFUSED = CallError(Evidence.REFUSED, ErrorKind.UNAUTHENTICATED, CallStatus.ANSWERED, "no", http_status=401)
STILL_REFUSED, LOCKED = replace(REFUSED, message="still no"), replace(REFUSED, condition=Condition.KEY_LOCKED)
OUTAGE = CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT)


def credentials() -> Hold:
    """A hold of credentials."""
    return Hold("credentials", (ErrorScope.CREDENTIALS,), CREDENTIALS_TIMES)


def test_first_refusal_is_checked_at_once() -> None:
    """First refusal is checked at once."""
    hold = credentials()
    assert (hold.is_blocking, repr(hold)) == (False, "<Hold credentials: free>")
    assert hold.refused(REFUSED, 100.0)
    assert (hold.is_blocking, hold.is_held, hold.probes.at, hold.since) == (True, False, 100.0, 100.0)
    assert not hold.refused(REFUSED, 101.0)
    assert repr(hold) == "<Hold credentials: checking>"


def test_refused_probe_holds_and_accepted_one_releases() -> None:
    """Refused probe holds and accepted one releases."""
    hold = credentials()
    hold.refused(REFUSED, 100.0)
    assert hold.probe_ended(STILL_REFUSED, 100.1) == "held"
    assert (hold.is_blocking, hold.is_held, hold.message) == (True, True, STILL_REFUSED.description)
    assert hold.probe_ended(STILL_REFUSED, 130.0) == "probed"
    assert hold.probe_ended(TaskNotFound(), 160.0) == "released"
    assert (hold.is_blocking, hold.is_held) == (False, False)
    assert hold.refused(REFUSED, 200.0)


def test_accepted_first_probe_is_no_event() -> None:
    """Nothing was held, so nothing is released."""
    hold = credentials()
    hold.refused(REFUSED, 100.0)
    assert hold.probe_ended(TaskNotFound(), 100.1) == ""


def test_locked_key_is_not_probed_before_its_time() -> None:
    """Neither at once, nor after a probe that met the lock."""
    hold = credentials()
    hold.refused(LOCKED, 100.0)
    assert (hold.is_held, hold.probes.at) == (True, 400.0)
    hold.probes.schedule(400.0, 0.0)
    hold.probe_ended(LOCKED, 400.1)
    assert hold.probes.at == pytest.approx(700.1)


def test_unclear_probe_is_no_refusal_and_is_soon_repeated() -> None:
    """Unclear probe is no refusal and is soon repeated."""
    hold = credentials()
    hold.refused(REFUSED, 100.0)
    hold.probes.schedule(100.0, 0.0)
    hold.probe_ended(OUTAGE, 101.0)
    assert (hold.is_held, hold.probes.at, hold.message) == (True, 101.0 + UNCLEAR_SECONDS, REFUSED.description)


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
