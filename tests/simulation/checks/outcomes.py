"""Check of what is known of an outcome: event ids, published failures, and requests that are parked already."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

from schemas import names
from tests.simulation.world.records import CreateCall, DeliveryRecord, Event, Message, is_final

CLOCK_STEP_SECONDS: Final = 0.002
"""Resolution of the times that an outcome and a copy carry."""

CouldKnow = Callable[[DeliveryRecord, DeliveryRecord], bool]
"""Whether the second delivery could know of the event of the first."""


def event_ids(events: Iterable[Event]) -> Iterator[str]:
    """One event id, one meaning; two meanings, two ids. A failure also speaks of one message body."""
    meanings: dict[str, set[object]] = defaultdict(set)
    ids: dict[tuple[object, bytes], set[str]] = defaultdict(set)
    bodies: dict[str, set[bytes]] = defaultdict(set)
    for event in events:
        meanings[event.id].add(event.meaning)
        if not event.is_repeated:
            message = b"" if event.succeeded else event.delivery.message.body
            ids[event.meaning, message].add(event.id)
            bodies[event.id].add(message)
    yield from (f"{len(found)} meanings under one event id" for found in meanings.values() if len(found) > 1)
    yield from (f"{len(found)} event ids of one meaning" for found in ids.values() if len(found) > 1)
    yield from (f"{len(found)} messages under one event id" for found in bodies.values() if len(found) > 1)


@dataclass(frozen=True, slots=True)
class Arrivals:
    """When messages first arrived at a worker. Copies by workers arrive with their original."""

    first: dict[Message, float]
    deliveries: Sequence[DeliveryRecord]
    """Of one request."""
    clock_drift: float

    @classmethod
    def of(cls, deliveries: Sequence[DeliveryRecord], clock_drift: float) -> "Arrivals":
        """Arrivals of the messages of one request."""
        first: dict[Message, float] = {}
        for delivery in deliveries:
            first.setdefault(delivery.message, delivery.at)
        return cls(first, deliveries, clock_drift)

    def at(self, delivery: DeliveryRecord) -> float:
        """When the message of a delivery first arrived."""
        message = delivery.message
        while message.parent is not None:
            message = message.parent.message
        return self.first.get(message, math.inf)

    def is_reopened(self, failure: Event, by: DeliveryRecord) -> bool:
        """Whether a message that can count as later than a failure arrived before `by`, or is that of `by`."""
        return not is_final(failure) and any(
            self.at(delivery) + self.clock_drift >= failure.decided_at
            for delivery in self.deliveries
            if delivery.at <= by.at
        )

    def before_reopening(self, failure: Event, calls: Iterable[CreateCall]) -> Iterator[CreateCall]:
        """The calls that no later message explains."""
        for call in calls:
            if call.started_at < failure.at or not self.is_reopened(failure, call.delivery):
                yield call


def tasks_of_failed_messages(
    arrivals: Arrivals, events: Iterable[Event], calls: Sequence[CreateCall], could_know: CouldKnow
) -> Iterator[str]:
    """Creates for a message that had arrived before a failure was published, which another worker could know."""
    for event in events:
        for call in calls:
            is_same_process = call.delivery.process is event.delivery.process
            drift = CLOCK_STEP_SECONDS if is_same_process else arrivals.clock_drift
            if (
                not is_final(event)
                and call.started_at > event.at
                and could_know(event.delivery, call.delivery)
                and arrivals.at(call.delivery) + drift < event.decided_at
                and not any(
                    arrivals.at(delivery) + drift >= event.decided_at
                    for delivery in arrivals.deliveries
                    if delivery.at <= call.started_at
                )
            ):
                yield f"created at {call.started_at:.1f} s, after its failure ({event.reason}) of {event.at:.1f} s"


def parked_twice(parked: Iterable[Message], could_know: CouldKnow) -> Iterator[str]:
    """Copies of a parked request that are parked again, although no delivery of theirs was interrupted."""
    by_worker = [message.parent for message in parked if names.PARKED_REASON in message.headers and message.parent]
    for earlier, later in combinations(by_worker, 2):
        if earlier is not later and could_know(earlier, later) and not _is_interrupted(later):
            yield "a copy of a parked request was parked again"


def _is_interrupted(delivery: DeliveryRecord) -> bool:
    step: DeliveryRecord | None = delivery
    while step is not None:
        if step.message.failures:
            return True
        step = step.message.parent
    return False
