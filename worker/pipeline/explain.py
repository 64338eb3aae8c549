"""Why nothing moves, or why so slowly: the lanes of a gate in words, for health and the status page."""

from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import Any, Final

from worker.pipeline.lane import Lane
from worker.policy.held import Held

PROJECTS_NAMED: Final = 20
WORTH_SAYING: Final = 2.0
"""Seconds until the next call."""


def facts(lane: Lane) -> dict[str, Any]:
    """One lane as plain values. Durations in seconds, rates in calls per second."""
    now, breaker = lane.clock(), lane.breaker
    found: dict[str, Any] = {
        "breaker": breaker.state.name.lower().replace("_", "-"),
        "limit": lane.limit.value,
        "calls": lane.in_use,
        "waiting": len(lane.line),
    }
    if breaker.is_open:
        found |= {"open_for": round(now - breaker.since, 1), "next_probe_in": round(breaker.wait(now), 1)}
    if lane.pace.rate is not None and lane.pace.holds(now):
        found |= {"pace": round(lane.pace.rate, 2), "quota": lane.pace.quota}
    for name, projects in (("throttled", _throttled(lane)), ("held", _held(lane))):
        if projects:
            found[name] = len(projects)
            found[f"{name}_projects"] = ", ".join(projects[:PROJECTS_NAMED])
    return found


def held(lane: Lane, epoch: float) -> Held:
    """One lane in numbers; `epoch`: what must be added to the lane's clock to have epoch seconds."""
    now, breaker, pace = lane.clock(), lane.breaker, lane.pace
    opened_at = epoch + breaker.since if breaker.is_open else 0.0
    probe_at = epoch + now + breaker.wait(now) if breaker.is_open else 0.0
    rate = pace.rate if pace.rate is not None and pace.holds(now) else inf
    projects = Counter(tenant.why for tenant in lane.tenants.known.values() if tenant.hold.is_open)
    projects["throttled"] = len(_throttled(lane))
    return Held(opened_at, probe_at, rate, projects)


def reasons(lanes: Iterable[Lane]) -> list[str]:
    """One sentence for each thing that keeps requests back."""
    return [reason for lane in lanes for reason in _reasons(lane)]


def _reasons(lane: Lane) -> list[str]:
    now, breaker, pace = lane.clock(), lane.breaker, lane.pace
    found = []
    if breaker.is_open:
        since, probe = now - breaker.since, breaker.wait(now)
        found.append(f"the breaker has been open for {since:.0f} s, the next probe is in {probe:.0f} s")
    if pace.rate is not None and pace.holds(now):
        found.append(_paced(pace.rate, pace.is_fixed, pace.wait(now)))
    for projects, what in ((_throttled(lane), "throttled"), (_held(lane), "held, being refused or full")):
        if projects:
            found.append(f"{len(projects)} {'project is' if len(projects) == 1 else 'projects are'} {what}")
    return [f"{lane.region}: {reason}" for reason in found]


def _paced(rate: float, is_fixed: bool, wait: float) -> str:
    by = "WORKER_DCS_RATE" if is_fixed else "a quota"
    soon = f", the next one is in {wait:.0f} s" if wait > WORTH_SAYING else ""
    return f"calls are paced at {rate:.3g} per second by {by}{soon}"


def _throttled(lane: Lane) -> list[str]:
    now = lane.clock()
    return [project for project, tenant in lane.tenants.known.items() if tenant.pace.holds(now)]


def _held(lane: Lane) -> list[str]:
    return [f"{project} ({tenant.why})" for project, tenant in lane.tenants.known.items() if tenant.hold.is_open]
