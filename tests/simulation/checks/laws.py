"""The laws, held against what happened in a run.

A breach is excused as a window only where no worker could have known better: without sound claims, between two
lives of replicas of which the later one had no way to learn what the earlier one did.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from tests.simulation.checks.failures import groundless
from tests.simulation.checks.throttle import burnt_calls, held_up, old_looks, too_many_calls
from tests.simulation.scenario.plan import Plan
from tests.simulation.world.records import Asked, Call, Event, Handed, Matter, Message, known_at
from worker.policy.freeze_detector import FROZEN_AFTER

TOLERANCE: Final = 0.01
STALE_AFTER: Final = FROZEN_AFTER + 1.0
"""A shorter standstill cannot be noticed."""
CERTAIN: Final = frozenset(("rejected", "unauthenticated", "forbidden", "not_found", "expired", "exhausted"))
"""Failures that say that no task exists."""
REVOCABLE: Final = frozenset(("exhausted", "expired", "unresolved"))
"""Failures after which another try can succeed."""
REVOCABLE_AFTER: Final = {"forbidden": "forbidden", "not_found": "no-endpoint", "unauthenticated": "key-refused"}
"""Refusals after which another try can succeed as well, where they came from an outage, and its calls' ending."""


@dataclass(slots=True)
class Facts:
    """All that happened."""

    plan: Plan
    calls: list[Call]
    events: list[Event]
    parked: list[Message]
    handed: list[Handed]
    is_sound: bool
    """The replicas shared claims that never went away nor forgot anything."""
    sent: set[Matter]
    asked: list[Asked] = field(default_factory=list)


@dataclass(slots=True)
class Verdict:
    """What is wrong."""

    violations: list[str] = field(default_factory=list)
    windows: list[str] = field(default_factory=list)


def judge(facts: Facts) -> Verdict:
    """Hold every law against the facts."""
    verdict = Verdict()
    calls: dict[Matter, list[Call]] = defaultdict(list)
    events: dict[Matter, list[Event]] = defaultdict(list)
    for call in facts.calls:
        if call.is_sent:
            calls[call.by.message.matter].append(call)
    for event in facts.events:
        events[event.by.message.matter].append(event)
    handed: dict[Matter, list[Handed]] = defaultdict(list)
    for delivery in facts.handed:
        handed[delivery.message.matter].append(delivery)
    parked = {message.matter for message in facts.parked}
    for matter in sorted(facts.sent):
        verdict.violations += _calls(
            facts, calls[matter], min((event.at for event in events[matter]), default=math.inf)
        )
        _tasks(facts, calls[matter], verdict)
        verdict.violations += _events(events[matter], matter in parked)
        _truth(facts, matter, events[matter], calls[matter], verdict)
        _kinds(facts, matter, events[matter], verdict)
        verdict.violations += old_looks(calls[matter])
        verdict.violations += held_up(facts.plan, matter[0], events[matter])
        errand, made, sound = facts.plan.errands[matter[0]], calls[matter], facts.is_sound
        for event in _firsts(events[matter]):
            verdict.violations += groundless(facts.plan, errand, event, made, handed[matter], is_sound=sound)
    verdict.violations += too_many_calls(facts.plan, facts.asked)
    verdict.violations += burnt_calls(facts.plan, facts.asked)
    return verdict


def _can_know(facts: Facts, earlier: Handed, later: Handed) -> bool:
    """Whether `later` could know of calls that `earlier` made."""
    return facts.is_sound or earlier.life is later.life or known_at(earlier, later) is not None


def _was_told(facts: Facts, earlier: Handed, later: Handed) -> bool:
    """Whether `later` could know of the event that `earlier` published: a redelivery does not tell."""
    return facts.is_sound or earlier.life is later.life or known_at(earlier, later) in ("same", "copy")


def _why(facts: Facts) -> str:
    return "claims away or flushed" if facts.plan.claims else "without claims"


def _calls(facts: Facts, calls: list[Call], over_at: float) -> Iterator[str]:
    for call in calls:
        if facts.is_sound and call.begun > over_at:
            yield f"created at {call.begun:.1f} s, though the request was over at {over_at:.1f} s"
        if call.begun > call.by.lost_at + STALE_AFTER:
            yield f"created on stale ground at {call.begun:.1f} s, {call.begun - call.by.lost_at:.1f} s after the loss"
        is_first = call.by.number == 1 and call.by.message.parent is None
        if facts.plan.reconcile != "off" and not is_first and call.looked_at is None:
            yield f"created without looking, at a delivery that is not the first, at {call.begun:.1f} s"
    for earlier, later in combinations(calls, 2):
        if (settled := _settled(facts, earlier, later)) is not None:
            yield from _pair(earlier, later, settled - TOLERANCE)


def _pair(earlier: Call, later: Call, settled: float) -> Iterator[str]:
    if later.begun < settled:
        early = settled - later.begun
        yield f"created at {later.begun:.1f} s, {early:.1f} s too early after the call of {earlier.begun:.1f} s"
    elif later.looked_at is None or later.looked_at < settled:
        yield f"created at {later.begun:.1f} s without a look after the call of {earlier.begun:.1f} s had settled"


def _settled(facts: Facts, earlier: Call, later: Call) -> float | None:
    """When what the earlier call may have done must be listed, for all that the later one's caller could know."""
    if not earlier.may_have_acted:
        return None
    match known_at(earlier.by, later.by):
        case "same" | "copy":
            moment = earlier.begun if earlier.ended is None else earlier.ended
        case "redelivery":
            moment = earlier.by.lost_at
        case _ if facts.is_sound:
            moment = min(math.inf if earlier.ended is None else earlier.ended, earlier.by.lost_at)
        case _:
            return None
    return moment + facts.plan.settle


def _tasks(facts: Facts, calls: list[Call], verdict: Verdict) -> None:
    creators = [call for call in calls if call.task_id is not None]
    for earlier, later in combinations(creators, 2):
        if _can_know(facts, earlier.by, later.by):
            verdict.violations.append(f"two tasks: {earlier.task_id} and {later.task_id}")
        else:
            verdict.windows.append(f"two tasks: copies on two replicas between look and listing, {_why(facts)}")


def _events(events: list[Event], is_parked: bool) -> Iterator[str]:
    if not events:
        yield "lost: no final event"
    for succeeded in (True, False):
        ids = {event.id for event in events if event.succeeded is succeeded}
        if len(ids) > 1:
            yield f"{len(ids)} event ids"
    if any(event.parked for event in events) and not is_parked:
        yield "an event says parked, but nothing is"


def _truth(facts: Facts, matter: Matter, events: list[Event], calls: list[Call], verdict: Verdict) -> None:
    """What the first event of each kind says must be true; whoever repeats it, repeats it."""
    tasks = {call.task_id: call for call in calls if call.task_id is not None}
    for event in _firsts(events):
        if event.succeeded and event.instance_id not in tasks:
            if facts.plan.errands[matter[0]].clashes and not facts.is_sound:
                verdict.windows.append(f"two tasks under one request id, where the first is not known, {_why(facts)}")
            else:
                verdict.violations.append(f"succeeded with {event.instance_id}, which is not the request's")
        if event.reason not in CERTAIN:
            continue
        for call in tasks.values():
            if call.begun < event.at:
                could_know = all(_can_know(facts, call.by, source) for source in _sources(facts, event))
            else:
                could_know = _was_told(facts, event.by, call.by) or not _is_excusable(facts, event, call.by, event)
            if could_know:
                verdict.violations.append(f"failed ({event.reason}), but {call.task_id} exists")
            else:
                verdict.windows.append(f"failed, but a task exists: copies or lost deliveries, {_why(facts)}")


def _sources(facts: Facts, event: Event) -> Iterator[Handed]:
    """The deliveries that can have decided an event: its own, or a copy's in the same life of a replica."""
    for handed in facts.handed:
        if handed.life is event.by.life and handed.message.matter == event.by.message.matter and handed.at < event.at:
            yield handed


def _kinds(facts: Facts, matter: Matter, events: list[Event], verdict: Verdict) -> None:
    firsts = sorted(_firsts(events), key=lambda event: event.at)
    if len(firsts) < 2:
        return
    earlier, later = firsts
    failed = later if earlier.succeeded else earlier
    if facts.plan.errands[matter[0]].clashes and not facts.is_sound:
        verdict.windows.append(f"two tasks under one request id, where the first is not known, {_why(facts)}")
    elif not facts.is_sound and failed.reason == "poison" and not _was_told(facts, earlier.by, later.by):
        # What another replica found before is not known to the one that condemns, whose word is not known to the other.
        verdict.windows.append(f"two kinds of final event: copies or lost deliveries, {_why(facts)}")
    elif _is_excusable(facts, earlier, later.by, failed) and not _was_told(facts, earlier.by, later.by):
        verdict.windows.append(f"two kinds of final event: copies or lost deliveries, {_why(facts)}")
    else:
        verdict.violations.append(f"two kinds of final event: {earlier.reason}, then {later.reason}")


def _is_excusable(facts: Facts, earlier: Event, later: Handed, failed: Event) -> bool:
    """Whether someone who does not know of an event can come to another end without breaking a law."""
    if known_at(earlier.by, later) is None:
        return True
    is_revocable = failed.reason in REVOCABLE or any(
        outage.ending == REVOCABLE_AFTER.get(failed.reason) and outage.at <= failed.at for outage in facts.plan.outages
    )
    return is_revocable or (earlier.succeeded and failed.reason == "poison")


def _firsts(events: Iterable[Event]) -> Iterable[Event]:
    """The first event of each kind."""
    first: dict[bool, Event] = {}
    for event in events:
        first.setdefault(event.succeeded, event)
    return first.values()
