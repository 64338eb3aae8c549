"""Claims as they are answered, and which deliveries an outcome answers."""

from dataclasses import replace

import pytest

from schemas.envelope import Envelope
from schemas.timestamp import from_text
from tests.unit.claims.sample_migration import MIGRATION
from worker.policy.outcome import Completed, Granted

AT = from_text("2026-11-27T10:00:00.000Z") or 0.0
SUCCESS = Completed(True, "created", "", "r-1", "2026-11-27T10:00:00.000Z", b"", False, MIGRATION.fingerprint, 0)
REJECTED = replace(SUCCESS, succeeded=False, reason="rejected")
PARKED = replace(REJECTED, reason="forbidden", parked=True, replays=1)
EXPIRED = replace(REJECTED, reason="expired", not_after=AT - 1)
CONFLICT = replace(REJECTED, reason="conflict", fingerprint="")

BEFORE = Envelope.read({}, redelivered=False, now=AT)
LATER = Envelope.read({}, redelivered=False, now=AT + 0.001)
REDELIVERED = Envelope.read({}, redelivered=True, now=AT + 60)
MESSAGE = replace(MIGRATION, not_after=AT - 1)
OTHER_TASK = replace(MIGRATION, fingerprint="0" * 32)


def test_a_claim_is_a_first_one_unless_it_says_otherwise() -> None:
    """A claim that tells of no earlier one proves that nothing was sent under any."""
    assert Granted() == Granted(is_first=True, last_sent_at=None)


@pytest.mark.parametrize(
    ("completed", "before", "later", "redelivered"),
    [
        (SUCCESS, True, True, True),
        (PARKED, True, True, True),
        (REJECTED, True, False, True),
        (EXPIRED, True, False, True),
        (CONFLICT, False, False, False),
    ],
    ids=lambda value: value.reason if isinstance(value, Completed) else None,
)
def test_an_outcome_answers_what_had_arrived_and_if_it_stands_what_comes(
    completed: Completed, before: bool, later: bool, redelivered: bool
) -> None:
    """A conflict answers nothing. Where the task is another one, the answer is a conflict."""
    for migration in (MESSAGE, OTHER_TASK):
        answered = [completed.answers(migration, envelope) for envelope in (BEFORE, LATER, REDELIVERED)]
        assert answered == [before, later, redelivered]


@pytest.mark.parametrize(
    ("completed", "replays", "is_answered", "is_other_answered"),
    [(PARKED, 1, True, True), (PARKED, 2, False, True), (REJECTED, 1, False, True), (SUCCESS, 2, True, True)],
    ids=lambda value: value.reason if isinstance(value, Completed) else None,
)
def test_a_later_replay_of_its_request_ends_a_failure(
    completed: Completed, replays: int, is_answered: bool, is_other_answered: bool
) -> None:
    """What an operator sent again is processed, but for another task under a request id that is in use."""
    envelope = replace(BEFORE, replays=replays)
    answered = completed.answers(MESSAGE, envelope), completed.answers(OTHER_TASK, envelope)
    assert answered == (is_answered, is_other_answered)


@pytest.mark.parametrize("not_after", [None, AT])
def test_expired_answers_no_message_with_a_later_not_after(not_after: float | None) -> None:
    """Not even one that had arrived before. Without a known `not_after` it expired when it ended, at the latest."""
    assert not EXPIRED.answers(replace(MESSAGE, not_after=not_after), REDELIVERED)
    assert replace(EXPIRED, not_after=None).answers(replace(MESSAGE, not_after=not_after), BEFORE) is (not_after == AT)
