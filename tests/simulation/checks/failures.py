"""Every failure has grounds: no request is given up, or blamed for anything, without what the contract names for it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from tests.simulation.scenario.plan import Errand, Plan
from tests.simulation.world.records import Call, Event, Handed

REFUSALS: Final = {
    "rejected": "rejected",
    "unauthenticated": "unauthenticated",
    "forbidden": "forbidden",
    "not_found": "missing",
}
"""How a create call ended before a failure for this reason."""


@dataclass(frozen=True, slots=True)
class Case:
    """What happened to one request before it failed."""

    plan: Plan
    errand: Errand
    event: Event
    calls: Sequence[Call]
    handed: Sequence[Handed]
    is_sound: bool

    @property
    def has_grounds(self) -> bool:
        """Whether it could fail for this reason."""
        reason, errand = self.event.reason, self.errand
        if reason in REFUSALS:
            return any(call.ending == REFUSALS[reason] for call in self.calls)
        match reason:
            case "invalid_request":
                return errand.is_broken or bool(errand.clashes)
            case "expired":
                return errand.not_after is not None and self.event.at + self.plan.drift >= errand.not_after
            case "exhausted":
                return len(self.handed) > len(self.plan.delays)
            case "poison":
                return sum(one.lost_at <= self.event.at for one in self.handed) >= self.plan.limit
            case _:
                return self._is_unresolved

    @property
    def _is_unresolved(self) -> bool:
        if any(one.is_in_doubt for one in self.handed):
            return True
        # Without looking, whatever may have been sent is in doubt; so it is where claims cannot be asked.
        is_later = any(one.number > 1 for one in self.handed)
        may_be_sent = is_later or any(call.may_have_acted for call in self.calls)
        return self.plan.reconcile == "off" and (may_be_sent or (self.plan.claims and not self.is_sound))


def groundless(
    plan: Plan, errand: Errand, event: Event, calls: Iterable[Call], handed: Iterable[Handed], *, is_sound: bool
) -> Iterator[str]:
    """What is to be said of a final event, if it is a failure without grounds."""
    if event.succeeded:
        return
    before = [call for call in calls if call.begun <= event.at]
    deliveries = [one for one in handed if one.at <= event.at]
    if not Case(plan, errand, event, before, deliveries, is_sound).has_grounds:
        yield f"failed ({event.reason}) without grounds"
