"""Mutations of the executor, the deduplicator and the retry policy: look-ups, copies, poison, retries."""

from dataclasses import replace
from typing import Any

from schemas.envelope import Envelope
from schemas.event import Reason
from tests.simulation.world.dcs_client import DcsClient
from worker.pipeline.deduplicator import Deduplicator, InProgress
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.executor import Executor
from worker.pipeline.ports import CallPermit
from worker.policy.call_result import CallError, LookupResult, SeveralTasks, TaskFound
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed, Outcome
from worker.policy.retry_policy import RetryPolicy


class SkipLookupAfterAmbiguous(Executor):
    """Executor that does not look up after an ambiguous create."""

    async def _create(self, context: DeliveryContext, permit: CallPermit, asked_at: float) -> Outcome | CallError:
        completed = await super()._create(context, permit, asked_at)
        context.needs_lookup, context.ambiguous_create = False, None
        return completed


class ListingDelayFromCallStart(Executor):
    """Executor that counts the listing delay from the start of a create call, not from its end."""

    async def _create(self, context: DeliveryContext, permit: CallPermit, asked_at: float) -> Outcome | CallError:
        before, started_at = context.envelope.last_sent_at, self._now()
        completed = await super()._create(context, permit, asked_at)
        if context.envelope.last_sent_at != before:
            context.envelope = replace(context.envelope, last_sent_at=started_at)
        return completed


class AdoptFirstOfSeveral(Executor):
    """Executor that adopts the first of several matching tasks."""

    def _on_lookup(
        self, context: DeliveryContext, found: LookupResult | CallError, started_at: float
    ) -> Outcome | CallError | None:
        seen = TaskFound(found.candidates[0]) if isinstance(found, SeveralTasks) else found
        return super()._on_lookup(context, seen, started_at)


class AdoptCutTasks(DcsClient):
    """Client that adopts a task whose marker was cut off, also if no create of the request was called."""

    async def find(self, *args: Any, **options: Any) -> LookupResult | CallError:
        """Switch the law off."""
        return await super().find(*args, **options | {"was_sent": True})


class FailAmbiguous(Executor):
    """Executor that ends a request as unresolved after any ambiguous error."""

    def _terminal_reason(self, context: DeliveryContext, error: CallError) -> Reason | None:
        """Switch the law off."""
        return Reason.UNRESOLVED if error.is_ambiguous else super()._terminal_reason(context, error)


class TrustOldLookup(Executor):
    """Executor that relies on the result of a look-up for ever."""

    def _lookup_due(self, context: DeliveryContext) -> bool:
        """Switch the law off."""
        return context.needs_lookup and context.absent_at is None


class NoSingleFlight(Deduplicator):
    """Deduplicator that lets copies of a request run at the same time."""

    def in_progress(self, migration: MigrationRequest) -> None:
        """Switch the law off."""

    def unfinished(self, migration: MigrationRequest) -> None:
        """Switch the law off."""

    def start(self, migration: MigrationRequest, age_starts_at: float) -> InProgress:
        """Switch the law off."""
        self._in_progress.pop(migration.key, None)
        return super().start(migration, age_starts_at)

    def finish(self, migration: MigrationRequest, *rest: Any) -> None:
        """Switch the law off."""
        if migration.key in self._in_progress:
            super().finish(migration, *rest)


class ForgetOutcomes(Deduplicator):
    """Deduplicator that remembers no outcome."""

    def remember(self, migration: MigrationRequest, completed: Completed) -> None:
        """Switch the law off."""


class ForgetFailures(Deduplicator):
    """Deduplicator that remembers no failure that leaves its request id free."""

    def completed(self, migration: MigrationRequest) -> Completed | None:
        """Switch the law off."""
        completed = super().completed(migration)
        return completed if completed is not None and (completed.succeeded or completed.parked) else None


class NoListingDelay(RetryPolicy):
    """Retry policy without a listing delay."""

    def listing_delay_left(self, last_sent_at: float | None, now: float) -> float:
        """Switch the law off."""
        return 0.0


class TrustNeverSentHeader(RetryPolicy):
    """Retry policy that looks up only if the headers say that a create was sent."""

    def needs_lookup(self, envelope: Envelope) -> bool:
        """Switch the law off."""
        return envelope.last_sent_at is not None


class CreateFirstDeliveryWithoutLookup(RetryPolicy):
    """Retry policy that never looks up a first delivery."""

    def needs_lookup(self, envelope: Envelope) -> bool:
        """Switch the law off."""
        return envelope.is_repeat and super().needs_lookup(envelope)


class NoPoisonLimit(RetryPolicy):
    """Retry policy without a poison limit."""

    def is_poison(self, *_: Any, **__: Any) -> bool:
        """Switch the law off."""
        return False


class PoisonAtFirstInterruption(RetryPolicy):
    """Retry policy that takes the first interruption for poison."""

    def is_poison(self, envelope: Envelope) -> bool:
        """Switch the law off."""
        return envelope.interruptions > 0


class NoRetriesLeft(RetryPolicy):
    """Retry policy that never has a retry level left."""

    def has_retries_left(self, envelope: Envelope) -> bool:
        """Switch the law off."""
        return False
