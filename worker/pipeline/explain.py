"""Why requests are kept back: the throttle as plain values, for health, the status page and metrics."""

from collections import Counter
from math import inf
from typing import Any, Final

from worker.pipeline.throttle import RegionThrottle, Throttle
from worker.policy.health import StoppedRegion
from worker.policy.status import HeldBack
from worker.policy.throttle.project_hold import THROTTLED

PROJECTS_NAMED: Final = 20


def facts(region: RegionThrottle, now: float) -> dict[str, Any]:
    """One region as plain values. Durations in seconds, rates in calls per second."""
    found: dict[str, Any] = {
        "breaker": region.breaker.state.name.lower().replace("_", "-"),
        "limit": region.limit.value,
        "calls": region.in_use,
        "waiting": len(region.queue.items),
    }
    for name, since, part in (
        ("open", region.breaker.since, region.breaker),
        ("refused", region.hold.since, region.hold),
    ):
        if part.is_blocking:
            found |= {f"{name}_for": round(now - since, 1), "next_probe_in": round(max(0.0, part.probes.at - now), 1)}
    if region.limiter.is_limiting(now):
        found |= {"pace": round(region.limiter.rate or 0.0, 2), "quota": region.limiter.named}
    throttled, held = projects(region, now)
    for name, named in (("throttled", throttled), ("held", [f"{project} ({why})" for project, why in held.items()])):
        if named:
            found[name] = len(named)
            found[f"{name}_projects"] = ", ".join(named[:PROJECTS_NAMED])
    return found


def projects(region: RegionThrottle, now: float) -> tuple[list[str], dict[str, str]]:
    """The projects that are throttled, and those that are held, with the reason."""
    why = {project: known.why(now) for project, known in region.projects.items()}
    throttled = [project for project, reason in why.items() if reason == THROTTLED]
    return throttled, {project: reason for project, reason in why.items() if reason not in ("", THROTTLED)}


def held_back(region: RegionThrottle, now: float) -> HeldBack:
    """One region in numbers."""
    is_limiting = region.limiter.is_limiting(now)
    throttled, held = projects(region, now)
    return HeldBack(
        rate=region.limiter.rate or inf if is_limiting else inf,
        projects={**Counter(held.values()), THROTTLED: len(throttled)},
    )


def stopped(throttle: Throttle) -> list[StoppedRegion]:
    """The regions whose calls are stopped."""
    now = throttle.clock()
    return [
        StoppedRegion(region.name, is_refused, now - part.since, round(max(0.0, part.probes.at - now), 1), part.message)
        for region in throttle.regions.values()
        for part, is_stopped, is_refused in (
            (region.breaker, region.breaker.is_blocking, False),
            (region.hold, region.hold.is_held, True),
        )
        if is_stopped
    ]


def paused_projects(throttle: Throttle) -> list[str]:
    """The projects whose requests are postponed, with the reason in words."""
    found = []
    for region in throttle.regions.values():
        for name, project in region.projects.items():
            own = project.own if project.own is not None and project.own.is_blocking else None
            if own is None and project.reason == THROTTLED:
                rate = f" to {project.limiter.rate:.3g} calls per second" if project.limiter.rate else ""
                found.append(f"{region.name} {name}: limited{rate} after HTTP 429")
            elif own is not None or project.reason:
                found.append(f"{region.name} {name}: DCS refuses it ({own.message if own else project.message})")
    return found
