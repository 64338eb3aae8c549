"""How calls are with_call into a journal."""

import pytest

from schemas.journal import EMPTY, Journal, Kind
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    ErrorKind,
    Evidence,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.timeline import MIN_WAIT_SECONDS, Call, with_call

NOW = 1_790_000_000.0
TOLD = EMPTY.add(NOW, Kind.RETURNED)
BUSY = CallError(
    Evidence.REFUSED, ErrorKind.RETRY, CallStatus.ANSWERED, http_status=400, error_code="DCS.4026", dcs_request_id="d-1"
)


def last(journal: Journal) -> tuple[object, ...]:
    """What the newest entry says."""
    entry = journal.entries[-1]
    return (entry.did.value, entry.got, entry.n, entry.took, entry.evidence, entry.code, entry.id)


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        (TaskCreated("i-1", None, "d-1"), ("create", "done", 2, 1.5, "", "", "d-1")),
        (TaskFound("i-1", "d-1"), ("create", "found", 2, 1.5, "", "", "d-1")),
        (TaskNotFound(), ("create", "absent", 2, 1.5, "", "", "")),
        (SeveralTasks(("i-1", "i-2")), ("create", "several", 2, 1.5, "", "", "")),
        (BUSY, ("create", "400", 2, 1.5, "refused", "DCS.4026", "d-1")),
    ],
)
def test_every_result_is_recorded(ending: CallResult, expected: tuple[object, ...]) -> None:
    """How it ended, how long it took, what it proves, and by which id DCS knows it."""
    journal = with_call(TOLD, Call(Kind.CREATE, 2, NOW, NOW), ending, NOW + 1.5)
    assert (len(journal.entries), last(journal)) == (2, expected)


def test_an_immediate_success_is_not_recorded() -> None:
    """Its event says it all."""
    assert with_call(EMPTY, Call(Kind.CREATE, 1, NOW, NOW), TaskCreated("i-1"), NOW) is EMPTY


def test_a_long_wait_for_a_permit_is_recorded_before_the_call() -> None:
    """And then the call is, even one that succeeds; a moment is not worth telling."""
    waited = with_call(EMPTY, Call(Kind.CREATE, 1, NOW, NOW + 12.5), TaskCreated("i-1"), NOW + 13)
    assert [(entry.did.value, entry.took) for entry in waited.entries] == [("gate", 12.5), ("create", 0.5)]
    assert not with_call(EMPTY, Call(Kind.CREATE, 1, NOW, NOW + MIN_WAIT_SECONDS / 2), TaskCreated("i-1"), NOW + 1)
