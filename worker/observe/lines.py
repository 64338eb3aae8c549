"""What a log line tells of a fact. No body and no free text of a sender; ids, counts and the service's words."""

from typing import Any

from worker.policy.facts import Settled
from worker.policy.fault import Fault
from worker.policy.order import Order


def settled_fields(fact: Settled) -> dict[str, Any]:
    """The line of a delivery that is over."""
    fields = {"outcome": fact.outcome, "reason": fact.reason, **_request_fields(fact.order)}
    envelope = fact.envelope
    fields["attempts"] = envelope.attempts
    fields["round"] = envelope.round
    fields["seconds"] = round(fact.seconds, 4)
    fields["age"] = round(fact.age, 4)
    if fact.parked:
        fields["parked"] = True
    if fact.trace_id is not None:
        fields["trace_id"] = fact.trace_id
    return fields


def call_error_fields(order: Order, operation: str, error: Fault, attempt: int) -> dict[str, Any]:
    """The line of a call that did not succeed; what the service did not say is left out."""
    details = {
        "status": error.http_status,
        "error_code": error.error_code,
        "error_msg": error.error_msg,
        "message": error.message if error.error_msg is None else None,
        "dcs_request_id": error.dcs_request_id,
    }
    return {
        **_request_fields(order),
        "operation": operation,
        "attempt": attempt,
        "evidence": error.evidence.value,
        "label": error.label,
        **{key: value for key, value in details.items() if value is not None},
    }


def _request_fields(order: Order | None) -> dict[str, Any]:
    if order is None:
        return {}
    return {"request_id": order.request_id, "project_id": order.project_id, "region": order.region}
