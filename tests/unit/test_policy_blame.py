"""Whom an ending tells about: the service, a quota, a project, or the request alone."""

import pytest

from worker.policy.blame import Blame, blame
from worker.policy.fault import (
    Absent,
    Done,
    Evidence,
    Fault,
    Found,
    Remedy,
    Scope,
    Several,
    Sighting,
    Throttle,
)

NEVER, REFUSED, AMBIGUOUS = Evidence.NEVER_SENT, Evidence.REFUSED, Evidence.AMBIGUOUS


def throttled(scope: Scope | None) -> Fault:
    """A 429 that names its scope, or nothing."""
    throttle = Throttle(5, 1.0, scope) if scope else None
    return Fault(REFUSED, Remedy.THROTTLED, "429", status=429, throttle=throttle)


@pytest.mark.parametrize("ending", [Done("i"), Found("i"), Absent(), Several(("i", "j"))])
def test_answers_blame_nobody(ending: Done | Sighting) -> None:
    """The service works."""
    assert blame(ending) is Blame.REQUEST


@pytest.mark.parametrize(
    ("fault", "whom"),
    [
        (Fault(NEVER, Remedy.RETRY, "refused"), Blame.SERVICE),
        (Fault(NEVER, Remedy.RETRY, "iam"), Blame.SERVICE),
        (Fault(AMBIGUOUS, Remedy.RETRY, "timeout"), Blame.SERVICE),
        (Fault(AMBIGUOUS, Remedy.RETRY, "reset"), Blame.SERVICE),
        (Fault(AMBIGUOUS, Remedy.RETRY, "500", status=500), Blame.SERVICE),
        (Fault(AMBIGUOUS, Remedy.RETRY, "200", status=200), Blame.SERVICE),
        (Fault(REFUSED, Remedy.RETRY, "503", status=503, error_code="APIG.0613"), Blame.SERVICE),
        (Fault(NEVER, Remedy.RETRY, "stale"), Blame.NOBODY),
        (Fault(NEVER, Remedy.RETRY, "frozen"), Blame.NOBODY),
        (Fault(REFUSED, Remedy.RETRY, "400", status=400, error_code="DCS.4026"), Blame.REQUEST),
        (Fault(REFUSED, Remedy.RETRY, "pages"), Blame.REQUEST),
        (Fault(REFUSED, Remedy.REJECTED, "400", status=400), Blame.REQUEST),
        (Fault(REFUSED, Remedy.NOT_FOUND, "404", status=404), Blame.REQUEST),
        (Fault(REFUSED, Remedy.UNAUTHENTICATED, "401", status=401), Blame.CREDENTIALS),
        (Fault(NEVER, Remedy.UNAUTHENTICATED, "credentials", status=401), Blame.CREDENTIALS),
        (Fault(REFUSED, Remedy.FORBIDDEN, "403", status=403), Blame.CREDENTIALS),
        (throttled(None), Blame.REGION_QUOTA),
        (throttled(Scope.REGION), Blame.REGION_QUOTA),
        (throttled(Scope.PROJECT), Blame.PROJECT_QUOTA),
    ],
)
def test_faults(fault: Fault, whom: Blame) -> None:
    """Silence and failures tell against the service; refusals of one request do not; a throttle never does."""
    assert blame(fault) is whom


@pytest.mark.parametrize(
    ("code", "whom"),
    [
        ("DCS.4035", Blame.FULL_PROJECT),
        ("111400036", Blame.FULL_PROJECT),
        ("DCS. 4039", Blame.FULL_PROJECT),
        ("DCS.4054", Blame.REQUEST),
        ("DCS.4911", Blame.REQUEST),
    ],
)
def test_what_is_full(code: str, whom: Blame) -> None:
    """Quotas are the project's; a zone or a subnet was the request's own choice."""
    assert blame(Fault(REFUSED, Remedy.CAPACITY, "400", status=400, error_code=code)) is whom
