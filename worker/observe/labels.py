"""Values of metric labels: known sets, so that series stay few whatever the service or a sender says."""

from typing import Final

from schemas.event import FAILED_TYPE, PARKED_REASONS, SUCCEEDED_TYPE, Reason

OTHER: Final = "other"
"""Stands for every value outside the known set."""

OUTCOMES: Final = ("succeeded", "failed", "retried", "returned")
FINAL: Final = ("succeeded", "failed")
OPERATIONS: Final = ("create", "list", "show", "token")
LOOKUPS: Final = ("found", "absent", "several", "failed")
EVENTS: Final = (SUCCEEDED_TYPE, FAILED_TYPE)
PARKED: Final = tuple(sorted(str(reason) for reason in {*PARKED_REASONS, Reason.INVALID_REQUEST}))

SILENCES: Final = ("timeout", "refused", "reset", "oversize", "unreadable", "pages", "frozen")
"""How calls end without a readable answer."""
STATUSES: Final = frozenset((*map(str, range(100, 600)), *SILENCES))

ASIDE: Final = ("breaker", "turn", "throttled", "credentials", "quota")
"""Why a request steps aside at the gate, at no cost: nothing is wrong with it."""

PAUSES: Final = ("breaker", "credentials", "blocked", "quarantine", "draining")
"""Why this replica consumes nothing: the service is sick, nobody lets us in, the broker blocks publishing, a suspect
is worked on alone, the end is near."""

ENDINGS: Final = (
    *(("succeeded", resolution) for resolution in ("created", "adopted")),
    *(("failed", str(reason)) for reason in Reason),
    *(("retried", why) for why in ("settle", "copy", "claimed", "quarantine", *ASIDE)),
    *(("returned", why) for why in ("drain", "stale", "defect")),
)
"""Outcome and reason; a retried request may also have the status of its last call for a reason."""
REASONS: Final = STATUSES.union(reason for _, reason in ENDINGS)
