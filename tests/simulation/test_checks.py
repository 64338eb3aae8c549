"""Tests of the checks: what is a violation, and what is only a window."""

import pytest

from tests.simulation.checks.laws import RunFacts, check_laws
from tests.simulation.scenario.plan import Outage, Plan, PlannedRequest
from tests.simulation.world.records import CreateCall, DeliveryRecord, Event, LastEvent, Message, WatchStart

REQUEST = (0, False)


def message(parent: DeliveryRecord | None = None) -> Message:
    """A message about the one request."""
    return Message(REQUEST, b"", {}, parent=parent)


def delivered(of: Message, replica: str, at: float, number: int = 1) -> DeliveryRecord:
    """A delivery to a replica that never restarted."""
    return DeliveryRecord(of, number, replica, replica, at)


def call(
    delivery: DeliveryRecord,
    started_at: float,
    ended_at: float | None = None,
    *,
    task: str | None = None,
    looked: bool = False,
) -> CreateCall:
    """A create call; ambiguous unless it returned a task."""
    lookup_answered_at = started_at - 0.1 if looked else None
    create_call = CreateCall(
        delivery,
        "",
        started_at,
        is_ambiguous=task is None,
        is_sent=True,
        lookup_answered_at=lookup_answered_at,
        ended_at=ended_at,
    )
    create_call.task_id = task
    return create_call


def event(delivery: DeliveryRecord, at: float, reason: str = "created", task: str | None = "task") -> Event:
    """A final event."""
    succeeded = reason in ("created", "adopted")
    instance_id = task if succeeded else None
    return Event(delivery, at, f"id-{succeeded}", succeeded, reason, instance_id, False, meaning=(succeeded,))


def facts(
    calls: list[CreateCall],
    events: list[Event],
    *,
    is_sound: bool = False,
    are_claims_common: bool = False,
    plan: Plan | None = None,
) -> RunFacts:
    """Facts of a run with one request; unless the plan says so, first deliveries are not looked up."""
    plan = plan or Plan()
    if "reconcile" not in plan.model_fields_set:
        plan = plan.model_copy(update={"reconcile": "ambiguous"})
    deliveries = list(dict.fromkeys([*(call.delivery for call in calls), *(event.delivery for event in events)]))
    return RunFacts(plan, calls, events, [], deliveries, is_sound, is_sound or are_claims_common, {REQUEST})


class FourDeliveries:
    """Deliveries of one request: a first one that was lost, its redelivery, its copy, and a copy by the sender."""

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
    """New deliveries of one request."""
    return FourDeliveries()


def test_plain_success_has_no_violation(deliveries: FourDeliveries) -> None:
    """One create call, one task, one event."""
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
def test_two_tasks_are_window_only_for_unrelated_deliveries_without_claims(
    deliveries: FourDeliveries, name: str, is_sound: bool, is_window: bool
) -> None:
    """A redelivery and a copy must know of the first task, and so must every delivery with claims."""
    deliveries.first.lost_at = 200.0
    calls = [
        call(deliveries.first, 0.0, 0.1, task="task"),
        call(deliveries.named(name), 100.0, 100.1, task="more", looked=True),
    ]
    verdict = check_laws(facts(calls, [event(deliveries.first, 0.2)], is_sound=is_sound))
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert any("between look-up and listing" in window for window in verdict.windows) is is_window


ALWAYS = Plan(reconcile="always")
PAUSE = Plan(reconcile="always", claims=True, claims_away="pause")


@pytest.mark.parametrize(
    ("plan", "looked", "seconds", "is_window"),
    [
        (ALWAYS, True, 109.9, True),
        (ALWAYS, True, 110.1, False),
        (ALWAYS.model_copy(update={"marker": False}), True, 500.0, True),
        (Plan(), True, 109.9, True),
        (Plan(), True, 110.1, False),
        (Plan(), False, 500.0, True),
        (PAUSE, True, 60.0, False),
    ],
)
def test_two_tasks_of_copies_are_window_for_110_seconds_only(
    deliveries: FourDeliveries, plan: Plan, looked: bool, seconds: float, is_window: bool
) -> None:
    """With a look-up before the create; without it a repeat may come later, and under `pause` there is no window."""
    calls = [
        call(deliveries.first, 0.0, 0.1, task="task", looked=True),
        call(deliveries.other, seconds, seconds + 0.1, task="more", looked=looked),
    ]
    deliveries.first.lost_at = 900.0
    found = facts(calls, [event(deliveries.first, 0.2)], are_claims_common=plan.claims_away == "pause", plan=plan)
    verdict = check_laws(found)
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert len(verdict.windows) == is_window


@pytest.mark.parametrize(("seconds", "is_window"), [(109.9, True), (110.1, False)])
def test_two_tasks_of_one_message_are_window_for_110_seconds_only(
    deliveries: FourDeliveries, seconds: float, *, is_window: bool
) -> None:
    """A copy and a redelivery live on at two replicas; no sender repeats them, so the settings do not matter."""
    deliveries.copy.process = "C"
    deliveries.copy.lost_at = deliveries.again.lost_at = 900.0
    plan = Plan(reconcile="ambiguous", marker=False)
    calls = [
        call(deliveries.again, 100.0, 100.1, task="task", looked=True),
        call(deliveries.copy, 100.0 + seconds, 100.1 + seconds, task="more", looked=True),
    ]
    verdict = check_laws(facts(calls, [event(deliveries.again, 100.2)], plan=plan))
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert len(verdict.windows) == is_window


@pytest.mark.parametrize(
    ("is_claimed", "emptied_at", "is_window"),
    [
        ((False, True), None, True),
        ((True, False), None, True),
        ((True, True), None, False),
        ((True, True), 10.0, True),
        ((True, True), 90.0, False),
    ],
)
def test_two_tasks_while_redis_was_away_are_window_only_without_common_claim(
    deliveries: FourDeliveries, is_claimed: tuple[bool, bool], emptied_at: float | None, *, is_window: bool
) -> None:
    """If both creates were made under a claim, and Redis lost no records in between, that it was away is no excuse."""
    calls = [
        call(deliveries.first, 0.0, 0.1, task="task", looked=True),
        call(deliveries.other, 60.0, 60.1, task="more", looked=True),
    ]
    deliveries.first.lost_at = 900.0
    calls[0].is_claimed, calls[1].is_claimed = is_claimed
    found = facts(calls, [event(deliveries.first, 0.2)], plan=Plan(reconcile="always", claims=True))
    found.claims_emptied_at = () if emptied_at is None else (emptied_at,)
    verdict = check_laws(found)
    assert ("two tasks: task and more" in verdict.violations) is not is_window
    assert len(verdict.windows) == is_window


def test_first_delivery_without_lookup_is_violation_with_always(deliveries: FourDeliveries) -> None:
    """WORKER_RECONCILE=always: every create needs a look-up."""
    calls = [call(deliveries.first, 0.0, 0.1, task="task")]
    (violation,) = check_laws(facts(calls, [event(deliveries.first, 0.2)], plan=ALWAYS)).violations
    assert violation.startswith("created without a look-up")


@pytest.mark.parametrize(("name", "since"), [("copy", 1.0), ("again", 10.0)])
@pytest.mark.parametrize("early", [-0.1, 0.1])
def test_create_before_end_of_listing_delay_is_violation(
    deliveries: FourDeliveries, name: str, since: float, early: float
) -> None:
    """The delay runs from the end of the call if that is known, else from the return of the message to the queue."""
    calls = [
        call(deliveries.first, 0.0, 1.0),
        call(deliveries.named(name), since + 45.0 - early, task="task", looked=True),
    ]
    violations = check_laws(facts(calls, [event(deliveries.named(name), 99.0)])).violations
    assert [text for text in violations if "too early" in text] == violations
    assert bool(violations) is (early > 0)


def test_lookup_before_end_of_listing_delay_does_not_count(deliveries: FourDeliveries) -> None:
    """An early look-up proves nothing, even if its answer takes long."""
    calls = [call(deliveries.first, 0.0, 1.0), call(deliveries.copy, 60.0, task="task", looked=True)]
    calls[1].lookup_answered_at = 40.0
    assert check_laws(facts(calls, [event(deliveries.copy, 99.0)])).violations == [
        "created at 60.0 s without a look-up after the listing delay of the call of 0.0 s"
    ]


def test_create_for_lost_delivery_is_violation(deliveries: FourDeliveries) -> None:
    """The call starts long after the broker took the message back."""
    verdict = check_laws(facts([call(deliveries.first, 20.0, 20.1, task="task")], [event(deliveries.first, 20.2)]))
    assert verdict.violations == ["created for a lost delivery at 20.0 s, 10.0 s after the loss"]


@pytest.mark.parametrize("name", ["again", "copy"])
def test_create_without_lookup_is_violation_except_at_first_delivery(deliveries: FourDeliveries, name: str) -> None:
    """A redelivery and a copy need a look-up."""
    verdict = check_laws(
        facts([call(deliveries.named(name), 20.0, 20.1, task="task")], [event(deliveries.named(name), 20.2)])
    )
    assert len(verdict.violations) == 1
    assert verdict.violations[0].startswith("created without a look-up")


@pytest.mark.parametrize(
    ("published", "violation"),
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
def test_missing_or_false_event_is_violation(
    deliveries: FourDeliveries, published: list[tuple[str, str, str | None]], violation: str
) -> None:
    """There is at least one event, of one kind, and it is true."""
    events = [
        event(deliveries.named(name), 1.0 + number, reason, task)
        for number, (name, reason, task) in enumerate(published)
    ]
    verdict = check_laws(facts([call(deliveries.first, 0.0, 0.1, task="task")], events))
    assert violation in verdict.violations


@pytest.mark.parametrize(
    ("id_", "meaning", "violations"),
    [
        ("id-True", (True,), []),
        ("another", (True,), ["2 event ids of one meaning"]),
        ("id-True", ("other",), ["2 meanings under one event id"]),
        ("another", ("other",), []),
    ],
)
def test_event_id_stands_for_one_meaning(
    deliveries: FourDeliveries, id_: str, meaning: tuple[str, ...], violations: list[str]
) -> None:
    """One meaning has one id, and two meanings have two."""
    second = event(deliveries.first, 2.0)
    second.id, second.meaning = id_, meaning
    verdict = check_laws(facts([call(deliveries.first, 0.0, 0.1, task="task")], [event(deliveries.first, 1.0), second]))
    assert verdict.violations == violations


def test_failures_of_two_messages_under_one_id_are_violation(deliveries: FourDeliveries) -> None:
    """The later outcome of another message would be dropped as a repeat."""
    other = delivered(Message(REQUEST, b"another", {}), "A", 0.0)
    failures = [event(deliveries.first, 1.0, "unresolved"), event(other, 2.0, "unresolved")]
    assert "2 messages under one event id" in check_laws(facts([], failures)).violations


@pytest.mark.parametrize(
    ("name", "arrived_later", "is_violation"),
    [("first", False, True), ("copy", False, True), ("other", False, False), ("first", True, False)],
)
def test_create_after_published_failure_is_violation(
    deliveries: FourDeliveries, name: str, arrived_later: bool, is_violation: bool
) -> None:
    """For a message that had arrived before, where the failure is known; a later message reopens the request."""
    failure = event(deliveries.first, 9.0, "rejected")
    failure.decided_at = 8.9
    calls = [call(deliveries.named(name), 60.0, 60.1, looked=True)]
    found = facts(calls, [failure])
    if arrived_later:
        found.deliveries.append(delivered(message(), "A", 30.0))
    text = "created at 60.0 s, after its failure (rejected) of 9.0 s"
    assert (text in check_laws(found).violations) is is_violation


@pytest.mark.parametrize(("name", "is_violation"), [("first", True), ("copy", True), ("other", False)])
def test_expired_for_message_whose_own_create_made_task_is_violation(
    deliveries: FourDeliveries, name: str, is_violation: bool
) -> None:
    """However often it was said of other messages before; one that knows of no create may have expired."""
    made = call(deliveries.first, 0.0, 0.1, task="task", looked=True)
    events = [event(deliveries.other, 30.0, "expired"), event(deliveries.named(name), 60.0, "expired")]
    text = "failed (expired) at 60.0 s, but task was created for this very message"
    assert (text in check_laws(facts([made], events)).violations) is is_violation


@pytest.mark.parametrize(("arrived_at", "is_violation"), [(5.0, True), (30.0, False)])
def test_later_message_reopens_a_failed_request(
    deliveries: FourDeliveries, arrived_at: float, *, is_violation: bool
) -> None:
    """What arrived before the outcome does not; an answer from memory names the time of the outcome, too."""
    failure = event(deliveries.first, 9.0, "expired")
    failure.decided_at = 8.9
    later = delivered(message(), "A", arrived_at)
    found = facts([call(later, 60.0, 60.1, task="task", looked=True)], [failure, event(later, 61.0)])
    assert ("two kinds of final event: expired, then created" in check_laws(found).violations) is is_violation


@pytest.mark.parametrize(("claims", "is_sound"), [(True, False), (True, True), (False, False)])
@pytest.mark.parametrize("parked", [True, False])
def test_parked_failure_that_claims_forgot_is_window(
    deliveries: FourDeliveries, *, claims: bool, is_sound: bool, parked: bool
) -> None:
    """A replica asks the claims before its own memory, since they know of replays."""
    plan = Plan(claims=claims)
    failure = event(deliveries.first, 9.0, "forbidden")
    failure.parked = parked
    later = delivered(message(), "A", 30.0)
    made = call(later, 60.0, 60.1, task="task", looked=True)
    verdict = check_laws(facts([made], [failure, event(later, 61.0)], plan=plan, is_sound=is_sound))
    are_asked_in_vain = claims and not is_sound
    assert ("failed (forbidden), but task exists" in verdict.violations) is not (are_asked_in_vain and parked)
    assert ("two kinds of final event: forbidden, then created" in verdict.violations) is not are_asked_in_vain


@pytest.mark.parametrize(
    ("reconcile", "at", "is_violation"),
    [("always", 900.0, True), ("ambiguous", 500.0, True), ("ambiguous", 900.0, False)],
)
def test_first_delivery_after_claims_forgot_is_not_looked_up(
    deliveries: FourDeliveries, reconcile: str, at: float, *, is_violation: bool
) -> None:
    """Without look-ups of first deliveries, a request that Redis forgot long ago is a new one."""
    plan = Plan.model_validate({"claims": True, "claims_away": "pause", "reconcile": reconcile})
    later = delivered(message(), "B", at)
    calls = [call(deliveries.first, 0.0, 0.1), call(later, at, at + 0.1)]
    found = check_laws(facts(calls, [], plan=plan, are_claims_common=True)).violations
    text = f"created at {at:.1f} s without a look-up after the listing delay of the call of 0.0 s"
    assert (text in found) is is_violation


@pytest.mark.parametrize(("failures", "is_violation"), [(0, True), (1, False)])
def test_copy_of_parked_request_parked_again_is_violation(
    deliveries: FourDeliveries, failures: int, *, is_violation: bool
) -> None:
    """Unless a delivery of its message was interrupted: the request may have ended there before it was parked."""
    copy = delivered(message(), "A", 5.0)
    copy.message.failures = failures
    found = facts([], [event(deliveries.first, 1.0, "unresolved")])
    found.parked += [
        Message(REQUEST, b"", {"x-parked-reason": "forbidden"}, parent) for parent in (deliveries.first, copy)
    ]
    violations = check_laws(found).violations
    assert ("a copy of a parked request was parked again" in violations) is is_violation


def test_event_that_says_parked_without_parked_copy_is_violation(deliveries: FourDeliveries) -> None:
    """The parked queue has no copy."""
    parked_event = event(deliveries.first, 1.0, "exhausted")
    parked_event.parked = True
    violations = check_laws(facts([], [parked_event], plan=Plan(delays=()))).violations
    assert violations == ["an event says parked, but nothing is"]


@pytest.mark.parametrize(
    ("is_repeated", "has_other", "is_sound", "is_window"),
    [(True, True, False, True), (False, True, False, False), (True, False, False, False), (True, True, True, False)],
)
def test_lost_parking_is_window_only_for_answers_from_memory_without_sound_claims(
    deliveries: FourDeliveries, is_repeated: bool, has_other: bool, is_sound: bool, *, is_window: bool
) -> None:
    """What is parked is confirmed before its event; another replica came to another outcome."""
    answer, other = event(deliveries.first, 9.0, "exhausted"), event(deliveries.other, 5.0)
    answer.parked, answer.is_repeated = True, is_repeated
    events, plan = [other, answer] if has_other else [answer], Plan(delays=(), claims=True)
    found = facts([], events, is_sound=is_sound, plan=plan)
    verdict = check_laws(found)
    assert any("its parking was lost" in window for window in verdict.windows) is is_window
    assert ("an event says parked, but nothing is" in verdict.violations) is not is_window


def test_success_after_exhausted_event_is_window_without_claims(deliveries: FourDeliveries) -> None:
    """Without claims the next replica cannot know of the `exhausted` event; with claims it must."""
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
def test_success_after_refusal_is_window_only_if_outage_refused(
    deliveries: FourDeliveries, outages: tuple[Outage, ...], *, is_window: bool
) -> None:
    """After an outage DCS accepts the request; a permanent refusal would be repeated."""
    refused = call(deliveries.first, 8.0, 8.5)
    refused.ending = "forbidden"
    calls = [refused, call(deliveries.again, 60.0, 60.1, task="task", looked=True)]
    events = [event(deliveries.first, 9.0, "forbidden"), event(deliveries.again, 60.2)]
    verdict = check_laws(facts(calls, events, plan=Plan(outages=outages)))
    assert len(verdict.windows) == (2 if is_window else 0)
    assert ("two kinds of final event: forbidden, then created" in verdict.violations) is not is_window


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("exhausted", Plan(delays=())),
        ("expired", Plan(requests=(PlannedRequest(not_after=5.0),))),
        ("poison", Plan(delivery_limit=0)),
        ("unresolved", Plan(reconcile="off")),
        ("invalid_request", Plan(requests=(PlannedRequest(is_invalid=True),))),
    ],
)
def test_failure_without_its_cause_is_violation(deliveries: FourDeliveries, reason: str, cause: Plan) -> None:
    """The cause that the contract names for each reason must have happened."""
    calls = [call(deliveries.first, 0.0)]
    events = [event(deliveries.first, 9.0, reason)]
    assert check_laws(facts(calls, events, plan=cause)).violations == []
    assert check_laws(facts(calls, events)).violations == [f"failed ({reason}) without cause"]


@pytest.mark.parametrize(
    ("reason", "ending"),
    [
        ("rejected", "rejected"),
        ("unauthenticated", "unauthenticated"),
        ("forbidden", "forbidden"),
        ("not_found", "missing"),
    ],
)
def test_refusal_without_refused_create_is_violation(deliveries: FourDeliveries, reason: str, ending: str) -> None:
    """A request fails as refused only after a create call ended so."""
    refused = CreateCall(
        deliveries.first, ending, 0.0, is_ambiguous=False, is_sent=True, lookup_answered_at=None, ended_at=0.1
    )
    events = [event(deliveries.first, 9.0, reason)]
    assert check_laws(facts([refused], events)).violations == []
    refused.ending = "busy"
    assert check_laws(facts([refused], events)).violations == [f"failed ({reason}) without cause"]


def test_ambiguous_lookup_explains_unresolved(deliveries: FourDeliveries) -> None:
    """The look-up failed, or found several tasks."""
    deliveries.first.is_in_doubt = True
    assert check_laws(facts([], [event(deliveries.first, 9.0, "unresolved")])).violations == []


def test_task_of_clashing_request_is_window_without_claims(deliveries: FourDeliveries) -> None:
    """Without claims the second request may adopt the task of the first."""
    plan = Plan(requests=(PlannedRequest(clashes=(1.0,)),))
    verdict = check_laws(facts([], [event(deliveries.first, 1.0, task="foreign")], plan=plan))
    assert verdict.violations == []
    assert len(verdict.windows) == 1


@pytest.mark.parametrize(("name", "is_window"), [("again", True), ("copy", False)])
def test_two_last_events_are_window_only_after_an_interruption(
    deliveries: FourDeliveries, name: str, is_window: bool
) -> None:
    """A redelivered watch looks again, and the task may be deleted by then; a watch that has ended has no copies."""
    found = facts([call(deliveries.first, 0.0, 0.1, task="task")], [event(deliveries.first, 0.2)])
    found.plan = found.plan.model_copy(update={"follow_up_timeout": 100.0})
    found.watch_starts = [WatchStart(deliveries.first, 0.3, "task")]
    found.last_events = [LastEvent(deliveries.first, 9.0, "id-1", "task", "provisioned", 9.0)]
    found.status = lambda _, at: "RUNNING" if at < 10.0 else "DELETED"
    assert check_laws(found).violations == []
    found.last_events.append(LastEvent(deliveries.named(name), 20.0, "id-2", "task", "task_gone", 20.0))
    verdict = check_laws(found)
    expected = ["two last events of one task: provisioned, then task_gone"]
    assert (verdict.violations, verdict.windows) == (([], expected) if is_window else (expected, []))


def test_announced_task_without_watch_or_last_event_is_violation(deliveries: FourDeliveries) -> None:
    """The success promises one more event."""
    plan = Plan(follow_up_timeout=100.0)
    found = facts([call(deliveries.first, 0.0, 0.1, task="task")], [event(deliveries.first, 0.2)], plan=plan)
    assert check_laws(found).violations == ["never followed up: task"]
    found.watch_starts = [WatchStart(deliveries.first, 0.3, "task")]
    assert check_laws(found).violations == ["a watch does not end: task"]
