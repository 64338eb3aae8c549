"""What a log line tells of a fact. No body and no free text of a sender; ids, counts and the service's words."""

from typing import Any

from worker.policy.facts import Settled
from worker.policy.fault import Fault
from worker.policy.order import Order


def of_settled(fact: Settled) -> dict[str, Any]:
    """The line of a delivery that is over."""
    fields = {"outcome": fact.outcome, "reason": fact.reason, **_of_order(fact.order)}
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


def of_fault(order: Order, operation: str, fault: Fault, attempt: int) -> dict[str, Any]:
    """The line of a call that did not succeed; what the service did not say is left out."""
    said = {
        "status": fault.http_status,
        "error_code": fault.error_code,
        "error_msg": fault.error_msg,
        "message": fault.message if fault.error_msg is None else None,
        "dcs_request_id": fault.dcs_request_id,
    }
    return {
        **_of_order(order),
        "operation": operation,
        "attempt": attempt,
        "evidence": fault.evidence.value,
        "label": fault.label,
        **{key: value for key, value in said.items() if value is not None},
    }


def _of_order(order: Order | None) -> dict[str, Any]:
    if order is None:
        return {}
    return {"request_id": order.request_id, "project_id": order.project_id, "region": order.region}
