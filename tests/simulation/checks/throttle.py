"""Check of the throttle: few calls in an outage, no project waits for another one, no create after an old look-up."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from tests.simulation.scenario.plan import Outage, Plan
from tests.simulation.world.records import CreateCall, DcsCall, Event

TOLERANCE_SECONDS: Final = 0.01
MAX_LOOKUP_AGE_SECONDS: Final = 5.0
"""Age up to which a look-up without result is valid."""
OUTAGE_NOTICED_AFTER_SECONDS: Final = 35.0
"""Time of an outage after which a replica must have detected it: the deadline of a call, and some attempts."""
MIN_FAILED_CALLS: Final = 10
MIN_FAILED_REQUESTS: Final = 4
"""Failed calls, and requests of them, by then: enough to exclude that single requests are the cause."""
MAX_CALLS_UNDER_WAY: Final = 8
"""Calls of a replica that may be in flight at that moment."""
MAX_WAIT_SECONDS: Final = 150.0
"""Time within which a request without problems ends."""
MIN_SECONDS_BETWEEN_CALLS: Final = {"unsent": 2.0, "error": 2.0, "no-endpoint": 2.0, "key-refused": 60.0}
"""Shortest time between two calls of a replica in an outage, by its ending."""


def creates_after_old_lookup(calls: Sequence[CreateCall]) -> Iterator[str]:
    """Creates that rely on an old look-up."""
    for call in calls:
        if (
            call.lookup_received_at is not None
            and call.started_at > call.lookup_received_at + MAX_LOOKUP_AGE_SECONDS + TOLERANCE_SECONDS
        ):
            yield f"created at {call.started_at:.1f} s after a look-up of {call.lookup_received_at:.1f} s"


def too_many_calls(plan: Plan, dcs_calls: Sequence[DcsCall]) -> Iterator[str]:
    """Outages in which a replica makes too many calls."""
    for outage in plan.outages if plan.is_calm else ():
        if outage.project or outage.ending not in MIN_SECONDS_BETWEEN_CALLS:
            continue
        for replica in sorted({call.replica for call in dcs_calls}):
            times = [call.at for call in dcs_calls if call.replica == replica]
            begin, end = outage.at + OUTAGE_NOTICED_AFTER_SECONDS, outage.at + outage.seconds
            calls = bisect_left(times, end) - bisect_left(times, begin)
            if calls > max(0.0, end - begin) / MIN_SECONDS_BETWEEN_CALLS[outage.ending] + MAX_CALLS_UNDER_WAY:
                yield f"{calls} calls of one replica in an outage of {outage.seconds:.0f} s"


def requests_tried_in_outage(plan: Plan, dcs_calls: Sequence[DcsCall]) -> Iterator[str]:
    """Outages in which requests are tried after enough of them have failed, instead of probes."""
    for outage in plan.outages if plan.is_calm else ():
        if outage.project or outage.ending not in ("unsent", "error"):
            continue
        noticed, end = outage.at + OUTAGE_NOTICED_AFTER_SECONDS, outage.at + outage.seconds
        for replica in sorted({call.replica for call in dcs_calls}):
            calls = [call for call in dcs_calls if call.replica == replica and call.request_key is not None]
            failed = [call.request_key for call in calls if outage.at <= call.at < noticed]
            tried = sum(noticed <= call.at < end for call in calls)
            if len(failed) >= MIN_FAILED_CALLS and len(set(failed)) >= MIN_FAILED_REQUESTS and tried > 1:
                yield f"{tried} requests tried in an outage of {outage.seconds:.0f} s"


def delayed_by_other_project(plan: Plan, number: int, events: Sequence[Event]) -> Iterator[str]:
    """Violation, if a request waits although it, its project and DCS have no problem."""
    request = plan.requests[number]
    is_plain = not (
        request.call_endings or request.copies or request.clashes or request.is_invalid or request.unrelated_tasks
    )
    if not plan.is_calm or not is_plain or any(_concerns(outage, request.project) for outage in plan.outages):
        return
    others = [other for other in plan.requests if other.call_endings and other.project == request.project]
    if others or len({other.project for other in plan.requests}) < 2:
        return
    for event in events[:1]:
        if event.at > request.at + MAX_WAIT_SECONDS:
            yield f"delayed by {event.at - request.at:.0f} s because of another project"


def _concerns(outage: Outage, project: str) -> bool:
    return outage.project in ("", project)
