"""Why requests are kept back: the throttle in words, for health and the status page, and in numbers for metrics."""

from collections import Counter
from math import inf
from typing import Any, Final

from worker.pipeline.throttle import RegionThrottle, Throttle
from worker.policy.status import HeldBack
from worker.policy.throttle.hold import Hold
from worker.policy.throttle.project_hold import THROTTLED

PROJECTS_NAMED: Final = 20
WORTH_SAYING: Final = 2.0
"""Seconds until the next call."""


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
            found |= {f"{name}_for": round(now - since, 1), "next_probe_in": _next_probe(part.probes.at, now)}
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


def reasons(throttle: Throttle) -> list[str]:
    """One sentence for each thing that keeps requests back."""
    now, credentials = throttle.clock(), throttle.credentials
    found = [_refused("the credentials are refused", credentials, now)] if credentials.is_blocking else []
    for region in throttle.regions.values():
        found += [f"{region.name}: {reason}" for reason in _reasons(region, now)]
    return found


def _reasons(region: RegionThrottle, now: float) -> list[str]:
    breaker, limiter, found = region.breaker, region.limiter, []
    if breaker.is_blocking:
        since, probe = now - breaker.since, _next_probe(breaker.probes.at, now)
        found.append(f"the breaker has been open for {since:.0f} s, the next probe is in {probe:.0f} s")
    if region.hold.is_blocking:
        found.append(_refused("the endpoint refuses every call", region.hold, now))
    if limiter.is_limiting(now) and limiter.rate is not None:
        by, wait = "WORKER_DCS_RATE" if limiter.is_fixed else "a quota", limiter.wait(1, now)
        soon = f", the next one is in {wait:.0f} s" if wait > WORTH_SAYING else ""
        found.append(f"calls are paced at {limiter.rate:.3g} per second by {by}{soon}")
    throttled, held = projects(region, now)
    for count, what in ((len(throttled), "throttled"), (len(held), "held, being refused or full")):
        if count:
            found.append(f"{count} {'project is' if count == 1 else 'projects are'} {what}")
    return found


def _refused(what: str, hold: Hold, now: float) -> str:
    since, probe = now - hold.since, _next_probe(hold.probes.at, now)
    return f"{what} ({hold.message}): held for {since:.0f} s, the next probe is in {probe:.0f} s"


def _next_probe(at: float, now: float) -> float:
    return round(max(0.0, at - now), 1)
