"""What the throttle owes: who fails is hardly asked, no project waits for another one's trouble, no look gets old."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Final

from tests.simulation.scenario.plan import Outage, Plan
from tests.simulation.world.records import Asked, Call, Event

TOLERANCE: Final = 0.01
ABSENCE: Final = 5.0
"""Seconds for which a look that found nothing may be believed."""
NOTICED_AFTER: Final = 35.0
"""Seconds of an outage after which a replica must have noticed it: the deadline of a call, and some tries."""
FAILURES: Final = 10
DIFFERENT: Final = 4
"""Calls and requests that must have failed by then, so that nobody can think of single requests any more."""
UNDER_WAY: Final = 8
"""Calls of a replica that may be under way at that moment."""
WAIT: Final = 150.0
"""Seconds within which a request is over that meets no trouble itself."""
BETWEEN: Final = {"unsent": 2.0, "error": 2.0, "no-endpoint": 2.0, "key-refused": 60.0}
"""Seconds at least between two calls of one replica in an outage."""


def old_looks(calls: Sequence[Call]) -> Iterator[str]:
    """Creates that rely on a look of long ago."""
    for call in calls:
        if call.look_ended_at is not None and call.begun > call.look_ended_at + ABSENCE + TOLERANCE:
            yield f"created at {call.begun:.1f} s on a look of {call.look_ended_at:.1f} s"


def too_many_calls(plan: Plan, asked: Sequence[Asked]) -> Iterator[str]:
    """Outages in which a replica goes on calling."""
    for outage in plan.outages if plan.is_calm else ():
        if outage.project or outage.ending not in BETWEEN:
            continue
        for replica in sorted({call.replica for call in asked}):
            times = [call.at for call in asked if call.replica == replica]
            begin, end = outage.at + NOTICED_AFTER, outage.at + outage.seconds
            calls = bisect_left(times, end) - bisect_left(times, begin)
            if calls > max(0.0, end - begin) / BETWEEN[outage.ending] + UNDER_WAY:
                yield f"{calls} calls of one replica in an outage of {outage.seconds:.0f} s"


def burnt_calls(plan: Plan, asked: Sequence[Asked]) -> Iterator[str]:
    """Outages in which requests are tried though enough of them have failed, rather than probes sent."""
    for outage in plan.outages if plan.is_calm else ():
        if outage.project or outage.ending not in ("unsent", "error"):
            continue
        noticed, end = outage.at + NOTICED_AFTER, outage.at + outage.seconds
        for replica in sorted({call.replica for call in asked}):
            calls = [call for call in asked if call.replica == replica and call.matter is not None]
            failed = [call.matter for call in calls if outage.at <= call.at < noticed]
            tried = sum(noticed <= call.at < end for call in calls)
            if len(failed) >= FAILURES and len(set(failed)) >= DIFFERENT and tried > 1:
                yield f"{tried} requests tried in an outage of {outage.seconds:.0f} s"


def held_up(plan: Plan, number: int, events: Sequence[Event]) -> Iterator[str]:
    """A request that waits though nothing is wrong with it, its project or the service."""
    errand = plan.errands[number]
    is_plain = not (errand.script or errand.copies or errand.clashes or errand.is_broken or errand.strangers)
    if not plan.is_calm or not is_plain or any(_concerns(outage, errand.project) for outage in plan.outages):
        return
    others = [other for other in plan.errands if other.script and other.project == errand.project]
    if others or len({other.project for other in plan.errands}) < 2:
        return
    for event in events[:1]:
        if event.at > errand.at + WAIT:
            yield f"held up for {event.at - errand.at:.0f} s by another project"


def _concerns(outage: Outage, project: str) -> bool:
    return outage.project in ("", project)
