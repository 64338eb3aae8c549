"""Records of a run: messages, deliveries, calls and events, and which of them a worker could know."""

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
    """Delivery whose replica published it as a copy; None: published by its sender."""
    failures: int = 0
    """Deliveries that ended without an acknowledgement."""
    delivery_count: int = 0
    preferred_replica: Any = None
    """Replica that gets the next delivery, if possible."""
    checks: int | None = None
    """Looks so far, if it is the watch of a created task."""


@dataclass(slots=True, eq=False)
class DeliveryRecord:
    """One delivery of a message to one process of a replica."""

    message: Message
    number: int
    """Number of this delivery of the message, from 1."""
    replica: str
    process: object
    at: float
    lost_at: float = math.inf
    """When the broker took the message back."""
    has_acked: bool = False
    """The replica acknowledged it; the broker may not have received that."""
    confirmed: set[str] = field(default_factory=set)
    """Publishes that the broker confirmed: `event`, `copy`, `park`, `watch`."""
    is_answered_from_memory: bool = False
    """Its event repeats a known outcome."""
    lookup_answered_at: float | None = None
    """When DCS answered its last look-up."""
    lookup_received_at: float | None = None
    """When the replica received that answer."""
    is_in_doubt: bool = False
    """A look-up failed, or found several tasks that may be the request's."""


@dataclass(slots=True, eq=False)
class CreateCall:
    """A create call."""

    delivery: DeliveryRecord
    ending: str
    started_at: float
    is_ambiguous: bool
    is_sent: bool
    lookup_answered_at: float | None
    """When the last look-up of the delivery was answered."""
    lookup_received_at: float | None = None
    ended_at: float | None = None
    """When its caller learned how it ended; None: never."""
    listed_by: float = math.inf
    """When its task is listed at the latest, as the worker assumes."""
    task_id: str | None = None
    listed_at: float = math.inf
    """When its task would be listed without that assumption."""
    is_claimed: bool = False
    """From its begin to its end its replica certainly had the claim."""

    def is_listed(self, now: float) -> bool:
        """Whether its task is listed."""
        return self.task_id is not None and min(self.listed_at, self.listed_by) <= now

    @property
    def may_have_acted(self) -> bool:
        """Whether DCS may have created a task, as far as the caller could know."""
        return self.is_sent and (self.is_ambiguous or self.ended_at is None)


@dataclass(frozen=True, slots=True)
class DcsCall:
    """A call of DCS of any kind; `request_key` is None for a probe."""

    at: float
    replica: str
    request_key: RequestKey | None


@dataclass(slots=True, eq=False)
class Event:
    """A final event that the broker accepted."""

    delivery: DeliveryRecord
    at: float
    id: str
    succeeded: bool
    reason: str
    instance_id: str | None
    parked: bool
    meaning: tuple[object, ...] = ()
    """What it says, without times and counters."""
    is_repeated: bool = False
    """It says that it is an answer from memory."""
    decided_at: float = math.nan
    """When its outcome was decided, by the clock of its replica."""


@dataclass(frozen=True, slots=True)
class WatchStart:
    """A watch that the broker accepted from the delivery of a request."""

    delivery: DeliveryRecord
    at: float
    task_id: str


@dataclass(frozen=True, slots=True)
class LastEvent:
    """An event that ends a watch, and that the broker accepted."""

    delivery: DeliveryRecord
    at: float
    id: str
    task_id: str
    result: str
    """`provisioned`, or the reason of its failure."""
    seconds: float
    """Time since the success, as it says."""


def is_final(event: Event) -> bool:
    """Whether no later message reopens the request: it succeeded, or it is parked."""
    return event.succeeded or event.parked


def how_known(earlier: DeliveryRecord, later: DeliveryRecord | None) -> str | None:
    """How `later` can know what `earlier` did: as the `same`, by `redelivery`, by `copy`; None: not at all."""
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
    """Copy of a delivered message with other headers."""
    return Message(delivery.message.request_key, delivery.message.body, dict(headers), parent=delivery)


CURRENT_DELIVERY: Final[ContextVar[DeliveryRecord]] = ContextVar("handed")
"""Delivery that the running code works for."""


TimelineEntry = tuple[float, str, str]
"""Time, actor, text."""


@dataclass(slots=True)
class RunResult:
    """Result of a run."""

    plan: Plan
    violations: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)
    """Violations that no worker can avoid in the configuration of the run."""
    points: list[str] = field(default_factory=list)
    injected: dict[int, str] = field(default_factory=dict)
    timeline: list[TimelineEntry] = field(default_factory=list)
    seconds: float = 0.0
    calls: int = 0
