"""The checks of the proof: what they condemn, and what they only count."""

import pytest

from worker.tools.proof.checks import Facts, judge
from worker.tools.proof.plan import Errand, Plan
from worker.tools.proof.records import Call, Event, Handed, Message

REQUEST = (0, False)


def message(parent: Handed | None = None) -> Message:
    """A message about the one request."""
    return Message(REQUEST, b"", {}, parent=parent)


def handed(of: Message, replica: str, at: float, number: int = 1) -> Handed:
    """A delivery to a replica that never died."""
    return Handed(of, number, replica, replica, at)


def call(
    by: Handed, begun: float, ended: float | None = None, *, task: str | None = None, looked: bool = False
) -> Call:
    """A create call, after which nobody can tell whether the service acted unless it ended with a task's name."""
    looked_at = begun - 0.1 if looked else None
    made = Call(by, "", begun, is_open=task is None, is_sent=True, looked_at=looked_at, ended=ended)
    made.task_id = task
    return made


def event(by: Handed, at: float, reason: str = "created", task: str | None = "task") -> Event:
    """A final event."""
    succeeded = reason in ("created", "adopted")
    return Event(by, at, f"id-{succeeded}", succeeded, reason, task if succeeded else None, parked=False)


def facts(calls: list[Call], events: list[Event], *, is_sound: bool = False, plan: Plan | None = None) -> Facts:
    """What happened to the one request."""
    deliveries = list(dict.fromkeys([made.by for made in calls] + [told.by for told in events]))
    return Facts(plan or Plan(), calls, events, [], deliveries, is_sound, {REQUEST})


FIRST = handed(message(), "A", 0.0)
AGAIN = handed(FIRST.message, "B", 10.0, number=2)
COPY = handed(message(FIRST), "B", 10.0)
OTHER = handed(message(), "B", 0.0)
FIRST.lost_at = 10.0


def test_a_plain_success_is_good() -> None:
    """One call, one task, one event."""
    verdict = judge(facts([call(FIRST, 0.0, 0.1, task="task")], [event(FIRST, 0.2)]))
    assert (verdict.violations, verdict.windows) == ([], [])


@pytest.mark.parametrize(
    ("by", "is_sound", "is_window"),
    [(FIRST, False, False), (AGAIN, False, False), (COPY, False, False), (OTHER, False, True), (OTHER, True, False)],
)
def test_two_tasks_are_excused_only_where_nobody_could_know(by: Handed, is_sound: bool, is_window: bool) -> None:
    """Not along a message's own deliveries and copies, not with claims; but for two copies without claims."""
    calls = [call(FIRST, 0.0, 0.1, task="task"), call(by, 100.0, 100.1, task="more", looked=True)]
    calls[1].by.lost_at = 200.0
    verdict = judge(facts(calls, [event(FIRST, 0.2)], is_sound=is_sound))
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert any("between look and listing" in window for window in verdict.windows) is is_window


@pytest.mark.parametrize(("by", "since"), [(COPY, 1.0), (AGAIN, 10.0)])
@pytest.mark.parametrize("early", [-0.1, 0.1])
def test_a_settle_time_is_owed(by: Handed, since: float, early: float) -> None:
    """From the end of the call where it is known, else from the moment when the broker took the message back."""
    FIRST.lost_at, AGAIN.lost_at = 10.0, 200.0
    calls = [call(FIRST, 0.0, 1.0), call(by, since + 45.0 - early, task="task", looked=True)]
    violations = judge(facts(calls, [event(by, 99.0)])).violations
    assert [text for text in violations if "too early" in text] == violations
    assert bool(violations) is (early > 0)


def test_a_create_on_stale_ground_is_noticed() -> None:
    """A call that begins long after the broker took the message back."""
    FIRST.lost_at = 10.0
    verdict = judge(facts([call(FIRST, 20.0, 20.1, task="task")], [event(FIRST, 20.2)]))
    assert verdict.violations == ["created on stale ground at 20.0 s, 10.0 s after the loss"]


@pytest.mark.parametrize("by", [AGAIN, COPY])
def test_only_a_first_delivery_may_create_without_a_look(by: Handed) -> None:
    """A redelivery and a copy must have looked."""
    by.lost_at = 200.0
    verdict = judge(facts([call(by, 20.0, 20.1, task="task")], [event(by, 20.2)]))
    assert len(verdict.violations) == 1
    assert verdict.violations[0].startswith("created without looking")


@pytest.mark.parametrize(
    ("events", "violation"),
    [
        ([], "lost: no final event"),
        ([event(FIRST, 1.0, task="foreign")], "succeeded with foreign, which is not the request's"),
        ([event(FIRST, 1.0, "rejected")], "failed (rejected), but task exists"),
        ([event(FIRST, 1.0), event(AGAIN, 2.0, "rejected")], "two kinds of final event: created, then rejected"),
    ],
)
def test_events_are_there_and_true(events: list[Event], violation: str) -> None:
    """At least one, of one kind, and what it says is so."""
    verdict = judge(facts([call(FIRST, 0.0, 0.1, task="task")], events))
    assert violation in verdict.violations


def test_one_outcome_has_one_id() -> None:
    """Two events of one kind with different ids."""
    second = event(FIRST, 2.0)
    second.id = "another"
    verdict = judge(facts([call(FIRST, 0.0, 0.1, task="task")], [event(FIRST, 1.0), second]))
    assert verdict.violations == ["2 event ids"]


def test_what_says_parked_is_parked() -> None:
    """An event that says parked without a copy in the parked queue."""
    told = event(FIRST, 1.0, "exhausted")
    told.parked = True
    assert judge(facts([], [told])).violations == ["an event says parked, but nothing is"]


def test_a_failure_told_before_a_lost_acknowledgement_is_a_window() -> None:
    """Without claims the next replica cannot know of an `exhausted` that was told; with claims it must."""
    AGAIN.lost_at = 200.0
    calls = [call(AGAIN, 60.0, 60.1, task="task", looked=True)]
    events = [event(FIRST, 9.0, "exhausted"), event(AGAIN, 60.2)]
    assert judge(facts(calls, events)).violations == []
    assert len(judge(facts(calls, events)).windows) == 2
    assert "two kinds of final event: exhausted, then created" in judge(facts(calls, events, is_sound=True)).violations


def test_another_task_under_the_same_id_is_excused_without_claims() -> None:
    """Where the first is not known, the second may adopt what it finds."""
    plan = Plan(errands=(Errand(clashes=(1.0,)),))
    verdict = judge(facts([], [event(FIRST, 1.0, task="foreign")], plan=plan))
    assert verdict.violations == []
    assert len(verdict.windows) == 1
