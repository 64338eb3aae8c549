"""Facts: the trace that a message says it belongs to, and whether this replica is ready."""

import pytest

from schemas.names import TRACEPARENT
from tests.malformed_messages import FORGED
from worker.policy.delivery_report import trace_id
from worker.policy.readiness import Readiness

TRACE = "0af7651916cd43dd8448eb211c80319c"


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


def test_readiness_may_have_no_details() -> None:
    """A replica that has no more to say says nothing more."""
    assert Readiness(is_ready=True, reason="consuming").details == {}
