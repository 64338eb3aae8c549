"""Whom the ending of a call tells about: the service, a quota, a project, or only the request itself."""

from enum import Enum
from typing import Final

from worker.policy import codes
from worker.policy.fault import Done, Evidence, Fault, Remedy, Scope, Sighting


class Blame(Enum):
    """Who is to blame."""

    REQUEST = "request"
    """Nobody else: the service answered."""
    SERVICE = "service"
    """The service, or the way to it."""
    REGION_QUOTA = "region quota"
    """All callers in the region together called too often."""
    PROJECT_QUOTA = "project quota"
    """The project called too often."""
    CREDENTIALS = "credentials"
    """What proves that we may act in the project."""
    FULL_PROJECT = "full project"
    """The project has all that it may have."""
    NOBODY = "nobody"
    """We gave up before anything was asked."""


_OURS: Final = frozenset({"stale", "frozen"})


def blame(ending: Done | Sighting | Fault) -> Blame:
    """Who is to blame for `ending`. A throttle never tells against the service, whatever else it says."""
    if not isinstance(ending, Fault):
        return Blame.REQUEST
    match ending.remedy:
        case Remedy.THROTTLED:
            is_of_project = ending.throttle is not None and ending.throttle.scope is Scope.PROJECT
            return Blame.PROJECT_QUOTA if is_of_project else Blame.REGION_QUOTA
        case Remedy.UNAUTHENTICATED | Remedy.FORBIDDEN:
            return Blame.CREDENTIALS
        case Remedy.CAPACITY:
            return Blame.FULL_PROJECT if codes.normal(ending.error_code) in codes.OF_PROJECT else Blame.REQUEST
        case _:
            return _of_silence(ending)


def _of_silence(fault: Fault) -> Blame:
    if fault.label in _OURS:
        return Blame.NOBODY
    # A refusal that no request is to blame for: the gateway's own sources are away.
    is_outage = fault.evidence is not Evidence.REFUSED or (fault.status or 0) >= 500
    return Blame.SERVICE if is_outage else Blame.REQUEST
