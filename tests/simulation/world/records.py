"""What happened in a run, as the world knows it, and which of it a worker could know."""

import math
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final

Matter = tuple[int, bool]
"""Which request a message is about: the number of its errand, and whether it clashes with the errand's own task."""


@dataclass(slots=True, eq=False)
class Message:
    """A message on the broker, from its publish to its acknowledgement."""

    matter: Matter
    body: bytes
    headers: dict[str, object]
    parent: "Handed | None" = None
    """The delivery that published it; None: its sender did."""
    failures: int = 0
    """Deliveries that ended without an acknowledgement."""
    handed: int = 0
    prefer: Any = None
    """The replica that the next delivery goes to, if it can."""


@dataclass(slots=True, eq=False)
class Handed:
    """One delivery of a message to one life of a replica."""

    message: Message
    number: int
    """Counts the deliveries of the message."""
    replica: str
    life: object
    at: float
    lost_at: float = math.inf
    """When the broker took the message back."""
    has_acked: bool = False
    """The replica acknowledged it, whether or not the broker heard that."""
    confirmed: set[str] = field(default_factory=set)
    """What the broker confirmed to it: `event`, `copy`, `park`."""
    looked_at: float | None = None
    """When its last look-up was answered by the service."""
    look_ended_at: float | None = None
    """When that answer reached the replica."""
    is_in_doubt: bool = False
    """A look-up failed, or showed several tasks that may be the request's."""


@dataclass(slots=True, eq=False)
class Call:
    """One create call."""

    by: Handed
    ending: str
    begun: float
    is_open: bool
    is_sent: bool
    looked_at: float | None
    """When the delivery had last looked."""
    look_ended_at: float | None = None
    ended: float | None = None
    """When its caller learned how it ended; None: never."""
    bound: float = math.inf
    """A task of it is listed by then: the assumption."""
    task_id: str | None = None
    listed: float = math.inf
    """When a task of it would be listed, were it not for the bound."""

    def is_listed(self, now: float) -> bool:
        """Whether the list shows a task of it."""
        return self.task_id is not None and min(self.listed, self.bound) <= now

    @property
    def may_have_acted(self) -> bool:
        """Whether, for all that its caller could know, the service may have acted."""
        return self.is_sent and (self.is_open or self.ended is None)


@dataclass(frozen=True, slots=True)
class Asked:
    """One call of the service, whatever it is; `matter`: the request that it was for, None for a probe."""

    at: float
    replica: str
    matter: Matter | None


@dataclass(slots=True, eq=False)
class Event:
    """A final event that the broker took."""

    by: Handed
    at: float
    id: str
    succeeded: bool
    reason: str
    instance_id: str | None
    parked: bool


def known_at(earlier: Handed, later: Handed | None) -> str | None:
    """How `later` can know what `earlier` did: `same`, by `redelivery`, by `copy`; None: not at all."""
    if earlier is later:
        return "same"
    how = "copy"
    step: Handed | None = later
    while step is not None:
        if step is earlier:
            return how
        if step.message is earlier.message:
            return "redelivery" if earlier.number < step.number else None
        step = step.message.parent
    return None


def copied(handed: Handed, headers: Mapping[str, object]) -> Message:
    """A copy of a message in a replica's hands, with other headers."""
    return Message(handed.message.matter, handed.message.body, dict(headers), parent=handed)


HANDED: Final[ContextVar[Handed]] = ContextVar("handed")
"""The delivery on whose behalf code runs."""
