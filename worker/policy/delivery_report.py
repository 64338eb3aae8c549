"""Reports of a delivery: the fact for logs and metrics, its trace, and the timeline entries of its DCS calls."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from schemas import names
from schemas.envelope import Envelope
from schemas.journal import Journal, Kind
from worker.policy.call_result import (
    CallError,
    CallResult,
    ConflictingTask,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed, Outcome, Requeued, RetryLater


@dataclass(frozen=True, slots=True)
class DeliveryFinished:
    """A delivery that was acknowledged, or that had to be left to the broker."""

    outcome: str
    """`succeeded`, `failed`, `retried` or `returned`."""
    reason: str
    migration: MigrationRequest | None
    envelope: Envelope
    seconds: float
    """From received to acknowledged."""
    age: float
    """From `age_starts_at` to now."""
    parked: bool = False
    is_repeated: bool = False
    """The event was an answer from memory."""
    trace_id: str | None = None
    """From the request's `traceparent`, if it had one."""
    completed: Completed | None = None
    """The outcome, if the request has finished: its event says what failed."""
    message_id: str | None = None
    """Of AMQP."""
    retry_in_seconds: float | None = None
    """How long a retried request waits in its retry queue."""

    @property
    def is_counted(self) -> bool:
        """Whether its event counts: it is no repeat, or a delivery was lost before, which may not have been counted."""
        return not self.is_repeated or self.envelope.interruptions > 0


MAX_SENDER_AGE_SECONDS: Final = 30 * 86_400.0


def age_starts_at(published_at: float | None, envelope: Envelope, now: float) -> float:
    """Start of a request's age, in epoch seconds: when it was sent (or replayed), else when it was first received.

    The sender's clock may be wrong: a time in the future, or more than 30 days ago, is ignored.
    """
    if published_at is None or not 0.0 <= now - published_at <= MAX_SENDER_AGE_SECONDS:
        return envelope.first_received_at
    return published_at


_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")


def trace_id(headers: Mapping[str, object]) -> str | None:
    """Trace id in a valid `traceparent` header (https://www.w3.org/TR/trace-context/); None without one."""
    value = headers.get(names.TRACEPARENT)
    match = _TRACEPARENT.fullmatch(value) if isinstance(value, str) else None
    return match[1] if match else None


def label(outcome: Outcome) -> tuple[str, str]:
    """Outcome and reason of a delivery, as `DeliveryFinished` has them."""
    match outcome:
        case Completed():
            return "succeeded" if outcome.succeeded else "failed", outcome.reason
        case RetryLater():
            return "retried", outcome.why
        case Requeued():
            return "returned", outcome.why
        case _:
            return "returned", "stale"


MIN_WAIT_SECONDS: Final = 1.0
"""Shortest wait for a permit that is an entry of its timeline."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call of DCS, in epoch seconds. `asked_at`: when it asked for a permit; `n`: number of the create, else 0."""

    did: Kind
    n: int
    asked_at: float
    started_at: float


def with_call(journal: Journal, call: Call, result: CallResult, now: float) -> Journal:
    """The journal with the call, which ended `now`. A task that was created at once needs none: its event says all."""
    if call.started_at - call.asked_at >= MIN_WAIT_SECONDS:
        journal = journal.add(call.started_at, Kind.GATE, took=call.started_at - call.asked_at)
    if isinstance(result, TaskCreated) and not journal:
        return journal
    got, evidence, code, id_ = _journal_fields(result)
    return journal.add(now, call.did, got, n=call.n, took=now - call.started_at, evidence=evidence, code=code, id_=id_)


def _journal_fields(result: CallResult) -> tuple[str, str, str | None, str | None]:
    match result:
        case TaskCreated():
            return "done", "", None, result.dcs_request_id
        case TaskFound():
            return "found", "", None, result.dcs_request_id
        case TaskNotFound():
            return "absent", "", None, None
        case SeveralTasks():
            return "several", "", None, None
        case ConflictingTask():
            return "conflict", "", None, None
        case CallError():
            return result.label, result.evidence.value, result.error_code, result.dcs_request_id
        case _:
            assert_never(result)
