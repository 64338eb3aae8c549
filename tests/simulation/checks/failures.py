"""Check of failures: a request fails only for a reason that happened, as the contract defines it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.simulation.scenario.plan import Plan, PlannedRequest
from tests.simulation.world.records import CreateCall, DeliveryRecord, Event

ENDING_BY_REFUSAL: Final = {
    "rejected": ("rejected", "conflict"),
    "unauthenticated": ("unauthenticated",),
    "forbidden": ("forbidden",),
    "not_found": ("missing",),
}
"""Endings of a create call of which a failure for this reason needs one."""


@dataclass(frozen=True, slots=True)
class FailedRequest:
    """A failed request, with what happened before its failure."""

    plan: Plan
    request: PlannedRequest
    event: Event
    calls: Sequence[CreateCall]
    deliveries: Sequence[DeliveryRecord]
    is_sound: bool

    @property
    def is_explained(self) -> bool:
        """Whether the reason of its failure happened."""
        reason, request = self.event.reason, self.request
        if reason in ENDING_BY_REFUSAL:
            is_refused = any(call.ending in ENDING_BY_REFUSAL[reason] for call in self.calls)
            return is_refused or (reason == "forbidden" and any(delivery.is_in_doubt for delivery in self.deliveries))
        match reason:
            case "invalid_request" | "conflict":
                return request.is_invalid if reason == "invalid_request" else bool(request.clashes)
            case "expired":
                return request.not_after is not None and self.event.at + self.plan.clock_drift >= request.not_after
            case "exhausted":
                return len(self.deliveries) > len(self.plan.delays)
            case "poison":
                return (
                    sum(delivery.lost_at <= self.event.at for delivery in self.deliveries) >= self.plan.delivery_limit
                )
            case _:
                return self._is_unresolved

    @property
    def _is_unresolved(self) -> bool:
        if any(delivery.is_in_doubt for delivery in self.deliveries):
            return True
        # Without look-ups every create that may have been sent is in doubt; so is each request without claims.
        is_later = any(delivery.number > 1 for delivery in self.deliveries)
        may_be_sent = is_later or any(call.may_have_acted for call in self.calls)
        return self.plan.reconcile == "off" and (may_be_sent or (self.plan.claims and not self.is_sound))


def unexplained_failure(
    plan: Plan,
    request: PlannedRequest,
    event: Event,
    calls: Iterable[CreateCall],
    deliveries: Iterable[DeliveryRecord],
    *,
    is_sound: bool,
) -> Iterator[str]:
    """Violation, if a final event is a failure for a reason that did not happen."""
    if event.succeeded:
        return
    calls_before = [call for call in calls if call.started_at <= event.at]
    deliveries_before = [delivery for delivery in deliveries if delivery.at <= event.at]
    if not FailedRequest(plan, request, event, calls_before, deliveries_before, is_sound).is_explained:
        yield f"failed ({event.reason}) without cause"
