"""Values of metric labels: known sets, so that series stay few whatever the service or a sender says."""

from typing import Final

from schemas.event import FAILED_TYPE, PARKED_REASONS, SUCCEEDED_TYPE, Reason

OTHER_VALUE: Final = "other"
"""Stands for every value outside the known set."""

OUTCOMES: Final = ("succeeded", "failed", "retried", "returned")
FINAL_OUTCOMES: Final = ("succeeded", "failed")
OPERATIONS: Final = ("create", "list", "show", "token")
LOOKUP_RESULTS: Final = ("found", "absent", "several", "failed")
EVENT_TYPES: Final = (SUCCEEDED_TYPE, FAILED_TYPE)
PARKED_REASON_VALUES: Final = tuple(sorted(str(reason) for reason in {*PARKED_REASONS, Reason.INVALID_REQUEST}))

NO_ANSWER_STATUSES: Final = ("timeout", "refused", "reset", "oversize", "unreadable", "pages", "frozen")
"""How calls end without a readable answer."""
CALL_STATUSES: Final = frozenset((*map(str, range(100, 600)), *NO_ANSWER_STATUSES))

POSTPONE_REASONS: Final = ("breaker", "turn", "throttled", "credentials", "quota")
"""Why a request steps aside at the gate, at no cost: nothing is wrong with it."""

PAUSE_REASONS: Final = ("breaker", "credentials", "blocked", "quarantine", "draining")
"""Why this replica consumes nothing: the service is sick, nobody lets us in, the broker blocks publishing, a suspect
is worked on alone, the end is near."""

OUTCOMES_WITH_REASONS: Final = (
    *(("succeeded", resolution) for resolution in ("created", "adopted")),
    *(("failed", str(reason)) for reason in Reason),
    *(("retried", why) for why in ("settle", "copy", "claimed", "quarantine", *POSTPONE_REASONS)),
    *(("returned", why) for why in ("drain", "stale", "defect")),
)
"""Outcome and reason; a retried request may also have the status of its last call for a reason."""
OUTCOME_REASONS: Final = CALL_STATUSES.union(reason for _, reason in OUTCOMES_WITH_REASONS)
