"""Status of a replica, as the status page shows it: plain values. Times are epoch seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, Literal

NOTHING: Final = "\N{EN DASH}"
"""Shown where there is no value."""

State = Literal["consuming", "paused", "draining", "waiting"]


@dataclass(frozen=True, slots=True)
class InHand:
    """A request that is being worked on."""

    project_id: str
    request_id: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed. Who sent what is not known of a message that is no request."""

    at: float
    reason: str
    request_id: str | None
    project_id: str | None
    region: str | None
    attempts: int
    parked: bool
    said: str
    """The last call's ending in the service's words; empty if no call was to blame."""


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
    failures: tuple[Failure, ...] = ()
    """The last ones, the newest first."""
    faults: tuple[FaultKind, ...] = ()


@dataclass(frozen=True, slots=True)
class Connection:
    """Something outside that the worker lives on."""

    name: str
    state: str
    is_good: bool | None
    """None where there is nothing to be good or bad."""


@dataclass(frozen=True, slots=True)
class Readiness:
    """`reason` in a few words; `details` are plain values for programs."""

    is_ready: bool
    reason: str
    details: Mapping[str, object] = field(default_factory=dict)


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
    state: State = "waiting"
    now: float = 0.0
    started: float = 0.0
    backlog: int = 0
    """Messages ready in the queue, as the broker last counted them."""
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
