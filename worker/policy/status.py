"""Status of a replica, as the status page shows it: plain values. Times are epoch seconds."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final

from worker.policy.call_result import CallError

NOTHING: Final = "\N{EN DASH}"
"""Shown where there is no value."""


def duration(seconds: float) -> str:
    """Seconds in the two largest units."""
    if seconds < 10:
        return f"{max(0.0, seconds):.1f} s"
    whole = int(seconds)
    for unit, size, small, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60), ("min", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {small}"
    return f"{whole} s"


@dataclass(frozen=True, slots=True)
class InHand:
    """A request that is being worked on."""

    project_id: str
    request_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Requests that failed alike since the start; ids are those of the last one, None where they are unknown."""

    reason: str
    code: str
    """Error code, or what happened instead of an answer; empty if no call was to blame."""
    count: int
    first: float
    last: float
    request_id: str | None
    project_id: str | None
    region: str | None
    is_parked: bool
    error: CallError | None
    """Of the last one."""
    said: str = ""
    """The error in DCS's words."""

    @property
    def command(self) -> str:
        """What to paste into a shell to see more; empty if there is no id."""
        if self.is_parked:
            code = self.error.error_code if self.error else None
            return shlex.join(
                ["dcs-worker", "parked", "list", "--reason", self.reason, *(["--error-code", code] if code else ())]
            )
        return shlex.join(["dcs-worker", "explain", self.request_id]) if self.request_id else ""


@dataclass(frozen=True, slots=True)
class FaultKind:
    """Calls that ended alike without success: how many since the start, and the last of them."""

    label: str
    evidence: str
    count: int
    at: float
    said: str


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened, in the last minute and since the start."""

    figures: Mapping[str, str] = field(default_factory=dict)
    """Figures of the last minute by their name."""
    outcomes: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """Deliveries that are over, by outcome and reason."""
    failures: tuple[FailureGroup, ...] = ()
    """The latest first."""
    faults: tuple[FaultKind, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """Something outside that the worker lives on."""

    name: str
    state: str
    is_good: bool | None
    """None where there is nothing to be good or bad."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """What keeps the requests for one region back, in numbers."""

    rate: float = inf
    """Calls per second that a limit allows, be it set or learnt."""
    projects: Mapping[str, int] = field(default_factory=dict)
    """How many projects are kept back, by reason."""


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the status page shows."""

    version: str = ""
    replica: str = ""
    """Name of the host or pod."""
    now: float = 0.0
    started: float = 0.0
    queued: Mapping[str, int] = field(default_factory=dict)
    """Messages ready as the broker last counted them: `requests`, `retry`, `parked`; absent while unknown."""
    in_flight: int = 0
    prefetch: int = 0
    in_hand: tuple[InHand, ...] = ()
    """The longest first; not necessarily all that are in flight."""
    activity: Activity = field(default_factory=Activity)
    regions: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """What is known of each region, by name: breaker, limit, pace."""
    connections: tuple[Connection, ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    """Name, value and meaning; secrets are masked."""
