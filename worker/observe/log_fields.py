"""Log lines of requests and of failed calls: their levels, fields and sentences.

No free text of a sender is in them: ids, counts, broken rules and the words of DCS.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final

from worker.policy.call_result import CallError, ErrorKind, Evidence
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.migration_request import MigrationRequest

CALL_RESULTS: Final = {Evidence.NEVER_SENT: "not_sent", Evidence.REFUSED: "rejected", Evidence.AMBIGUOUS: "unknown"}
"""What a failed call did, for an operator."""
REFUSALS: Final = (ErrorKind.UNAUTHENTICATED, ErrorKind.FORBIDDEN, ErrorKind.NOT_FOUND)
"""Errors that an operator has to remove."""


def call_level(error: CallError) -> int:
    """A call whose result an operator may have to act on is a warning."""
    if error.is_ambiguous or error.kind in REFUSALS:
        return logging.WARNING
    # A throttled project produces hundreds of these, and none needs attention.
    return logging.DEBUG if error.kind is ErrorKind.THROTTLED else logging.INFO


def delivery_fields(fact: DeliveryFinished) -> dict[str, Any]:
    """The fields of a handled delivery; what does not apply is left out."""
    event: Mapping[str, Any] = json.loads(fact.completed.body) if fact.completed is not None else {}
    error: Mapping[str, Any] = event.get("error") or {}
    has_failed = fact.outcome == "failed"
    request = _request_fields(fact.migration) or {name: event.get(name) for name in ("request_id", "project_id")}
    fields = {
        "reason": fact.reason,
        **request,
        "instance_id": event.get("instance_id"),
        "message_id": fact.message_id if has_failed else None,
        "error_code": error.get("error_code"),
        "error": error.get("error_msg") or event.get("message"),
        "violations": [f"{broken['field']}: {broken['message']}" for broken in event.get("violations", ())] or None,
        "create_calls": fact.envelope.attempts,
        "retry": fact.envelope.round,
        "retry_in_seconds": fact.retry_in_seconds,
        "duration_seconds": round(fact.seconds, 4),
        "age_seconds": round(fact.age, 4),
        "parked": fact.parked or None,
        "repeated": fact.is_repeated or None,
        "trace_id": fact.trace_id,
    }
    known = {name: value for name, value in fields.items() if value is not None}
    return {"message": _delivery_sentence(fact, known), **known}


def _delivery_sentence(fact: DeliveryFinished, fields: Mapping[str, Any]) -> str:
    said_before = ", answered from memory: DCS was not called" if fact.is_repeated else ""
    if (request_id := fields.get("request_id")) is not None:
        what = f"Request {request_id}"
    else:
        what = f"Message {fields['message_id']}" if "message_id" in fields else "A message"
    match fact.outcome:
        case "succeeded":
            return f"{what} succeeded ({fact.reason}{said_before}): task {fields.get('instance_id')}"
        case "failed":
            where = " and is parked" if fact.parked else ""
            return f"{what} failed{where} ({fact.reason}{said_before}): {fields.get('error', fact.reason)}"
        case "retried":
            return f"{what} waits {fact.retry_in_seconds or 0.0:g} s in a retry queue ({fact.reason})"
        case _:
            return f"{what} was returned to the requests queue ({fact.reason})"


def call_error_fields(migration: MigrationRequest, operation: str, error: CallError, attempt: int) -> dict[str, Any]:
    """The fields of a failed call; what DCS did not say is left out."""
    call, result, said = "lookup" if operation == "find" else operation, CALL_RESULTS[error.evidence], error.message
    words = " ".join(filter(None, (error.label, error.error_code, error.error_msg or said)))
    fields = {
        "message": f"The {call} for request {migration.request_id} failed ({words}); result: {result}",
        **_request_fields(migration),
        "operation": call,
        "attempt": attempt,
        "result": result,
        "status": error.label,
        "error_code": error.error_code,
        "error": error.error_msg or said or None,
        "dcs_request_id": error.dcs_request_id,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _request_fields(migration: MigrationRequest | None) -> dict[str, Any]:
    if migration is None:
        return {}
    return {"request_id": migration.request_id, "project_id": migration.project_id, "region": migration.region}
