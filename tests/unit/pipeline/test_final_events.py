"""Events as they are written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Envelope
from schemas.event import MigrationSucceeded, Reason
from tests.unit.dcs.test_client import an_order
from worker.pipeline.final_events import failed, succeeded
from worker.policy.call_result import CallError, CallStatus, ErrorKind, Evidence, TaskCreated

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
NAME = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(TEXT, st.none() | TEXT, st.none() | TEXT, st.sampled_from(("created", "adopted")), st.integers(0, 99), NAME)
def test_a_success_says_what_its_model_says(
    instance_id: str, job_id: str | None, request_id: str | None, resolution: str, attempts: int, name: str
) -> None:
    """Written without the model, it is byte for byte what the model would write."""
    envelope = Envelope(attempts, 0, 1, 0, 0, 1_700_000_000.1234, None, False, False)
    done = TaskCreated(instance_id, job_id, request_id)
    result = succeeded(an_order(f"n{name}n"), envelope, done, resolution, 1_700_000_001.5)  # type: ignore[arg-type]
    assert MigrationSucceeded.model_validate_json(result.body).model_dump_json().encode() == result.body
    assert (result.completed_at, b'"2023-11-14T22:13:20.123Z"' in result.body) == ("2023-11-14T22:13:21.500Z", True)


def test_an_unknown_first_receipt_is_not_said_to_be_long_ago() -> None:
    """A replay of what the broker had parked says so with the time 0, which readers would take for a true one."""
    envelope, now = Envelope(1, 0, 1, 0, 1, 0.0, None, True, False), 1_700_000_001.5
    order, said = an_order("a"), '"received_at":"2023-11-14T22:13:21.500Z"'
    assert said in succeeded(order, envelope, TaskCreated("t", None, None), "created", now).body.decode()
    assert said in failed(order, envelope, Reason.EXHAUSTED, now).body.decode()


@pytest.mark.parametrize(
    ("status", "code", "parked"), [(400, "DCS.4013", False), (400, "DCS.9999", True), (409, None, False)]
)
def test_a_rejection_is_parked_only_with_an_unknown_code(status: int, code: str | None, parked: bool) -> None:
    """The service may be at fault, and an operator can replay the request when it is repaired."""
    error = CallError(Evidence.REFUSED, ErrorKind.REJECTED, CallStatus.ANSWERED, http_status=status, error_code=code)
    envelope = Envelope.read({}, redelivered=False, now=0.0)
    assert failed(an_order(), envelope, Reason.REJECTED, 0.0, error=error).parked is parked
