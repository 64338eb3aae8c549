"""The checks of the proof: what they condemn, and what they only count."""

import pytest

from tests.simulation.checks.laws import RunFacts, check_laws
from tests.simulation.scenario.plan import Outage, Plan, PlannedRequest
from tests.simulation.world.records import CreateCall, DeliveryRecord, Event, Message

REQUEST = (0, False)


def message(parent: DeliveryRecord | None = None) -> Message:
    """A message about the one request."""
    return Message(REQUEST, b"", {}, parent=parent)


def delivered(of: Message, replica: str, at: float, number: int = 1) -> DeliveryRecord:
    """A delivery to a replica that never died."""
    return DeliveryRecord(of, number, replica, replica, at)


def call(
    delivery: DeliveryRecord,
    started_at: float,
    ended_at: float | None = None,
    *,
    task: str | None = None,
    looked: bool = False,
) -> CreateCall:
    """A create call, after which nobody can tell whether the service acted unless it ended with a task's name."""
    lookup_answered_at = started_at - 0.1 if looked else None
    made = CreateCall(
        delivery,
        "",
        started_at,
        is_ambiguous=task is None,
        is_sent=True,
        lookup_answered_at=lookup_answered_at,
        ended_at=ended_at,
    )
    made.task_id = task
    return made


def event(delivery: DeliveryRecord, at: float, reason: str = "created", task: str | None = "task") -> Event:
    """A final event."""
    succeeded = reason in ("created", "adopted")
    return Event(delivery, at, f"id-{succeeded}", succeeded, reason, task if succeeded else None, parked=False)


def facts(
    calls: list[CreateCall], events: list[Event], *, is_sound: bool = False, plan: Plan | None = None
) -> RunFacts:
    """What happened to the one request."""
    deliveries = list(dict.fromkeys([*(call.delivery for call in calls), *(event.delivery for event in events)]))
    return RunFacts(plan or Plan(), calls, events, [], deliveries, is_sound, {REQUEST})


class FourDeliveries:
    """Deliveries of one request: the first, which was lost, its redelivery, a copy by the first, a sender's copy."""

    def __init__(self) -> None:
        self.first = delivered(message(), "A", 0.0)
        self.first.lost_at = 10.0
        self.again = delivered(self.first.message, "B", 10.0, number=2)
        self.copy = delivered(message(self.first), "B", 10.0)
        self.other = delivered(message(), "B", 0.0)

    def named(self, name: str) -> DeliveryRecord:
        """The delivery of that name."""
        found: DeliveryRecord = getattr(self, name)
        return found


@pytest.fixture
def deliveries() -> FourDeliveries:
    """A scene of one's own."""
    return FourDeliveries()


def test_a_plain_success_is_good(deliveries: FourDeliveries) -> None:
    """One call, one task, one event."""
    verdict = check_laws(facts([call(deliveries.first, 0.0, 0.1, task="task")], [event(deliveries.first, 0.2)]))
    assert (verdict.violations, verdict.windows) == ([], [])


@pytest.mark.parametrize(
    ("name", "is_sound", "is_window"),
    [
        ("first", False, False),
        ("again", False, False),
        ("copy", False, False),
        ("other", False, True),
        ("other", True, False),
    ],
)
def test_two_tasks_are_excused_only_where_nobody_could_know(
    deliveries: FourDeliveries, name: str, is_sound: bool, is_window: bool
) -> None:
    """Not along a message's own deliveries and copies, not with claims; but for two copies without claims."""
    deliveries.first.lost_at = 200.0
    calls = [
        call(deliveries.first, 0.0, 0.1, task="task"),
        call(deliveries.named(name), 100.0, 100.1, task="more", looked=True),
    ]
    verdict = check_laws(facts(calls, [event(deliveries.first, 0.2)], is_sound=is_sound))
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert any("between look-up and listing" in window for window in verdict.windows) is is_window


@pytest.mark.parametrize(("name", "since"), [("copy", 1.0), ("again", 10.0)])
@pytest.mark.parametrize("early", [-0.1, 0.1])
def test_a_settle_time_is_owed(deliveries: FourDeliveries, name: str, since: float, early: float) -> None:
    """From the end of the call where it is known, else from the moment when the broker took the message back."""
    calls = [
        call(deliveries.first, 0.0, 1.0),
        call(deliveries.named(name), since + 45.0 - early, task="task", looked=True),
    ]
    violations = check_laws(facts(calls, [event(deliveries.named(name), 99.0)])).violations
    assert [text for text in violations if "too early" in text] == violations
    assert bool(violations) is (early > 0)


def test_a_look_counts_only_once_all_has_settled(deliveries: FourDeliveries) -> None:
    """What was looked at too early says nothing, however long its answer took."""
    calls = [call(deliveries.first, 0.0, 1.0), call(deliveries.copy, 60.0, task="task", looked=True)]
    calls[1].lookup_answered_at = 40.0
    assert check_laws(facts(calls, [event(deliveries.copy, 99.0)])).violations == [
        "created at 60.0 s without a look-up after the listing delay of the call of 0.0 s"
    ]


def test_a_create_on_stale_ground_is_noticed(deliveries: FourDeliveries) -> None:
    """A call that begins long after the broker took the message back."""
    verdict = check_laws(facts([call(deliveries.first, 20.0, 20.1, task="task")], [event(deliveries.first, 20.2)]))
    assert verdict.violations == ["created for a lost delivery at 20.0 s, 10.0 s after the loss"]


@pytest.mark.parametrize("name", ["again", "copy"])
def test_only_a_first_delivery_may_create_without_a_look(deliveries: FourDeliveries, name: str) -> None:
    """A redelivery and a copy must have looked."""
    verdict = check_laws(
        facts([call(deliveries.named(name), 20.0, 20.1, task="task")], [event(deliveries.named(name), 20.2)])
    )
    assert len(verdict.violations) == 1
    assert verdict.violations[0].startswith("created without a look-up")


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
def test_events_are_there_and_true(
    deliveries: FourDeliveries, told: list[tuple[str, str, str | None]], violation: str
) -> None:
    """At least one, of one kind, and what it says is so."""
    events = [
        event(deliveries.named(name), 1.0 + number, reason, task) for number, (name, reason, task) in enumerate(told)
    ]
    verdict = check_laws(facts([call(deliveries.first, 0.0, 0.1, task="task")], events))
    assert violation in verdict.violations


def test_one_outcome_has_one_id(deliveries: FourDeliveries) -> None:
    """Two events of one kind with different ids."""
    second = event(deliveries.first, 2.0)
    second.id = "another"
    verdict = check_laws(facts([call(deliveries.first, 0.0, 0.1, task="task")], [event(deliveries.first, 1.0), second]))
    assert verdict.violations == ["2 event ids"]


def test_what_says_parked_is_parked(deliveries: FourDeliveries) -> None:
    """An event that says parked without a copy in the parked queue."""
    told = event(deliveries.first, 1.0, "exhausted")
    told.parked = True
    violations = check_laws(facts([], [told], plan=Plan(delays=()))).violations
    assert violations == ["an event says parked, but nothing is"]


def test_a_failure_told_before_a_lost_acknowledgement_is_a_window(deliveries: FourDeliveries) -> None:
    """Without claims the next replica cannot know of an `exhausted` that was told; with claims it must."""
    calls = [call(deliveries.again, 60.0, 60.1, task="task", looked=True)]
    events = [event(deliveries.first, 9.0, "exhausted"), event(deliveries.again, 60.2)]
    verdict = check_laws(facts(calls, events, plan=Plan(delays=())))
    assert (verdict.violations, len(verdict.windows)) == ([], 2)
    assert (
        "two kinds of final event: exhausted, then created"
        in check_laws(facts(calls, events, is_sound=True)).violations
    )


@pytest.mark.parametrize(
    ("outages", "is_window"), [((), False), ((Outage(at=0, seconds=20, ending="forbidden"),), True)]
)
def test_a_refusal_of_an_outage_told_before_a_lost_acknowledgement_is_a_window(
    deliveries: FourDeliveries, outages: tuple[Outage, ...], *, is_window: bool
) -> None:
    """The next replica meets a service that refuses no more; a service that refuses for good would refuse it again."""
    refused = call(deliveries.first, 8.0, 8.5)
    refused.ending = "forbidden"
    calls = [refused, call(deliveries.again, 60.0, 60.1, task="task", looked=True)]
    events = [event(deliveries.first, 9.0, "forbidden"), event(deliveries.again, 60.2)]
    verdict = check_laws(facts(calls, events, plan=Plan(outages=outages)))
    assert len(verdict.windows) == (2 if is_window else 0)
    assert ("two kinds of final event: forbidden, then created" in verdict.violations) is not is_window


@pytest.mark.parametrize(
    ("reason", "grounds"),
    [
        ("exhausted", Plan(delays=())),
        ("expired", Plan(requests=(PlannedRequest(not_after=5.0),))),
        ("poison", Plan(delivery_limit=0)),
        ("unresolved", Plan(reconcile="off")),
        ("invalid_request", Plan(requests=(PlannedRequest(is_invalid=True),))),
    ],
)
def test_a_failure_has_grounds(deliveries: FourDeliveries, reason: str, grounds: Plan) -> None:
    """What the contract names for each reason must have happened; else the request was given up for nothing."""
    made = [call(deliveries.first, 0.0)]
    told = [event(deliveries.first, 9.0, reason)]
    assert check_laws(facts(made, told, plan=grounds)).violations == []
    assert check_laws(facts(made, told)).violations == [f"failed ({reason}) without cause"]


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("rejected", "rejected"),
        ("unauthenticated", "unauthenticated"),
        ("forbidden", "forbidden"),
        ("not_found", "missing"),
    ],
)
def test_a_refusal_is_the_service_s(deliveries: FourDeliveries, reason: str, ending: str) -> None:
    """A request is refused only where a create call was."""
    made = CreateCall(
        deliveries.first, ending, 0.0, is_ambiguous=False, is_sent=True, lookup_answered_at=None, ended_at=0.1
    )
    told = [event(deliveries.first, 9.0, reason)]
    assert check_laws(facts([made], told)).violations == []
    made.ending = "busy"
    assert check_laws(facts([made], told)).violations == [f"failed ({reason}) without cause"]


def test_a_doubtful_look_is_grounds_for_unresolved(deliveries: FourDeliveries) -> None:
    """A look-up that failed, or showed several."""
    deliveries.first.is_in_doubt = True
    assert check_laws(facts([], [event(deliveries.first, 9.0, "unresolved")])).violations == []


def test_another_task_under_the_same_id_is_excused_without_claims(deliveries: FourDeliveries) -> None:
    """Where the first is not known, the second may adopt what it finds."""
    plan = Plan(requests=(PlannedRequest(clashes=(1.0,)),))
    verdict = check_laws(facts([], [event(deliveries.first, 1.0, task="foreign")], plan=plan))
    assert verdict.violations == []
    assert len(verdict.windows) == 1
