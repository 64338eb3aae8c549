"""Retry policy: when a look-up is needed, how long a created task may stay unlisted, and what follows an error.

Laws `look-before-create`, `first-delivery`, `two-waits`, `server-word` and `poison` as functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from schemas.envelope import Envelope
from worker.policy import backoff, error_table
from worker.policy.call_result import CallError, ErrorKind
from worker.policy.outcome import RetryLater

Reconcile = Literal["always", "ambiguous", "off"]
ClaimsAway = Literal["look", "pause"]

LOOKUP_MODES: Final[Mapping[Reconcile, str]] = {
    "always": "look-up before every create, which costs one GET per create (up to 5 if the name has other "
    "characters than letters, digits, - and _)",
    "ambiguous": "look-up only when an earlier create call may have been sent, so no GET for a first delivery; "
    "a request that is sent twice can be created twice",
    "off": "no look-up; a create call with an unknown result ends as unresolved and needs an operator",
}
"""What `WORKER_RECONCILE` means and costs, for operators."""
CLAIMS_AWAY_MODES: Final[Mapping[ClaimsAway, str]] = {
    "look": "continues as without claims, with a look-up before every create",
    "pause": "no create begins",
}
"""What `WORKER_CLAIMS_AWAY` means while Redis is away, for operators."""

CLOCK_DIFFERENCE_SECONDS = 5.0
"""Seconds by which the clocks of two replicas may differ (less for a listing delay under 15 s)."""

FREE_RETRY_LIMIT_SECONDS = 86400.0
"""A request that is throttled this long after it was first received uses up retry levels like any other failed one."""


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
    reconcile: Reconcile = "always"
    claims_away: ClaimsAway = "look"
    settle: float = 45.0
    delivery_limit: int = 10
    lookup_timeout: float = 30.0
    """Of a look-up, all its calls together."""

    @property
    def levels(self) -> int:
        """Number of retry levels."""
        return len(self.delays)

    def needs_lookup(self, envelope: Envelope) -> bool:
        """Law `first-delivery`: only a first delivery may create without a look-up."""
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
        """Law `poison`: too many deliveries ended without a result. A forged count harms its sender only."""
        return envelope.interruptions >= self.delivery_limit

    def is_suspect(self, envelope: Envelope) -> bool:
        """Half-way to poison: processed alone, so that a crash affects no other request."""
        return envelope.interruptions >= max(1, self.delivery_limit // 2)

    def retries_exhausted(self, envelope: Envelope) -> bool:
        """The schedule is used up; only a look-up whether a task exists is left to do."""
        return envelope.round > self.levels

    def has_retries_left(self, envelope: Envelope) -> bool:
        """Whether a retry level is left."""
        return envelope.round < self.levels

    def wait_in_hand(self, error: CallError, attempt: int, random_unit: float) -> float | None:
        """Seconds until the next attempt of this delivery; None if the request has to wait in the broker."""
        if attempt >= self.tries or error.kind is ErrorKind.CAPACITY:
            return None
        asked = error_table.asked_wait(error)
        wait = max(backoff.backoff(attempt, random_unit), asked and asked * (1.0 + random_unit / 4))
        return wait if wait <= backoff.MAX_ATTEMPT_WAIT_SECONDS else None

    def costs_nothing(self, error: CallError, envelope: Envelope, now: float) -> bool:
        """Law `server-word`: throttling and missing credentials use up no retry level, for a day at most."""
        return error_table.costs_nothing(error) and now - envelope.first_received_at < FREE_RETRY_LIMIT_SECONDS

    def after(self, error: CallError, envelope: Envelope, at_least: float, now: float) -> RetryLater:
        """The wait in the broker after a failed call; it uses up a retry level unless it costs nothing."""
        at_least = max(at_least, error_table.asked_wait(error))
        if self.costs_nothing(error, envelope, now):
            return self.wait(envelope, at_least, error.label)
        if error.kind is ErrorKind.CAPACITY:
            at_least = self.delays[-1]
        spent = replace(envelope, round=min(envelope.round, self.levels) + 1)
        retry_level = backoff.level_for_wait(self.delays, at_least)
        if not self.retries_exhausted(spent):
            retry_level = max(retry_level, spent.round)
        return RetryLater(retry_level, spent, error.label, self.delays[retry_level - 1])

    def wait(self, envelope: Envelope, at_least: float, why: str) -> RetryLater:
        """A wait in the broker that uses up no retry level."""
        retry_level = backoff.level_for_wait(self.delays, at_least)
        return RetryLater(retry_level, envelope, why, self.delays[retry_level - 1])
