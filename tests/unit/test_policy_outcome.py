"""Endings on record, and claims as they are answered."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.policy.claim import Granted
from worker.policy.outcome import Ending

endings = st.builds(
    Ending,
    succeeded=st.booleans(),
    reason=st.text(max_size=5),
    event_id=st.text(max_size=5),
    subject=st.none() | st.text(max_size=5),
    completed_at=st.text(max_size=5),
    body=st.text(max_size=20).map(str.encode),
    parked=st.booleans(),
    fingerprint=st.text(max_size=5),
    replays=st.integers(0, 5),
)
RECORD = Ending(True, "created", "e", None, "t", b"{}", False, "f", 0).to_record()


@given(endings)
def test_an_ending_survives_its_record(ending: Ending) -> None:
    """An ending that was stored as JSON and read back is the same."""
    assert Ending.from_record(json.loads(json.dumps(ending.to_record()))) == ending


@pytest.mark.parametrize(
    ("record", "error"),
    [
        ({}, KeyError),
        ({name: value for name, value in RECORD.items() if name != "body"}, KeyError),
        ({name: value for name, value in RECORD.items() if name != "reason"}, TypeError),
        (RECORD | {"added_later": 1}, TypeError),
        (RECORD | {"body": None}, AttributeError),
        (None, TypeError),
        ([], TypeError),
    ],
)
def test_a_record_of_another_kind_is_refused(record: Any, error: type[Exception]) -> None:
    """What is no record ends in one of the documented errors, never in half an ending."""
    with pytest.raises(error):
        Ending.from_record(record)


def test_a_claim_is_a_first_one_unless_it_says_otherwise() -> None:
    """A claim that tells of no earlier one proves that nothing was sent under any."""
    assert Granted() == Granted(is_first=True, last_sent_at=None)
