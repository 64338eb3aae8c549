"""Outcomes of a delivery, of which each delivery has exactly one, and the answers to a claim on its request."""

from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from schemas.envelope import Envelope
from schemas.event import FAILED_TYPE, SUCCEEDED_TYPE, Reason
from schemas.last_error import LastError
from schemas.timestamp import from_text, to_text
from worker.policy.migration_request import MigrationRequest


class ClaimsAwayError(Exception):
    """A command needs Redis, which cannot be used; the text says why."""


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
    not_after: float | None = None
    """Of the message that expired."""
    is_repeated: bool = False
    """An answer from memory, to another delivery than the one that came to this outcome."""

    EVENT_TYPES: ClassVar = {True: SUCCEEDED_TYPE, False: FAILED_TYPE}
    """By `succeeded`."""

    def to_record(self) -> dict[str, Any]:
        """Plain values, to be stored."""
        left_out = ("is_repeated",) if self.not_after is not None else ("is_repeated", "not_after")
        record = asdict(self) | {"body": self.body.decode()}
        return {name: value for name, value in record.items() if name not in left_out}

    def answers(self, migration: MigrationRequest, envelope: Envelope, *, had_arrived: bool = False) -> bool:
        """Whether this outcome answers another delivery of its request; `had_arrived`: before it, by any clock.

        - A success answers every delivery; a failure none that an operator replayed since.
        - A parked failure answers every other delivery.
        - Another failure answers what had arrived before it, but `expired` none that may have, or still get, a task.

        With another fingerprint, the answer is a conflict.
        """
        if not self.fingerprint:
            return False  # a conflict speaks of one message only
        is_same = self.fingerprint == migration.fingerprint
        if self.succeeded or (is_same and envelope.replays > self.replays):
            return self.succeeded
        if self.parked:
            return True
        if is_same and self.reason == Reason.EXPIRED:
            limit = self.not_after or from_text(self.completed_at) or 0.0  # 0.1.0 stored no `not_after`
            if migration.not_after is None or migration.not_after > limit or envelope.may_have_task:
                return False
        return had_arrived or envelope.arrived_at is None or to_text(envelope.arrived_at) <= self.completed_at

    def must_watch(self, envelope: Envelope) -> bool:
        """Whether its task has to be followed up: not again, unless the delivery may have been lost before that."""
        return self.succeeded and (not self.is_repeated or envelope.interruptions > 0)

    def must_park(self, envelope: Envelope) -> bool:
        """Whether the request has to be parked: not again, unless it was lost and may not be parked yet."""
        return self.parked and (not self.is_repeated or envelope.interruptions > 0)


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
    has_record: bool = field(default=True, compare=False)
    """The request was known: False if it is new, or was forgotten."""
    last_error: LastError | None = None
    """The conflict that a create was answered with."""


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
