"""Delivery context: what is known of a request while one delivery of it is processed.

Short on purpose: it is one class.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from schemas.envelope import Envelope
from worker.pipeline.ports import DeliveryOwnership
from worker.policy.call_result import CallError
from worker.policy.migration_request import MigrationRequest
from worker.policy.throttle.hold import Hold


@dataclass(slots=True)
class DeliveryContext:
    """What is known of a request while one delivery of it is processed; the executor keeps it up to date."""

    migration: MigrationRequest
    envelope: Envelope
    delivery: DeliveryOwnership
    is_claimed: Callable[[], bool]
    """False once another replica may process the request: then a look-up precedes every create. True without claims."""
    created_since: float
    """Tasks created before this are not the request's; 0 if its first delivery may be long ago."""
    published_at: float | None = None
    """When the sender published the message, by its own word."""
    needs_lookup: bool = False
    """A task may exist: nothing is created before a look-up, after the listing delay, has found none."""
    is_known: bool = False
    """Another copy of the request was processed before, here or under a claim."""
    claimed_at_start: bool = True
    """The attempt started under a certain claim: without it, it must not continue without a look-up."""
    ambiguous_create: CallError | None = None
    """The ambiguous create of this delivery, until a look-up has resolved it."""
    last_call_was_lookup: bool = False
    """The last error came from a look-up."""
    absent_at: float | None = None
    """When a look-up last found no task, if nothing has put that in doubt since."""
    lookups: int = 0
    """Look-ups of this delivery that found nothing."""
    failed: CallError | None = None
    """The error of the last attempt."""
    checked_hold: Hold | None = None
    """The hold that the last attempt started: a probe decides whether it concerns every request."""
    ended_holds: set[Hold] = field(default_factory=set)
    """Holds that a probe has ended since: refused again, the request itself is at fault."""
