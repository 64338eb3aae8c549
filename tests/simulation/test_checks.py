"""The checks of the proof: what they condemn, and what they only count."""

import pytest

from tests.simulation.checks.laws import Facts, judge
from tests.simulation.scenario.plan import Errand, Outage, Plan
from tests.simulation.world.records import Call, Event, Handed, Message

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
    deliveries = list(dict.fromkeys([*(made.by for made in calls), *(told.by for told in events)]))
    return Facts(plan or Plan(), calls, events, [], deliveries, is_sound, {REQUEST})


class Scene:
    """Deliveries of one request: the first, which was lost, its redelivery, a copy by the first, a sender's copy."""

    def __init__(self) -> None:
        self.first = handed(message(), "A", 0.0)
        self.first.lost_at = 10.0
        self.again = handed(self.first.message, "B", 10.0, number=2)
        self.copy = handed(message(self.first), "B", 10.0)
        self.other = handed(message(), "B", 0.0)

    def by(self, name: str) -> Handed:
        """The delivery of that name."""
        found: Handed = getattr(self, name)
        return found


@pytest.fixture
def scene() -> Scene:
    """A scene of one's own."""
    return Scene()


def test_a_plain_success_is_good(scene: Scene) -> None:
    """One call, one task, one event."""
    verdict = judge(facts([call(scene.first, 0.0, 0.1, task="task")], [event(scene.first, 0.2)]))
    assert (verdict.violations, verdict.windows) == ([], [])


@pytest.mark.parametrize(
    ("by", "is_sound", "is_window"),
    [
        ("first", False, False),
        ("again", False, False),
        ("copy", False, False),
        ("other", False, True),
        ("other", True, False),
    ],
)
def test_two_tasks_are_excused_only_where_nobody_could_know(
    scene: Scene, by: str, is_sound: bool, is_window: bool
) -> None:
    """Not along a message's own deliveries and copies, not with claims; but for two copies without claims."""
    scene.first.lost_at = 200.0
    calls = [call(scene.first, 0.0, 0.1, task="task"), call(scene.by(by), 100.0, 100.1, task="more", looked=True)]
    verdict = judge(facts(calls, [event(scene.first, 0.2)], is_sound=is_sound))
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert any("between look and listing" in window for window in verdict.windows) is is_window


@pytest.mark.parametrize(("by", "since"), [("copy", 1.0), ("again", 10.0)])
@pytest.mark.parametrize("early", [-0.1, 0.1])
def test_a_settle_time_is_owed(scene: Scene, by: str, since: float, early: float) -> None:
    """From the end of the call where it is known, else from the moment when the broker took the message back."""
    calls = [call(scene.first, 0.0, 1.0), call(scene.by(by), since + 45.0 - early, task="task", looked=True)]
    violations = judge(facts(calls, [event(scene.by(by), 99.0)])).violations
    assert [text for text in violations if "too early" in text] == violations
    assert bool(violations) is (early > 0)


def test_a_look_counts_only_once_all_has_settled(scene: Scene) -> None:
    """What was looked at too early says nothing, however long its answer took."""
    calls = [call(scene.first, 0.0, 1.0), call(scene.copy, 60.0, task="task", looked=True)]
    calls[1].looked_at = 40.0
    assert judge(facts(calls, [event(scene.copy, 99.0)])).violations == [
        "created at 60.0 s without a look after the call of 0.0 s had settled"
    ]


def test_a_create_on_stale_ground_is_noticed(scene: Scene) -> None:
    """A call that begins long after the broker took the message back."""
    verdict = judge(facts([call(scene.first, 20.0, 20.1, task="task")], [event(scene.first, 20.2)]))
    assert verdict.violations == ["created on stale ground at 20.0 s, 10.0 s after the loss"]


@pytest.mark.parametrize("by", ["again", "copy"])
def test_only_a_first_delivery_may_create_without_a_look(scene: Scene, by: str) -> None:
    """A redelivery and a copy must have looked."""
    verdict = judge(facts([call(scene.by(by), 20.0, 20.1, task="task")], [event(scene.by(by), 20.2)]))
    assert len(verdict.violations) == 1
    assert verdict.violations[0].startswith("created without looking")


@pytest.mark.parametrize(
    ("told", "violation"),
    [
        ([], "lost: no final event"),
        ([("first", "created", "foreign")], "succeeded with foreign, which is not the request's"),
        ([("first", "rejected", None)], "failed (rejected), but task exists"),
        (
            [("first", "created", "task"), ("again", "rejected", None)],
            "two kinds of final event: created, then rejected",
        ),
    ],
)
def test_events_are_there_and_true(scene: Scene, told: list[tuple[str, str, str | None]], violation: str) -> None:
    """At least one, of one kind, and what it says is so."""
    events = [event(scene.by(by), 1.0 + number, reason, task) for number, (by, reason, task) in enumerate(told)]
    verdict = judge(facts([call(scene.first, 0.0, 0.1, task="task")], events))
    assert violation in verdict.violations


def test_one_outcome_has_one_id(scene: Scene) -> None:
    """Two events of one kind with different ids."""
    second = event(scene.first, 2.0)
    second.id = "another"
    verdict = judge(facts([call(scene.first, 0.0, 0.1, task="task")], [event(scene.first, 1.0), second]))
    assert verdict.violations == ["2 event ids"]


def test_what_says_parked_is_parked(scene: Scene) -> None:
    """An event that says parked without a copy in the parked queue."""
    told = event(scene.first, 1.0, "exhausted")
    told.parked = True
    violations = judge(facts([], [told], plan=Plan(delays=()))).violations
    assert violations == ["an event says parked, but nothing is"]


def test_a_failure_told_before_a_lost_acknowledgement_is_a_window(scene: Scene) -> None:
    """Without claims the next replica cannot know of an `exhausted` that was told; with claims it must."""
    calls = [call(scene.again, 60.0, 60.1, task="task", looked=True)]
    events = [event(scene.first, 9.0, "exhausted"), event(scene.again, 60.2)]
    verdict = judge(facts(calls, events, plan=Plan(delays=())))
    assert (verdict.violations, len(verdict.windows)) == ([], 2)
    assert "two kinds of final event: exhausted, then created" in judge(facts(calls, events, is_sound=True)).violations


@pytest.mark.parametrize(
    ("outages", "is_window"), [((), False), ((Outage(at=0, seconds=20, ending="forbidden"),), True)]
)
def test_a_refusal_of_an_outage_told_before_a_lost_acknowledgement_is_a_window(
    scene: Scene, outages: tuple[Outage, ...], *, is_window: bool
) -> None:
    """The next replica meets a service that refuses no more; a service that refuses for good would refuse it again."""
    refused = call(scene.first, 8.0, 8.5)
    refused.ending = "forbidden"
    calls = [refused, call(scene.again, 60.0, 60.1, task="task", looked=True)]
    events = [event(scene.first, 9.0, "forbidden"), event(scene.again, 60.2)]
    verdict = judge(facts(calls, events, plan=Plan(outages=outages)))
    assert len(verdict.windows) == (2 if is_window else 0)
    assert ("two kinds of final event: forbidden, then created" in verdict.violations) is not is_window


@pytest.mark.parametrize(
    ("reason", "grounds"),
    [
        ("exhausted", Plan(delays=())),
        ("expired", Plan(errands=(Errand(not_after=5.0),))),
        ("poison", Plan(limit=0)),
        ("unresolved", Plan(reconcile="off")),
        ("invalid_request", Plan(errands=(Errand(is_broken=True),))),
    ],
)
def test_a_failure_has_grounds(scene: Scene, reason: str, grounds: Plan) -> None:
    """What the contract names for each reason must have happened; else the request was given up for nothing."""
    made = [call(scene.first, 0.0)]
    told = [event(scene.first, 9.0, reason)]
    assert judge(facts(made, told, plan=grounds)).violations == []
    assert judge(facts(made, told)).violations == [f"failed ({reason}) without grounds"]


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("rejected", "rejected"),
        ("unauthenticated", "unauthenticated"),
        ("forbidden", "forbidden"),
        ("not_found", "missing"),
    ],
)
def test_a_refusal_is_the_service_s(scene: Scene, reason: str, ending: str) -> None:
    """A request is refused only where a create call was."""
    made = Call(scene.first, ending, 0.0, is_open=False, is_sent=True, looked_at=None, ended=0.1)
    told = [event(scene.first, 9.0, reason)]
    assert judge(facts([made], told)).violations == []
    made.ending = "busy"
    assert judge(facts([made], told)).violations == [f"failed ({reason}) without grounds"]


def test_a_doubtful_look_is_grounds_for_unresolved(scene: Scene) -> None:
    """A look-up that failed, or showed several."""
    scene.first.is_in_doubt = True
    assert judge(facts([], [event(scene.first, 9.0, "unresolved")])).violations == []


def test_another_task_under_the_same_id_is_excused_without_claims(scene: Scene) -> None:
    """Where the first is not known, the second may adopt what it finds."""
    plan = Plan(errands=(Errand(clashes=(1.0,)),))
    verdict = judge(facts([], [event(scene.first, 1.0, task="foreign")], plan=plan))
    assert verdict.violations == []
    assert len(verdict.windows) == 1
