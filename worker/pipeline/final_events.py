"""Final events: the only code that builds them."""

from dataclasses import asdict, replace

from pydantic_core import to_json

from schemas import event, identity
from schemas.envelope import Envelope
from schemas.event import PARKED_REASONS, DcsError, MigrationFailed, Reason, Resolution
from schemas.last_error import LastError
from schemas.request import InvalidRequestError
from schemas.timestamp import to_text
from worker.policy import error_table
from worker.policy.call_result import CallError, Evidence, TaskCreated
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed

MESSAGES = {
    Reason.CONFLICT: "this message was not processed: its request_id belongs to another task",
    Reason.REJECTED: "DCS refused the request for good",
    Reason.UNAUTHENTICATED: "DCS does not accept the worker's credentials",
    Reason.FORBIDDEN: "the worker's credentials may not create migration tasks in this project",
    Reason.NOT_FOUND: "DCS does not know this project, or the API is not at this endpoint",
    Reason.EXPIRED: "not_after has passed and no task was created",
    Reason.EXHAUSTED: "every place of the retry schedule was used and no task was created",
    Reason.UNRESOLVED: "it could not be established whether a task exists",
    Reason.POISON: "the request took its worker down again and again",
}
MAY_NOT_LIST = {
    "always": "the worker's credentials may not list migration tasks in this project, which WORKER_RECONCILE=always "
    "needs before every create: grant the right dcs:migrationTask:list, or set WORKER_RECONCILE=ambiguous",
    "ambiguous": "the worker's credentials may not list migration tasks in this project, which WORKER_RECONCILE="
    "ambiguous needs for a repeated delivery, and while Redis is away: grant the right dcs:migrationTask:list",
}
"""By `WORKER_RECONCILE`."""


def succeeded(
    migration: MigrationRequest, envelope: Envelope, done: TaskCreated, resolution: Resolution, now: float
) -> Completed:
    """The task exists."""
    completed_at = to_text(now)
    # The fields of MigrationSucceeded without the model, which costs four times as much: nearly every request ends so.
    body = {
        "request_id": migration.request_id,
        "project_id": migration.project_id,
        "region": migration.region,
        "name": migration.task.name,
        "instance_id": done.instance_id,
        "job_id": done.job_id,
        "resolution": resolution,
        "task_status": done.task_status,
        "attempts": envelope.attempts,
        "dcs_request_id": done.dcs_request_id,
        "received_at": _received_at(envelope, now),
        "completed_at": completed_at,
    }
    return Completed(
        succeeded=True,
        reason=resolution,
        event_id=identity.event_id(migration.project_id, migration.request_id, event.SUCCEEDED_TYPE, done.instance_id),
        subject=migration.request_id,
        completed_at=completed_at,
        body=to_json(body),
        parked=False,
        fingerprint=migration.fingerprint,
        replays=envelope.replays,
        journal=envelope.journal.text(),
    )


def failed(
    migration: MigrationRequest,
    envelope: Envelope,
    reason: Reason,
    now: float,
    *,
    error: CallError | LastError | None = None,
    candidates: tuple[str, ...] = (),
    said: str | None = None,
) -> Completed:
    """The valid request failed; `said` replaces the usual message of the reason."""
    said = said or MESSAGES[reason]
    message = f"{said}: {error.message}"[:1024] if error and error.message else said
    body = MigrationFailed(
        **asdict(migration.sender),
        reason=reason,
        message=message,
        error=_error(error, candidates),
        attempts=envelope.attempts,
        parked=reason in PARKED_REASONS or _is_unknown_rejection(reason, error),
        dcs_request_id=error.dcs_request_id if error else None,
        received_at=_received_at(envelope, now),
        completed_at=to_text(now),
    )
    completed = _failure(body, envelope, migration.message, migration.fingerprint)
    return replace(completed, not_after=migration.not_after) if reason is Reason.EXPIRED else completed


def _is_unknown_rejection(reason: Reason, error: CallError | LastError | None) -> bool:
    """Whether an operator may have to replay a rejected request, once the service is repaired."""
    if reason is not Reason.REJECTED or error is None:
        return False
    return not (error_table.is_known_code(error) or error_table.is_conflict(error))


def conflicting(migration: MigrationRequest, envelope: Envelope, now: float) -> Completed:
    """The request id belongs to another task. It answers this message only, so it has no fingerprint."""
    return replace(failed(migration, envelope, Reason.CONFLICT, now), fingerprint="")


def invalid(error: InvalidRequestError, envelope: Envelope, body: bytes, now: float) -> Completed:
    """The message is no valid request."""
    content = MigrationFailed(
        **asdict(error.sender),
        reason=Reason.INVALID_REQUEST,
        message=f"the message is no valid request: {error}"[:1024],
        violations=error.violations,
        parked=not error.is_addressed,
        received_at=_received_at(envelope, now),
        completed_at=to_text(now),
    )
    return _failure(content, envelope, body, "")


def _received_at(envelope: Envelope, now: float) -> str:
    """When the request was first received; the time of the event if that is unknown: the broker had parked it."""
    return to_text(envelope.first_received_at or now)


def _failure(body: MigrationFailed, envelope: Envelope, message: bytes, fingerprint: str) -> Completed:
    return Completed(
        succeeded=False,
        reason=str(body.reason),
        event_id=identity.failure_id(body, envelope.replays, message),
        subject=body.request_id,
        completed_at=to_text(body.completed_at.timestamp()),
        body=body.model_dump_json().encode(),
        parked=body.parked,
        fingerprint=fingerprint,
        replays=envelope.replays,
        error_code=body.error.error_code if body.error else None,
        journal=envelope.journal.text(),
    )


def _error(error: CallError | LastError | None, candidates: tuple[str, ...]) -> DcsError | None:
    is_unsent = isinstance(error, CallError) and error.evidence is Evidence.NEVER_SENT
    if error is None or (error.http_status is None and is_unsent):
        return DcsError(candidates=candidates) if candidates else None
    return DcsError(
        status=error.http_status,
        error_code=error.error_code,
        error_msg=error.error_msg,
        error_ext_msg=error.error_ext_msg,
        candidates=candidates or None,
    )
