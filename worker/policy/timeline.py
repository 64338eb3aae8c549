"""How calls of the service are entered into the journal of their request."""

from dataclasses import dataclass
from typing import Final, assert_never

from schemas.journal import Journal, Kind
from worker.policy.call_result import (
    CallError,
    CallResult,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)

MIN_WAIT_SECONDS: Final = 1.0
"""Seconds that a call waited for its turn."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call from the moment that it was wanted, in epoch seconds; `n`: which create it is, else 0."""

    did: Kind
    n: int
    wanted_at: float
    started_at: float


def with_call(journal: Journal, call: Call, result: CallResult, now: float) -> Journal:
    """The journal with the call, which ended `now`. Of what was created at once the event says everything."""
    if call.started_at - call.wanted_at >= MIN_WAIT_SECONDS:
        journal = journal.add(call.started_at, Kind.GATE, took=call.started_at - call.wanted_at)
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
        case CallError():
            return result.label, result.evidence.value, result.error_code, result.dcs_request_id
        case _:
            assert_never(result)
