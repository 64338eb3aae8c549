"""Text of journal entries."""

from typing import Any

import pytest

from schemas.journal import EMPTY, Kind
from tests.unit.cli.parked.parked_messages import NOW
from worker.cli.parked.journal_text import describe_entry


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"did": Kind.CREATE, "got": "done", "n": 2, "took": 0.25, "id_": "d-2"},
            "create call 2: task created after 0.25 s",
        ),
        (
            {"did": Kind.CREATE, "got": "stale", "n": 1, "evidence": "never_sent"},
            "create call 1: stale after 0 s, not sent",
        ),
        (
            {"did": Kind.CREATE, "got": "429", "n": 1, "evidence": "refused"},
            "create call 1: 429 after 0 s, rejected: no task was created",
        ),
        ({"did": Kind.LOOK, "got": "found"}, "lookup: task found"),
        ({"did": Kind.LOOK, "got": "several"}, "lookup: several tasks found that may belong to the request"),
        ({"did": Kind.LOOK, "got": "403", "evidence": "refused", "code": "DCS.4030"}, "lookup: 403 (DCS.4030)"),
        ({"did": Kind.GATE, "took": 3725.0}, "waited 1 h 2 min for the permit of a call"),
        ({"did": Kind.WAIT, "got": "timeout", "n": 1, "took": 10}, "waits 10 s in retry queue 1: because of timeout"),
        ({"did": Kind.WAIT, "got": "claimed", "n": 1, "took": 10}, "another replica is handling the request"),
        ({"did": Kind.RETURNED}, "requeued by a replica that was shutting down"),
        ({"did": Kind.REDELIVERED, "n": 1}, "redelivered: 1 delivery was interrupted"),
        ({"did": Kind.REDELIVERED, "n": 3}, "redelivered: 3 deliveries were interrupted"),
        ({"did": Kind.PARKED, "got": "exhausted", "code": "DCS.5000"}, "parked: exhausted (DCS.5000)"),
        ({"did": Kind.REPLAYED, "n": 2}, "replayed by an operator (replay 2)"),
    ],
)
def test_journal_entry_is_a_sentence(fields: dict[str, Any], words: str) -> None:
    """It has the result, the duration and the reason."""
    (entry,) = EMPTY.add(NOW, **fields).entries
    assert words in describe_entry(entry)
