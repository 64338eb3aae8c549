"""Outcomes of a delivery, of which each delivery has exactly one, and the answers to a claim on its request."""

from dataclasses import asdict, dataclass
from typing import Any

from schemas.envelope import Envelope


@dataclass(frozen=True, slots=True)
class Completed:
    """The request has ended: the final event, and what answers later copies."""

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
    """Error code of the last DCS answer; parked requests are grouped by it."""
    journal: str = ""
    """What was done for the request, as its header has it; empty if the body says all of it."""

    def to_record(self) -> dict[str, Any]:
        """Plain values, to be stored."""
        return asdict(self) | {"body": self.body.decode()}


@dataclass(frozen=True, slots=True)
class RetryLater:
    """The request comes back through a retry queue."""

    retry_level: int
    envelope: Envelope
    why: str
    seconds: float
    """How long it waits there."""


@dataclass(frozen=True, slots=True)
class Requeued:
    """This replica creates nothing more, or not now: the request goes back to the queue with what is known of it."""

    envelope: Envelope
    why: str = "drain"


@dataclass(frozen=True, slots=True)
class DeliveryLost:
    """The delivery's channel is gone: the broker delivers it again, there is nothing to settle."""

    last_sent_at: float | None


Outcome = Completed | RetryLater | Requeued | DeliveryLost


@dataclass(frozen=True, slots=True)
class Granted:
    """The request is ours until it is released."""

    is_first: bool = True
    """No replica claimed it before: no create was sent for it under a claim."""
    last_sent_at: float | None = None
    """When a create may last have been in flight under an earlier claim."""


@dataclass(frozen=True, slots=True)
class ClaimedElsewhere:
    """Another replica processes the request now."""

    fingerprint: str
    is_last_send_unknown: bool = False
    """No record will say what that replica sent: its create may become listed within the listing delay."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """The request has ended before."""

    ending: Completed


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No claim, because Redis does not answer or only a lock was taken: what was sent before is unknown."""


ClaimAnswer = Granted | ClaimedElsewhere | Concluded | Unavailable
