"""Check of the laws against the facts of a run.

A violation counts as a window only where no worker can avoid it: without sound claims, between two processes of
replicas of which the later one could not learn what the earlier one did.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Final

from tests.simulation.checks.failures import unexplained_failure
from tests.simulation.checks.follow_up import one_last_event, unwatched, wrong_last_events
from tests.simulation.checks.outcomes import (
    Arrivals,
    created_after_conflict,
    denied_tasks,
    event_ids,
    parked_twice,
    sent_message,
    tasks_of_failed_messages,
)
from tests.simulation.checks.throttle import (
    creates_after_old_lookup,
    delayed_by_other_project,
    requests_tried_in_outage,
    too_many_calls,
)
from tests.simulation.scenario.plan import CREATE_DEADLINE_SECONDS, Plan, RequestKey
from tests.simulation.world.claims import MIN_MEMORY_AGE_SECONDS
from tests.simulation.world.records import (
    CreateCall,
    DcsCall,
    DeliveryRecord,
    Event,
    LastEvent,
    Message,
    WatchStart,
    how_known,
    is_final,
)
from worker.policy.freeze_detector import FROZEN_AFTER

TOLERANCE_SECONDS: Final = 0.01
STALE_AFTER_SECONDS: Final = FROZEN_AFTER + 1.0
"""A shorter freeze cannot be detected."""
WINDOW_MARGIN_SECONDS: Final = 5.0
"""Age up to which a look-up without result is valid."""
REASONS_WITHOUT_TASK: Final = frozenset(
    ("rejected", "unauthenticated", "forbidden", "not_found", "expired", "exhausted")
)
"""Reasons of failures that say that no task exists."""
RETRYABLE_REASONS: Final = frozenset(("exhausted", "expired", "unresolved"))
"""Reasons of failures after which another attempt can succeed."""
OUTAGE_ENDING_BY_REASON: Final = {
    "forbidden": "forbidden",
    "not_found": "no-endpoint",
    "unauthenticated": "key-refused",
}
"""Ending of the calls of an outage, by the reason of a failure after which another attempt can succeed as well."""


@dataclass(slots=True)
class RunFacts:
    """Facts of a run."""

    plan: Plan
    calls: list[CreateCall]
    events: list[Event]
    parked: list[Message]
    deliveries: list[DeliveryRecord]
    is_sound: bool
    """The replicas shared claims that were always available and never emptied."""
    are_claims_common: bool
    """No create began without a claim that all replicas know."""
    sent: set[RequestKey]
    dcs_calls: list[DcsCall] = field(default_factory=list)
    watch_starts: list[WatchStart] = field(default_factory=list)
    last_events: list[LastEvent] = field(default_factory=list)
    status: Callable[[str, float], str] = lambda *_: "RUNNING"
    """Status word of a task at a time."""
    claims_emptied_at: Sequence[float] = ()


@dataclass(slots=True)
class Verdict:
    """Violations and windows of a run."""

    violations: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)


def check_laws(facts: RunFacts) -> Verdict:
    """Check every law against the facts of a run."""
    verdict = Verdict()
    calls: dict[RequestKey, list[CreateCall]] = defaultdict(list)
    events: dict[RequestKey, list[Event]] = defaultdict(list)
    for call in facts.calls:
        if call.is_sent:
            calls[call.delivery.message.request_key].append(call)
    for event in facts.events:
        events[event.delivery.message.request_key].append(event)
    deliveries: dict[RequestKey, list[DeliveryRecord]] = defaultdict(list)
    for delivery in facts.deliveries:
        deliveries[delivery.message.request_key].append(delivery)
    parked: dict[RequestKey, list[Message]] = defaultdict(list)
    for message in facts.parked:
        parked[message.request_key].append(message)
    could_know = partial(_could_know_event, facts)
    for request_key in sorted(facts.sent):
        arrivals = Arrivals.of(deliveries[request_key], facts.plan.clock_drift)
        over_at = min((event.at for event in events[request_key] if is_final(event)), default=math.inf)
        verdict.violations += _check_calls(facts, calls[request_key], over_at)
        known = (event for event in events[request_key] if facts.is_sound or event.reason != "conflict")
        verdict.violations += tasks_of_failed_messages(arrivals, known, calls[request_key], could_know)
        verdict.violations += parked_twice(
            parked[request_key], events[request_key], partial(_could_know_failure, facts)
        )
        _check_one_task(facts, calls[request_key], verdict)
        _check_events(facts, events[request_key], bool(parked[request_key]), verdict)
        _check_events_are_true(facts, request_key, events[request_key], calls[request_key], arrivals, verdict)
        _check_one_kind_of_event(facts, request_key, events[request_key], calls[request_key], arrivals, verdict)
        verdict.violations += creates_after_old_lookup(calls[request_key])
        verdict.violations += created_after_conflict(
            arrivals, calls[request_key], facts.plan.listing_delay, is_sound=facts.is_sound
        )
        verdict.violations += denied_tasks(events[request_key], calls[request_key])
        verdict.violations += delayed_by_other_project(facts.plan, request_key[0], events[request_key])
        request = facts.plan.requests[request_key[0]]
        for event in _first_of_each_kind(events[request_key]):
            verdict.violations += unexplained_failure(
                facts.plan, request, event, calls[request_key], deliveries[request_key], is_sound=facts.is_sound
            )
    verdict.violations += event_ids(facts.events)
    _check_one_task_per_id(facts, calls, verdict)
    verdict.violations += too_many_calls(facts.plan, facts.dcs_calls)
    verdict.violations += requests_tried_in_outage(facts.plan, facts.dcs_calls)
    _check_follow_up(facts, verdict)
    return verdict


def _check_follow_up(facts: RunFacts, verdict: Verdict) -> None:
    if facts.plan.follow_up_timeout is None:
        return
    found = [*unwatched(facts.events, facts.watch_starts, facts.calls)]
    found += one_last_event(facts.last_events, facts.watch_starts)
    for is_window, text in found:
        (verdict.windows if is_window else verdict.violations).append(text)
    verdict.violations += wrong_last_events(facts.plan, facts.events, facts.last_events, facts.status)


def _could_know_calls(facts: RunFacts, earlier: DeliveryRecord, later: DeliveryRecord) -> bool:
    """Whether `later` could know of the calls of `earlier`."""
    return (
        _share_claims(facts, earlier, later)
        or earlier.process is later.process
        or how_known(earlier, later) is not None
    )


def _share_claims(facts: RunFacts, earlier: DeliveryRecord, later: DeliveryRecord) -> bool:
    """Whether claims tell `later` of `earlier`; without look-ups not of what they forgot long ago."""
    is_recent = later.at - earlier.at < MIN_MEMORY_AGE_SECONDS
    return facts.are_claims_common and (facts.is_sound or facts.plan.reconcile == "always" or is_recent)


def _could_know_event(facts: RunFacts, earlier: DeliveryRecord, later: DeliveryRecord) -> bool:
    """Whether `later` could know of the event of `earlier`; a redelivery does not show it."""
    return facts.is_sound or earlier.process is later.process or how_known(earlier, later) in ("same", "copy")


def _could_know_failure(facts: RunFacts, earlier: DeliveryRecord, later: DeliveryRecord) -> bool:
    """Whether `later` could know that `earlier` failed: not by Redis, if that was away or emptied."""
    return (facts.is_sound or not facts.plan.claims) and _could_know_event(facts, earlier, later)


def _claims_state(facts: RunFacts) -> str:
    return "claims unavailable or emptied" if facts.plan.claims else "without claims"


def _check_calls(facts: RunFacts, calls: list[CreateCall], over_at: float) -> Iterator[str]:
    for call in calls:
        if facts.is_sound and call.started_at > over_at:
            yield f"created at {call.started_at:.1f} s, though the request was over at {over_at:.1f} s"
        if call.started_at > call.delivery.lost_at + STALE_AFTER_SECONDS:
            late = call.started_at - call.delivery.lost_at
            yield f"created for a lost delivery at {call.started_at:.1f} s, {late:.1f} s after the loss"
        is_first = call.delivery.number == 1 and call.delivery.message.parent is None
        must_look = facts.plan.reconcile == "always" or (facts.plan.reconcile != "off" and not is_first)
        if must_look and call.lookup_answered_at is None:
            which = "the first" if is_first else "not the first"
            yield f"created without a look-up, at a delivery that is {which}, at {call.started_at:.1f} s"
    for earlier, later in combinations(calls, 2):
        if (listed_at := _must_be_listed_at(facts, earlier, later)) is not None:
            yield from _check_pair(earlier, later, listed_at - TOLERANCE_SECONDS)


def _check_pair(earlier: CreateCall, later: CreateCall, listed_at: float) -> Iterator[str]:
    created = f"created at {later.started_at:.1f} s"
    if later.started_at < listed_at:
        early = listed_at - later.started_at
        yield f"{created}, {early:.1f} s too early after the call of {earlier.started_at:.1f} s"
    elif later.lookup_answered_at is None or later.lookup_answered_at < listed_at:
        yield f"{created} without a look-up after the listing delay of the call of {earlier.started_at:.1f} s"


def _must_be_listed_at(facts: RunFacts, earlier: CreateCall, later: CreateCall) -> float | None:
    """When a task of the earlier call must be listed, as far as the caller of the later one could know."""
    if not earlier.may_have_acted:
        return None
    match how_known(earlier.delivery, later.delivery):
        case "same" | "copy":
            moment = earlier.started_at if earlier.ended_at is None else earlier.ended_at
        case "redelivery":
            moment = earlier.delivery.lost_at
        case _ if _share_claims(facts, earlier.delivery, later.delivery):
            moment = min(math.inf if earlier.ended_at is None else earlier.ended_at, earlier.delivery.lost_at)
        case _:
            return None
    return moment + facts.plan.listing_delay


def _check_one_task(facts: RunFacts, calls: list[CreateCall], verdict: Verdict) -> None:
    creators = [call for call in calls if call.task_id is not None]
    for earlier, later in combinations(creators, 2):
        is_known = _could_know_calls(facts, earlier.delivery, later.delivery)
        if is_known or _have_common_claim(facts, earlier, later) or not _is_in_window(facts.plan, earlier, later):
            verdict.violations.append(f"two tasks: {earlier.task_id} and {later.task_id}")
        else:
            verdict.windows.append(
                f"two tasks: copies on two replicas between look-up and listing, {_claims_state(facts)}"
            )


def _check_one_task_per_id(facts: RunFacts, calls: Mapping[RequestKey, list[CreateCall]], verdict: Verdict) -> None:
    """With sound claims, another task under a request id is a conflict."""
    for number, is_clash in sorted(facts.sent):
        if is_clash and facts.is_sound:
            _check_one_task(facts, calls[number, False] + calls[number, True], verdict)


def _have_common_claim(facts: RunFacts, earlier: CreateCall, later: CreateCall) -> bool:
    """Whether both calls were made under a claim, and the claims forgot nothing in between."""
    is_forgotten = any(earlier.delivery.at <= at <= later.started_at for at in facts.claims_emptied_at)
    return earlier.is_claimed and later.is_claimed and not is_forgotten


def _is_in_window(plan: Plan, earlier: CreateCall, later: CreateCall) -> bool:
    """Whether two replicas without a common claim may begin both calls, by the documented window."""
    seconds = 2 * CREATE_DEADLINE_SECONDS + plan.listing_delay + WINDOW_MARGIN_SECONDS
    is_looked_for = plan.marker and later.lookup_answered_at is not None
    is_of_one_message = sent_message(earlier.delivery) is sent_message(later.delivery)
    return not (is_looked_for or is_of_one_message) or abs(later.started_at - earlier.started_at) <= seconds


def _check_events(facts: RunFacts, events: list[Event], is_parked: bool, verdict: Verdict) -> None:
    if not events:
        verdict.violations.append("lost: no final event")
    says_parked = [event for event in events if event.parked]
    if says_parked and not is_parked:
        are_from_memory = all(event.is_repeated for event in says_parked) and len(says_parked) < len(events)
        if not facts.is_sound and are_from_memory:
            # A replica, or Redis, knows what was lost with a delivery; another replica came to another outcome.
            verdict.windows.append(f"answered as parked, though its parking was lost, {_claims_state(facts)}")
        else:
            verdict.violations.append("an event says parked, but nothing is")


def _check_events_are_true(
    facts: RunFacts,
    request_key: RequestKey,
    events: list[Event],
    calls: list[CreateCall],
    arrivals: Arrivals,
    verdict: Verdict,
) -> None:
    """Check that the first event of each kind is true; later ones repeat it."""
    tasks = {call.task_id: call for call in calls if call.task_id is not None}
    for event in _first_of_each_kind(events):
        if event.succeeded and event.instance_id not in tasks:
            _report_wrong_task(facts, request_key, event, calls, verdict)
        if event.reason not in REASONS_WITHOUT_TASK:
            continue
        for call in arrivals.before_reopening(event, tasks.values()):
            if call.started_at < event.at:
                could_know = all(
                    _could_know_calls(facts, call.delivery, source) for source in _deciding_deliveries(facts, event)
                )
            else:
                could_know = not _is_forgotten(facts, event) and (
                    _could_know_event(facts, event.delivery, call.delivery)
                    or not _is_excusable(facts, event, call.delivery, event)
                )
            if could_know:
                verdict.violations.append(f"failed ({event.reason}), but {call.task_id} exists")
            else:
                verdict.windows.append(f"failed, but a task exists: copies or lost deliveries, {_claims_state(facts)}")


def _report_wrong_task(
    facts: RunFacts, request_key: RequestKey, event: Event, calls: list[CreateCall], verdict: Verdict
) -> None:
    if facts.plan.is_cut and any(call.is_ambiguous and call.started_at < event.at for call in calls):
        verdict.windows.append("adopted the task of an equal request after a lost answer, without markers")
    elif facts.plan.requests[request_key[0]].clashes and not facts.is_sound:
        verdict.windows.append(f"two tasks under one request id, where the first is not known, {_claims_state(facts)}")
    else:
        verdict.violations.append(f"succeeded with {event.instance_id}, which is not the request's")


def _deciding_deliveries(facts: RunFacts, event: Event) -> Iterator[DeliveryRecord]:
    """Deliveries that can have decided an event: its delivery, or a copy's in the same process."""
    for delivery in facts.deliveries:
        if (
            delivery.process is event.delivery.process
            and delivery.message.request_key == event.delivery.message.request_key
            and delivery.at < event.at
        ):
            yield delivery


def _check_one_kind_of_event(
    facts: RunFacts,
    request_key: RequestKey,
    events: list[Event],
    calls: list[CreateCall],
    arrivals: Arrivals,
    verdict: Verdict,
) -> None:
    firsts = sorted(_first_of_each_kind(events), key=lambda event: event.at)
    if len(firsts) < 2 or arrivals.is_reopened(firsts[0], firsts[1].at):
        return
    earlier, later = firsts
    failed = later if earlier.succeeded else earlier
    is_of_unknown_copy = _is_task_of_unknown_copy(facts, calls, failed)
    if facts.plan.requests[request_key[0]].clashes and not facts.is_sound:
        verdict.windows.append(f"two tasks under one request id, where the first is not known, {_claims_state(facts)}")
    elif (
        not facts.is_sound
        and failed.reason == "poison"
        and not _could_know_event(facts, earlier.delivery, later.delivery)
    ):
        # Neither replica knows the event of the other: one found an outcome before, the other one reports poison.
        verdict.windows.append(f"two kinds of final event: copies or lost deliveries, {_claims_state(facts)}")
    elif (is_of_unknown_copy and earlier.reason == "expired") or (  # then its task is announced
        (is_of_unknown_copy or _is_excusable(facts, earlier, later.delivery, failed))
        and not (_could_know_event if earlier.succeeded else _could_know_failure)(
            facts, earlier.delivery, later.delivery
        )
    ):
        verdict.windows.append(f"two kinds of final event: copies or lost deliveries, {_claims_state(facts)}")
    elif _is_forgotten(facts, earlier) and later.succeeded:
        verdict.windows.append(f"parked, then succeeded without a replay, {_claims_state(facts)}")
    else:
        verdict.violations.append(f"two kinds of final event: {earlier.reason}, then {later.reason}")


def _is_forgotten(facts: RunFacts, event: Event) -> bool:
    """Whether claims may not know that the request is parked: a replica asks them before it says so."""
    return facts.plan.claims and not facts.is_sound and event.parked


def _is_excusable(facts: RunFacts, earlier: Event, later: DeliveryRecord, failed: Event) -> bool:
    """Whether a replica that does not know of an event can reach another outcome without breaking a law."""
    if how_known(earlier.delivery, later) is None:
        return True
    is_revocable = failed.reason in RETRYABLE_REASONS or any(
        outage.ending == OUTAGE_ENDING_BY_REASON.get(failed.reason) and outage.at <= failed.at
        for outage in facts.plan.outages
    )
    # A look-up that is refused once is a fault; what DCS refuses for good are creates.
    is_fault = failed.reason == "forbidden" and failed.delivery.is_in_doubt
    return is_revocable or is_fault or (earlier.succeeded and failed.reason == "poison")


def _is_task_of_unknown_copy(facts: RunFacts, calls: list[CreateCall], failed: Event) -> bool:
    """Whether the task was created before, for a copy of which the failed delivery could not know."""
    tasks = [call for call in calls if call.task_id is not None and call.started_at < failed.at]
    return bool(tasks) and not any(_could_know_calls(facts, call.delivery, failed.delivery) for call in tasks)


def _first_of_each_kind(events: Iterable[Event]) -> Iterable[Event]:
    """First event of each kind."""
    first: dict[bool, Event] = {}
    for event in events:
        first.setdefault(event.succeeded, event)
    return first.values()
