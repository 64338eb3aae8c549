"""What was decided about a delivery. Every delivery ends in exactly one of these."""

from dataclasses import asdict, dataclass
from typing import Any

from schemas.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Completed:
    """The request is over: this event says how, to everybody who asks."""

    succeeded: bool
    reason: str
    """`created` or `adopted`; else why it failed."""
    event_id: str
    subject: str | None
    completed_at: str
    body: bytes
    parked: bool
    fingerprint: str
    replays: int
    error_code: str | None = None
    """What DCS answered last, by which parked requests are grouped."""
    journal: str = ""
    """What was done for the request, as its header has it; empty if the body says all of it."""

    def to_record(self) -> dict[str, Any]:
        """Plain values, to be stored."""
        return asdict(self) | {"body": self.body.decode()}


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The request comes back through a retry queue."""

    level: int
    envelope: Envelope
    why: str
    seconds: float
    """How long it waits there."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """This replica is going away: the request goes back to the queue with what is known of it."""

    envelope: Envelope


@dataclass(frozen=True, slots=True)
class DeliveryLost:
    """The delivery's channel is gone: the broker delivers it again, there is nothing to settle."""

    last_sent_at: float | None


Outcome = Completed | RetryLater | Requeued | DeliveryLost
