"""What is known of a request while one delivery of it is worked on: the executor keeps it up to date.

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
    """What is known of an order while one delivery of it is worked on."""

    migration: MigrationRequest
    envelope: Envelope
    ground: DeliveryOwnership
    needs_lookup: bool = False
    """A task may exist: nothing is created before a look-up, and a settle time, say that none does."""
    is_claimed: Callable[[], bool] = lambda: True
    """False once another replica may work on the same request: then every create is preceded by a look-up."""
    is_known: bool = False
    """Another copy of the request was worked on before, here or under a claim."""
    claimed_at_start: bool = True
    """The step under way began under a sure claim: it must not go on without looking once that is lost."""
    since: float | None = None
    """When the request was first known, if it is known; None: by its envelope."""
    ambiguous_create: CallError | None = None
    """The ambiguous create of this delivery, until a look-up settled it."""
    last_call_was_lookup: bool = False
    """The last fault came from a look-up."""
    absent_at: float | None = None
    """When a look-up last said, and nothing since has put in doubt, that no task exists."""
    lookups: int = 0
    """Look-ups of this delivery that found nothing."""
    failed: CallError | None = None
    """How the last attempt ended."""
    suspect: Hold | None = None
    """What refused the last attempt, perhaps for every request: a probe tells."""
    passed: set[Hold] = field(default_factory=set)
    """Suspects that a probe has cleared since: refused again, the request itself is at fault."""
