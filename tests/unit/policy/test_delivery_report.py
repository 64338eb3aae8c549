"""Reports of a delivery: its trace, and the journal entries of its calls."""

import pytest

from schemas.envelope import Envelope
from schemas.journal import EMPTY, Journal, Kind
from schemas.names import TRACEPARENT
from tests.malformed_messages import FORGED
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    ConflictingTask,
    ErrorKind,
    Evidence,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
)
from worker.policy.delivery_report import (
    MAX_SENDER_AGE_SECONDS,
    MIN_WAIT_SECONDS,
    Call,
    age_starts_at,
    trace_id,
    with_call,
)

TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("published_at", "expected"),
    [
        (None, 900.0),
        (400.0, 400.0),
        (1000.0, 1000.0),
        (1000.5, 900.0),
        (1000.0 - MAX_SENDER_AGE_SECONDS, 1000.0 - MAX_SENDER_AGE_SECONDS),
        (999.0 - MAX_SENDER_AGE_SECONDS, 900.0),
    ],
)
def test_age_starts_when_sender_published(published_at: float | None, expected: float) -> None:
    """Without a time, or with one in the future or more than 30 days ago, when the request was first received."""
    received = Envelope.read({}, redelivered=False, now=900.0)
    assert age_starts_at(published_at, received, 1000.0) == expected


@pytest.mark.parametrize(
    ("value", "trace"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"00-{TRACE}-b7ad6b7169203331-01\n", None),
        (f"00-{TRACE.upper()}-b7ad6b7169203331-01", None),
        (f"00-{TRACE}-b7ad6b7169203331", None),
        (f"00-{TRACE}-b7ad6b7169203331-01".encode(), None),
        ("garbage", None),
        (None, None),
    ],
)
def test_a_trace_is_read_only_from_a_good_header(value: object, trace: str | None) -> None:
    """A header of exactly the standard's form names a trace, anything else none."""
    assert trace_id({TRACEPARENT: value}) == trace


def test_no_forged_header_names_a_trace() -> None:
    """No message of the corpus has a trace, and none makes reading it fail."""
    assert {trace_id(forged.headers) for forged in FORGED} == {None}


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
        (ConflictingTask(("i-1",)), ("create", "conflict", 2, 1.5, "", "", "")),
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
