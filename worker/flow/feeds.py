"""What each part of the service bears, as the lanes of a gate have found out: how many replicas it can feed."""

from collections.abc import Iterable, Iterator
from typing import Final

from worker.flow.lane import Lane
from worker.policy.replicas import Feed

LATELY: Final = 600.0
"""Seconds for which a region counts as used after a request for it came."""


def feeds(lanes: Iterable[Lane]) -> list[Feed]:
    """The regions that are used, and their projects that are in trouble."""
    lanes = list(lanes)
    used = [lane for lane in lanes if lane.clock() - lane.used_at < LATELY] or lanes
    return [feed for lane in used for feed in (_region(lane), *_projects(lane))]


def _region(lane: Lane) -> Feed:
    """What its quota lets pass; or else, where more calls at once make it slower, what is passing."""
    now = lane.clock()
    borne = lane.pace.borne(now)
    if borne is None and lane.line and lane.limit.is_lowered:
        borne = lane.pace.made(now)
    troubled = sum(_share(lane, project) for project in lane.tenants.known)
    hands = len(lane.line) + lane.in_use * max(0.0, 1.0 - troubled)
    return Feed(hands, lane.breaker.is_open, borne, lane.pace.quota)


def _projects(lane: Lane) -> Iterator[Feed]:
    now = lane.clock()
    for project, tenant in lane.tenants.known.items():
        hands = len(lane.lines.get(project, ())) + lane.in_use * _share(lane, project)
        yield Feed(hands, tenant.hold.is_open, tenant.pace.borne(now), tenant.pace.quota)


def _share(lane: Lane, project: str) -> float:
    """Of the calls that began lately, those of a project in trouble: about its share of those under way."""
    now = lane.clock()
    made = lane.pace.made(now)
    return min(1.0, lane.tenants.known[project].pace.made(now) / made) if made else 0.0
