"""What each part of the service bears, as the lanes of a gate have found out: how many replicas it can feed."""

from collections.abc import Iterable, Iterator
from typing import Final

from worker.flow.lane import Lane
from worker.policy.replicas import Feed

LATELY: Final = 600.0
"""Seconds for which a region counts as used after a request for it came."""


def feeds(lanes: Iterable[Lane]) -> list[Feed]:
    """The regions that are used, and their projects that are throttled, as far as they have requests in hand."""
    lanes = list(lanes)
    used = [lane for lane in lanes if lane.clock() - lane.used_at < LATELY] or lanes
    return [feed for lane in used for feed in (_region(lane), *_projects(lane))]


def _region(lane: Lane) -> Feed:
    """What its quota lets pass; or else, where more calls at once make it slower, what is passing."""
    now = lane.clock()
    borne = lane.pace.borne(now)
    if borne is None and lane.line and lane.limit.is_lowered:
        borne = lane.pace.made(now)
    return Feed(lane.in_use + len(lane.line), lane.breaker.is_open, borne, lane.pace.quota)


def _projects(lane: Lane) -> Iterator[Feed]:
    now = lane.clock()
    for project, line in lane.lines.items():
        tenant = lane.tenants.known.get(project)
        if line and tenant is not None:
            yield Feed(len(line), tenant.hold.is_open, tenant.pace.borne(now), tenant.pace.quota)
