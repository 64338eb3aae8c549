"""When to look, how long to settle, what a fault leads to: laws 2 and 3 as functions."""

from dataclasses import dataclass, replace
from typing import Literal

from schemas.envelope import Envelope
from worker.policy import backoff, error_table
from worker.policy.call_result import CallError, ErrorKind
from worker.policy.outcome import RetryLater

Reconcile = Literal["ambiguous", "always", "off"]

CLOCK_DIFFERENCE_SECONDS = 5.0
"""Seconds by which the clocks of two replicas may differ (less for a settle time under 15 s)."""

FREE_RETRY_LIMIT_SECONDS = 86400.0
"""A request throttled for so long after it was first received spends places like any other failed one."""


@dataclass(frozen=True, slots=True)
class ThrottleSettings:
    """The settings of the throttle. Durations in seconds."""

    regions: tuple[str, ...]
    prefetch: int
    """Requests in hand at most, hence calls at once."""
    deadline: float
    """Of one call."""
    delays: tuple[float, ...]
    """The retry schedule."""
    rate: float | None = None
    """Calls per second, in all regions together; None: learnt for each."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """The settings that decisions are made by. Durations in seconds."""

    delays: tuple[float, ...] = (10.0, 60.0, 300.0, 1800.0)
    tries: int = 3
    reconcile: Reconcile = "ambiguous"
    settle: float = 45.0
    delivery_limit: int = 10
    lookup_timeout: float = 30.0
    """Of a look-up, all its calls together."""

    @property
    def places(self) -> int:
        """How many places the retry schedule has."""
        return len(self.delays)

    def needs_lookup(self, envelope: Envelope) -> bool:
        """Law 3: only a first delivery may create without looking."""
        if self.reconcile == "off":
            return False
        return envelope.is_repeat or self.reconcile == "always"

    def listing_delay_left(self, last_sent_at: float | None, now: float) -> float:
        """Seconds until a create that may have been sent at `last_sent_at` must be listed if it happened.

        The allowance covers a clock ahead of the one that wrote the time; one behind it only waits longer,
        and never longer than the whole, however far off it is.
        """
        if last_sent_at is None:
            return 0.0
        elapsed = max(0.0, now - last_sent_at)
        return max(0.0, self.settle + min(CLOCK_DIFFERENCE_SECONDS, self.settle / 3) - elapsed)

    def is_poison(self, envelope: Envelope) -> bool:
        """Law 9: so many deliveries ended without a word. A sender that forges the count harms only itself."""
        return envelope.interruptions >= self.delivery_limit

    def is_suspect(self, envelope: Envelope) -> bool:
        """Half-way to poison: worked on alone, so that it takes no neighbour down with it again."""
        return envelope.interruptions >= max(1, self.delivery_limit // 2)

    def is_over(self, envelope: Envelope) -> bool:
        """The schedule was used up, and only whether a task exists remains to be seen."""
        return envelope.round > self.places

    def has_retries_left(self, envelope: Envelope) -> bool:
        """Whether a place of the schedule is left."""
        return envelope.round < self.places

    def wait_in_hand(self, fault: CallError, attempt: int, random_unit: float) -> float | None:
        """Seconds until the next try of this delivery; None if the wait belongs to the broker."""
        if attempt >= self.tries or fault.kind is ErrorKind.CAPACITY:
            return None
        asked = error_table.asked_wait(fault)
        wait = max(backoff.backoff(attempt, random_unit), asked and asked * (1.0 + random_unit / 4))
        return wait if wait <= backoff.IN_HAND else None

    def is_free(self, fault: CallError, envelope: Envelope, now: float) -> bool:
        """Law 8: being throttled counts against no one, nor do credentials that are away; though not for ever."""
        return error_table.costs_nothing(fault) and now - envelope.first_received_at < FREE_RETRY_LIMIT_SECONDS

    def after(self, fault: CallError, envelope: Envelope, at_least: float, now: float) -> RetryLater:
        """The way through the broker after a failed call; spends a place unless throttled."""
        at_least = max(at_least, error_table.asked_wait(fault))
        if self.is_free(fault, envelope, now):
            return self.wait(envelope, at_least, fault.label)
        if fault.kind is ErrorKind.CAPACITY:
            at_least = self.delays[-1]
        spent = replace(envelope, round=min(envelope.round, self.places) + 1)
        place = backoff.place(self.delays, at_least)
        if not self.is_over(spent):
            place = max(place, spent.round)
        return RetryLater(place, spent, fault.label, self.delays[place - 1])

    def wait(self, envelope: Envelope, at_least: float, why: str) -> RetryLater:
        """A wait in the broker that spends nothing."""
        place = backoff.place(self.delays, at_least)
        return RetryLater(place, envelope, why, self.delays[place - 1])
