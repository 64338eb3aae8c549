"""Follow-up of created tasks: the watch, what a look proves, and the event that ends it.

A task is `CREATING` for some minutes after the create call was answered, and may fail then. No I/O here.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Final, Literal, Self

from schemas import event, identity, names
from schemas.dcs import JobReply
from schemas.event import MigrationProvisioned, MigrationProvisioningFailed, MigrationSucceeded, ProvisioningReason
from schemas.request import PROJECT_ID_PATTERN
from schemas.timestamp import to_text
from worker.policy import error_table
from worker.policy.call_result import CallError, CallStatus
from worker.policy.migration_request import Key


@dataclass(frozen=True, slots=True)
class FollowUpSettings:
    """Settings of the follow-up. `regions`: those that calls can be made in."""

    regions: Collection[str]
    timeout: float
    """Seconds after the success from which a task that is not ready counts as failed."""
    listing_delay: float
    """Seconds after the success in which a task may not be listed yet."""
    list_timeout: float
    """Deadline of a list with all its pages."""


Verdict = Literal["provisioned", "failed", "gone", "timeout"]
REASONS: Final[Mapping[str, ProvisioningReason]] = {
    "failed": ProvisioningReason.TASK_FAILED,
    "gone": ProvisioningReason.TASK_GONE,
    "timeout": ProvisioningReason.TIMEOUT,
}
_MAX_CHECKS: Final = 1_000_000
_UNREADABLE: Final = frozenset((CallStatus.UNREADABLE, CallStatus.OVERSIZE))


@dataclass(frozen=True, slots=True)
class Watch:
    """One created task that is followed up. Its message has the body of the task's success event."""

    success: MigrationSucceeded
    checks: int
    """Looks so far."""

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, object]) -> Self | None:
        """The watch in a message; None if it is none."""
        try:
            success = MigrationSucceeded.model_validate_json(body)
        except ValueError:
            return None
        checks = headers.get(names.ROUND, 0)
        if not re.match(PROJECT_ID_PATTERN, success.project_id) or not success.instance_id:
            return None
        return cls(success, checks if isinstance(checks, int) and 0 <= checks <= _MAX_CHECKS else 0)

    @property
    def key(self) -> Key:
        """Identity among the calls in progress: of the task, not of its request."""
        return (self.success.project_id, self.success.instance_id)

    @property
    def project_id(self) -> str:
        """Project of the task."""
        return self.success.project_id

    @property
    def region(self) -> str:
        """Region of the task."""
        return self.success.region

    @property
    def succeeded_at(self) -> float:
        """When the success was published, in epoch seconds."""
        return self.success.completed_at.timestamp()


def headers(success: MigrationSucceeded, checks: int) -> dict[str, object]:
    """State headers of a watch after so many looks."""
    job = {names.JOB_ID: success.job_id} if success.job_id is not None else {}
    return {names.STAGE: names.FOLLOW_UP, names.TASK_ID: success.instance_id, names.ROUND: checks, **job}


@dataclass(frozen=True, slots=True)
class ListedTask:
    """What is kept of a row of the list."""

    status: str | None
    error_message: str | None = None
    ecs_tenant_private_ip: str | None = None


@dataclass(frozen=True, slots=True)
class LastWord:
    """How a watch ends."""

    verdict: Verdict
    task_status: str | None
    ecs_tenant_private_ip: str | None = None
    fail_reason: str | None = None


def by_status(status: str | None) -> Verdict | None:
    """What a status word says; None: the task is still being created, or the word is missing."""
    match (status or "CREATING").strip().upper():
        case "CREATING":
            return None
        case "ERROR":
            return "failed"
        case "RELEASED" | "DELETED":
            return "gone"
        case _:  # a task that was configured early is past RUNNING, and unknown words come later than CREATING
            return "provisioned"


def by_job(job: JobReply) -> Verdict | None:
    """What the job that creates the task says; None: nothing final."""
    word = (job.status or "").strip().upper()
    return "provisioned" if word == "SUCCESS" else "failed" if word == "FAIL" else None


def is_answer(error: CallError) -> bool:
    """Whether a failed look was answered for good: the credentials may not read, or the answer cannot be read.

    Else the look is repeated: the service is away, or asks for fewer calls.
    """
    return error.status in _UNREADABLE or error_table.final_reason(error) is not None


@dataclass(frozen=True, slots=True)
class ProvisioningEvent:
    """The event that ends a watch, to be published like a final event."""

    succeeded: bool
    event_id: str
    subject: str
    completed_at: str
    body: bytes
    journal: str = ""
    is_repeated: bool = False

    EVENT_TYPES: ClassVar = {True: event.PROVISIONED_TYPE, False: event.PROVISIONING_FAILED_TYPE}
    """By `succeeded`."""


def ending(watch: Watch, word: LastWord, now: float) -> ProvisioningEvent:
    """The event for the last word on a watched task. Its id is the same whenever and however often it is found."""
    success, reason = watch.success, REASONS.get(word.verdict)
    fields: dict[str, Any] = {
        **{field: getattr(success, field) for field in ("request_id", "project_id", "region", "name", "instance_id")},
        "job_id": success.job_id,
        "task_status": word.task_status,
        "ecs_tenant_private_ip": word.ecs_tenant_private_ip,
        "checks": watch.checks,
        "succeeded_at": success.completed_at,
        "completed_at": datetime.fromtimestamp(now, UTC),
    }
    body = (
        MigrationProvisioned(**fields)
        if reason is None
        else MigrationProvisioningFailed(**fields, reason=reason, fail_reason=word.fail_reason)
    )
    type_ = ProvisioningEvent.EVENT_TYPES[reason is None]
    id_ = identity.event_id(success.project_id, success.request_id, type_, success.instance_id, reason)
    return ProvisioningEvent(reason is None, id_, success.request_id, to_text(now), body.model_dump_json().encode())
