"""Parts of the worker with one law switched off each."""

from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from schemas import names
from schemas.envelope import Envelope
from schemas.event import Reason
from worker.pipeline.deduplicator import Deduplicator, InProgress
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.executor import Executor
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import CallPermit
from worker.pipeline.probes import Probes
from worker.pipeline.settler import Settler
from worker.pipeline.throttle import Permit, RegionThrottle, Throttle
from worker.policy.call_result import CallError, LookupResult, SeveralTasks, TaskFound, UnconfirmedError
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed, Outcome, Requeued, RetryLater
from worker.policy.retry_policy import RetryPolicy
from worker.policy.throttle.circuit_breaker import CircuitBreaker
from worker.policy.throttle.project_hold import ProjectHold


class AckBeforeConfirm(Settler):
    """Takes every publish for confirmed."""

    async def _confirmed(self, delivery: Any, publish: Any, **_: Any) -> bool:
        with suppress(UnconfirmedError):
            await publish()
        return True


class AckBeforeCopy(Settler):
    """Acknowledges a postponed request before its copy is confirmed."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, RetryLater):
            await delivery.ack()
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class DropInsteadOfRequeue(Settler):
    """Hands nothing back when it drains."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, Requeued):
            await delivery.ack()
            return True
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class LoseLastSentAt(Settler):
    """Leaves the time of the last create out of a copy."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, RetryLater | Requeued):
            outcome = replace(outcome, envelope=replace(outcome.envelope, last_sent_at=None))
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class NewEventIdEachTime(Settler):
    """Gives every event an id of its own."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, Completed):
            outcome = replace(outcome, event_id=str(uuid4()))
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class SkipLookupAfterAmbiguous(Executor):
    """Does not look after an ambiguous ending."""

    async def _create(self, context: DeliveryContext, permit: CallPermit, wanted_at: float) -> Outcome | CallError:
        completed = await super()._create(context, permit, wanted_at)
        context.needs_lookup, context.ambiguous_create = False, None
        return completed


class ListingDelayFromCallStart(Executor):
    """Counts the settle time from the beginning of a call."""

    async def _create(self, context: DeliveryContext, permit: CallPermit, wanted_at: float) -> Outcome | CallError:
        before, started_at = context.envelope.last_sent_at, self._now()
        completed = await super()._create(context, permit, wanted_at)
        if context.envelope.last_sent_at != before:
            context.envelope = replace(context.envelope, last_sent_at=started_at)
        return completed


class AdoptFirstOfSeveral(Executor):
    """Adopts the first of several candidates."""

    def _on_lookup(
        self, context: DeliveryContext, found: LookupResult | CallError, started_at: float
    ) -> Outcome | CallError | None:
        seen = TaskFound(found.candidates[0]) if isinstance(found, SeveralTasks) else found
        return super()._on_lookup(context, seen, started_at)


class FailAmbiguous(Executor):
    """Gives up whatever is ambiguous."""

    def _terminal_reason(self, context: DeliveryContext, error: CallError) -> Reason | None:
        """The law switched off."""
        return Reason.UNRESOLVED if error.is_ambiguous else super()._terminal_reason(context, error)


class AlteredProxy:
    """A delivery, some of which looks different."""

    def __init__(self, delivery: Any) -> None:
        self._delivery = delivery

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)


class RedeliveryAsFirst(AlteredProxy):
    """A redelivery that looks like a first delivery."""

    redelivered = False

    @property
    def headers(self) -> dict[str, object]:
        """The law switched off."""
        return {name: value for name, value in self._delivery.headers.items() if name != names.DELIVERY_COUNT}


class NeverStale(AlteredProxy):
    """A delivery whose ground seems firm for ever."""

    async def is_still_ours(self) -> bool:
        """The law switched off."""
        return True


class TreatRedeliveryAsFirst(DeliveryPipeline):
    """Takes a redelivery for a first delivery."""

    async def run(self, delivery: Any) -> None:
        """The law switched off."""
        await super().run(RedeliveryAsFirst(delivery))


class SkipStaleCheck(DeliveryPipeline):
    """Never asks whether its delivery is still its own."""

    async def run(self, delivery: Any) -> None:
        """The law switched off."""
        await super().run(NeverStale(delivery))


class NoSingleFlight(Deduplicator):
    """Lets every copy fly by itself."""

    def in_progress(self, migration: MigrationRequest) -> None:
        """The law switched off."""

    def unfinished(self, migration: MigrationRequest) -> None:
        """The law switched off."""

    def start(self, migration: MigrationRequest) -> InProgress:
        """The law switched off."""
        self._in_progress.pop(migration.key, None)
        return super().start(migration)

    def finish(self, migration: MigrationRequest, *rest: Any) -> None:
        """The law switched off."""
        if migration.key in self._in_progress:
            super().finish(migration, *rest)


class ForgetOutcomes(Deduplicator):
    """Remembers no ending."""

    def remember(self, migration: MigrationRequest, completed: Completed) -> None:
        """Forget it."""


class NoListingDelay(RetryPolicy):
    """Owes no settle time."""

    def listing_delay_left(self, last_sent_at: float | None, now: float) -> float:
        """The law switched off."""
        return 0.0


class TrustNeverSentHeader(RetryPolicy):
    """Looks only if the headers say that a create was sent."""

    def needs_lookup(self, envelope: Envelope) -> bool:
        """The law switched off."""
        return envelope.last_sent_at is not None


class NoPoisonLimit(RetryPolicy):
    """Knows no poison."""

    def is_poison(self, *_: Any, **__: Any) -> bool:
        """The law switched off."""
        return False


class PoisonAtFirstInterruption(RetryPolicy):
    """Takes the first interruption for poison."""

    def is_poison(self, envelope: Envelope) -> bool:
        """The law switched off."""
        return envelope.interruptions > 0


class NoRetriesLeft(RetryPolicy):
    """Never has a place of the schedule left."""

    def has_retries_left(self, envelope: Envelope) -> bool:
        """The law switched off."""
        return False


class UnsharedOutcomes(AlteredProxy):
    """Claims that are told of no ending."""

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        """The law switched off."""
        await self._delivery.release(migration, None)
        return completed


class TrustOldLookup(Executor):
    """Believes for ever what a look said."""

    def _lookup_due(self, context: DeliveryContext) -> bool:
        """The law switched off."""
        return context.needs_lookup and context.absent_at is None


class NeverCloseBreaker(CircuitBreaker):
    """Stays open whatever a probe says."""

    def probe_ended(self, *_: Any) -> str:
        """The law switched off."""
        return ""


class NeverOpenBreaker(CircuitBreaker):
    """Stays closed whatever fails."""

    def failed(self, *_: Any) -> str:
        """The law switched off."""
        return ""


class LeakPermits(RegionThrottle):
    """Counts a permit that was given back as still in use."""

    def leave(self, permit: Permit) -> None:
        """The law switched off."""
        super().leave(permit)
        self.in_use += 1


class HoldAllProjects(RegionThrottle):
    """Takes one project's trouble for that of all."""

    def _known(self, project: str) -> ProjectHold:
        known = super()._known(project)
        self.projects.update(dict.fromkeys("pq", known))
        return known


class NeverResumeConsumption(Throttle):
    """Pauses consumption, and never takes anything in again."""

    def refit(self) -> None:
        """The law switched off."""
        if not self.paused_by:
            super().refit()


class NoCredentialsProbe(Probes[Any]):
    """Sends no further probe of credentials that were refused."""

    async def _probe_while_blocking(self, part: Any, region: Any, project: str) -> None:
        """The law switched off."""
        if part.kind != "credentials":
            await super()._probe_while_blocking(part, region, project)


class BlameRequestForCredentials(RegionThrottle):
    """Never asks whether others are refused as well."""

    def _refused(self, *_: Any) -> None:
        """The law switched off."""
