"""Check of what is known of an outcome: event ids, published failures, and requests that are parked already."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from itertools import combinations
from typing import Final

from schemas import names
from tests.simulation.scenario.call_endings import CALL_ENDINGS
from tests.simulation.world.records import CreateCall, DeliveryRecord, Event, Message, how_known, is_final

CLOCK_STEP_SECONDS: Final = 0.002
"""Resolution of the times that an outcome and a copy carry."""

_CONFLICTS: Final = {name for name, ending in CALL_ENDINGS.items() if ending.status == HTTPStatus.CONFLICT}

CouldKnow = Callable[[DeliveryRecord, DeliveryRecord], bool]
"""Whether the second delivery could know of the event of the first."""


def sent_message(delivery: DeliveryRecord) -> Message:
    """The sender's message that a delivery is of."""
    message = delivery.message
    while message.parent is not None:
        message = message.parent.message
    return message


def event_ids(events: Iterable[Event]) -> Iterator[str]:
    """One event id, one meaning; two meanings, two ids. A failure also speaks of one message body."""
    meanings: dict[str, set[object]] = defaultdict(set)
    ids: dict[tuple[object, bytes], set[str]] = defaultdict(set)
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for event in events:
        message = b"" if event.succeeded else event.delivery.message.body  # a copy has the body of its request
        meanings[event.id].add(event.meaning)
        ids[event.meaning, message].add(event.id)
        bodies[event.id].add(message)
    yield from (f"{len(found)} meanings under one event id" for found in meanings.values() if len(found) > 1)
    yield from (f"{len(found)} event ids of one meaning" for found in ids.values() if len(found) > 1)
    yield from (f"{len(found)} messages under one event id" for found in bodies.values() if len(found) > 1)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When messages of one request first arrived at a worker. Copies by workers arrive with their original."""

    first: dict[Message, DeliveryRecord]
    deliveries: Sequence[DeliveryRecord]
    clock_drift: float

    @classmethod
    def of(cls, deliveries: Sequence[DeliveryRecord], clock_drift: float) -> "Arrivals":
        """Arrivals of the messages of one request."""
        first: dict[Message, DeliveryRecord] = {}
        for delivery in deliveries:
            first.setdefault(delivery.message, delivery)
        return cls(first, deliveries, clock_drift)

    def first_of(self, delivery: DeliveryRecord) -> DeliveryRecord:
        """The first delivery of the sender's message that a delivery is of."""
        return self.first.get(sent_message(delivery), delivery)

    def is_later(self, delivery: DeliveryRecord, failure: Event) -> bool:
        """Whether the message of a delivery can have arrived after a failure, by the clocks of the replicas."""
        first = self.first_of(delivery)
        is_same_clock = first.replica == failure.delivery.replica
        return first.at + (CLOCK_STEP_SECONDS if is_same_clock else self.clock_drift) >= failure.decided_at

    def is_reopened(self, failure: Event, at: float) -> bool:
        """Whether a message that can have arrived after a failure was delivered by then."""
        return not is_final(failure) and any(
            self.is_later(delivery, failure) for delivery in self.deliveries if delivery.at <= at
        )

    def before_reopening(self, failure: Event, calls: Iterable[CreateCall]) -> Iterator[CreateCall]:
        """The calls that no later message explains."""
        for call in calls:
            if call.started_at < failure.at or not self.is_reopened(failure, call.started_at):
                yield call


def tasks_of_failed_messages(
    arrivals: Arrivals, events: Iterable[Event], calls: Sequence[CreateCall], could_know: CouldKnow
) -> Iterator[str]:
    """Creates after a published failure, for a message that had arrived before, where the worker could know.

    A conflict speaks of its own message only.
    """
    for event in events:
        if is_final(event):
            continue
        for call in calls:
            is_after = call.started_at > event.at and could_know(event.delivery, call.delivery)
            is_meant = event.reason != "conflict" or how_known(event.delivery, call.delivery) is not None
            if is_after and is_meant and not arrivals.is_reopened(event, call.started_at):
                yield f"created at {call.started_at:.1f} s, after its failure ({event.reason}) of {event.at:.1f} s"


def denied_tasks(events: Iterable[Event], calls: Sequence[CreateCall]) -> Iterator[str]:
    """Events that say of a message that it expired without a task, although a create for this very message made one."""
    for event in events:
        for call in calls if event.reason == "expired" else ():
            is_known = how_known(call.delivery, event.delivery) in ("same", "copy")
            if is_known and call.task_id is not None and call.started_at < event.at:
                yield f"failed (expired) at {event.at:.1f} s, but {call.task_id} was created for this very message"


def created_after_conflict(
    arrivals: Arrivals, calls: Sequence[CreateCall], listing_delay: float, *, is_sound: bool
) -> Iterator[str]:
    """Creates after one that DCS answered with 409, for a message of that request, where the worker could know.

    It knows of its own delivery, by a copy, and by sound claims that were released: then also for what arrived before
    the request can have been rejected. A delivery that was lost before its copy was confirmed is unknown.
    """
    for earlier, later in combinations(calls, 2):
        if earlier.ending not in _CONFLICTS or earlier.ended_at is None:
            continue
        is_released = is_sound and "copy" in earlier.delivery.confirmed
        is_copy = is_released and arrivals.first_of(later.delivery).at < earlier.ended_at + listing_delay
        if is_copy or how_known(earlier.delivery, later.delivery) in ("same", "copy"):
            yield f"created at {later.started_at:.1f} s, after the 409 of {earlier.started_at:.1f} s"


def parked_twice(parked: Iterable[Message], events: Iterable[Event], could_know: CouldKnow) -> Iterator[str]:
    """Copies that came after the event of the parked request, were never interrupted, and are parked again."""
    published = {event.delivery: event.at for event in events}
    by_worker = [message.parent for message in parked if names.PARKED_REASON in message.headers and message.parent]
    for earlier, later in combinations(dict.fromkeys(by_worker), 2):
        is_after = later.at > published.get(earlier, math.inf)
        if is_after and could_know(earlier, later) and not is_interrupted(later):
            yield "a copy of a parked request was parked again"


def is_interrupted(delivery: DeliveryRecord) -> bool:
    """Whether a delivery of its message, or of one that it is a copy of, ended without an acknowledgement."""
    step: DeliveryRecord | None = delivery
    while step is not None:
        if step.message.failures:
            return True
        step = step.message.parent
    return False
