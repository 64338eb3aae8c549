"""What happened in a run, as the world knows it, and which of it a worker could know."""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

from tests.simulation.scenario.plan import Plan, RequestKey


@dataclass(slots=True, eq=False)
class Message:
    """A message on the broker, from its publish to its acknowledgement."""

    request_key: RequestKey
    body: bytes
    headers: dict[str, object]
    parent: "DeliveryRecord | None" = None
    """The delivery that published it; None: its sender did."""
    failures: int = 0
    """Deliveries that ended without an acknowledgement."""
    delivery_count: int = 0
    preferred_replica: Any = None
    """The replica that the next delivery goes to, if it can."""


@dataclass(slots=True, eq=False)
class DeliveryRecord:
    """One delivery of a message to one life of a replica."""

    message: Message
    number: int
    """Counts the deliveries of the message."""
    replica: str
    process: object
    at: float
    lost_at: float = math.inf
    """When the broker took the message back."""
    has_acked: bool = False
    """The replica acknowledged it, whether or not the broker heard that."""
    confirmed: set[str] = field(default_factory=set)
    """What the broker confirmed to it: `event`, `copy`, `park`."""
    lookup_answered_at: float | None = None
    """When its last look-up was answered by the service."""
    lookup_received_at: float | None = None
    """When that answer reached the replica."""
    is_in_doubt: bool = False
    """A look-up failed, or showed several tasks that may be the request's."""


@dataclass(slots=True, eq=False)
class CreateCall:
    """One create call."""

    delivery: DeliveryRecord
    ending: str
    started_at: float
    is_ambiguous: bool
    is_sent: bool
    lookup_answered_at: float | None
    """When the delivery had last looked."""
    lookup_received_at: float | None = None
    ended_at: float | None = None
    """When its caller learned how it ended; None: never."""
    listed_by: float = math.inf
    """A task of it is listed by then: the assumption."""
    task_id: str | None = None
    listed_at: float = math.inf
    """When a task of it would be listed, were it not for the bound."""

    def is_listed(self, now: float) -> bool:
        """Whether the list shows a task of it."""
        return self.task_id is not None and min(self.listed_at, self.listed_by) <= now

    @property
    def may_have_acted(self) -> bool:
        """Whether, for all that its caller could know, the service may have acted."""
        return self.is_sent and (self.is_ambiguous or self.ended_at is None)


@dataclass(frozen=True, slots=True)
class DcsCall:
    """One call of the service, whatever it is; `matter`: the request that it was for, None for a probe."""

    at: float
    replica: str
    request_key: RequestKey | None


@dataclass(slots=True, eq=False)
class Event:
    """A final event that the broker took."""

    delivery: DeliveryRecord
    at: float
    id: str
    succeeded: bool
    reason: str
    instance_id: str | None
    parked: bool


def how_known(earlier: DeliveryRecord, later: DeliveryRecord | None) -> str | None:
    """How `later` can know what `earlier` did: `same`, by `redelivery`, by `copy`; None: not at all."""
    if earlier is later:
        return "same"
    how = "copy"
    step: DeliveryRecord | None = later
    while step is not None:
        if step is earlier:
            return how
        if step.message is earlier.message:
            return "redelivery" if earlier.number < step.number else None
        step = step.message.parent
    return None


def copy_of(delivery: DeliveryRecord, headers: Mapping[str, object]) -> Message:
    """A copy of a message in a replica's hands, with other headers."""
    return Message(delivery.message.request_key, delivery.message.body, dict(headers), parent=delivery)


CURRENT_DELIVERY: Final[ContextVar[DeliveryRecord]] = ContextVar("handed")
"""The delivery on whose behalf code runs."""


TimelineEntry = tuple[float, str, str]
"""When, who, what."""


@dataclass(slots=True)
class RunResult:
    """What came of a plan."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    """What went wrong outside of the guarantee."""
    points: list[str] = field(default_factory=list)
    injected: dict[int, str] = field(default_factory=dict)
    timeline: list[TimelineEntry] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0
