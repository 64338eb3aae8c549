"""How calls of the service are entered into the journal of their request."""

from dataclasses import dataclass
from typing import Final, assert_never

from schemas.journal import Journal, Kind
from worker.policy.call_result import CallError, LookupResult, SeveralTasks, TaskCreated, TaskFound, TaskNotFound

MIN_WAIT_SECONDS: Final = 1.0
"""Seconds that a call waited for its turn."""


@dataclass(frozen=True, slots=True)
class Call:
    """A call from the moment that it was wanted, in epoch seconds; `n`: which create it is, else 0."""

    did: Kind
    n: int
    wanted: float
    begun: float


def entered(journal: Journal, call: Call, ending: TaskCreated | LookupResult | CallError, now: float) -> Journal:
    """The journal with the call, which ended `now`. Of what was created at once the event says everything."""
    if call.begun - call.wanted >= MIN_WAIT_SECONDS:
        journal = journal.add(call.begun, Kind.GATE, took=call.begun - call.wanted)
    if isinstance(ending, TaskCreated) and not journal:
        return journal
    got, evidence, code, id_ = _told(ending)
    return journal.add(now, call.did, got, n=call.n, took=now - call.begun, evidence=evidence, code=code, id_=id_)


def _told(ending: TaskCreated | LookupResult | CallError) -> tuple[str, str, str | None, str | None]:
    match ending:
        case TaskCreated():
            return "done", "", None, ending.dcs_request_id
        case TaskFound():
            return "found", "", None, ending.dcs_request_id
        case TaskNotFound():
            return "absent", "", None, None
        case SeveralTasks():
            return "several", "", None, None
        case CallError():
            return ending.label, ending.evidence.value, ending.error_code, ending.dcs_request_id
        case _:
            assert_never(ending)
