"""Mutations of the settler and the pipeline: acknowledgements, copies, events, stale deliveries."""

from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from schemas import names
from schemas.envelope import Envelope
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.settler import Settler
from worker.policy.call_result import UnconfirmedError
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed, Granted, Outcome, Requeued, RetryLater, Unavailable


class AckBeforeConfirm(Settler):
    """Settler that takes every publish for confirmed."""

    async def _confirmed(self, delivery: Any, publish: Any, **_: Any) -> bool:
        with suppress(UnconfirmedError):
            await publish()
        return True


class AckBeforeCopy(Settler):
    """Settler that acknowledges a postponed request before its copy is confirmed."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, RetryLater):
            await delivery.ack()
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class DropInsteadOfRequeue(Settler):
    """Settler that acknowledges at shutdown what it should requeue."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, Requeued):
            await delivery.ack()
            return True
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class LoseLastSentAt(Settler):
    """Settler that leaves the time of the last create out of copies."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, RetryLater | Requeued):
            outcome = replace(outcome, envelope=replace(outcome.envelope, last_sent_at=None))
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class ForgetConflict(Settler):
    """Settler that leaves the 409 out of what it hands back, and what waits in a retry queue."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, RetryLater | Requeued):
            outcome = replace(outcome, envelope=replace(outcome.envelope, last_error=None))
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class NewEventIdEachTime(Settler):
    """Settler that gives every event a new id."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, Completed):
            outcome = replace(outcome, event_id=str(uuid4()))
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class NewEventIdForRepeats(Settler):
    """Settler that gives every answer from memory a new id."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, Completed) and outcome.is_repeated:
            outcome = replace(outcome, event_id=str(uuid4()))
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class OneIdForAllFailures(Settler):
    """Settler that gives all failures of a request one id, whatever failed."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, Completed) and not outcome.succeeded:
            outcome = replace(outcome, event_id=f"failure of {outcome.subject}")
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class ParkCopiesAgain(Settler):
    """Settler that parks every copy of a parked request."""

    async def settle(self, delivery: Any, sender_request_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """Switch the law off."""
        if isinstance(outcome, Completed):
            outcome = replace(outcome, is_repeated=False)
        return await super().settle(delivery, sender_request_id, envelope, outcome)


class AlteredProxy:
    """Proxy of a port that changes some of its members."""

    def __init__(self, target: Any) -> None:
        self._target = target

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)


class RedeliveryAsFirst(AlteredProxy):
    """Redelivery that looks like a first delivery."""

    redelivered = False

    @property
    def headers(self) -> dict[str, object]:
        """Switch the law off."""
        return {name: value for name, value in self._target.headers.items() if name != names.DELIVERY_COUNT}


class NeverStale(AlteredProxy):
    """Delivery that is always reported as still ours."""

    async def is_still_ours(self) -> bool:
        """Switch the law off."""
        return True


class TreatRedeliveryAsFirst(DeliveryPipeline):
    """Pipeline that takes a redelivery for a first delivery."""

    async def run(self, delivery: Any) -> None:
        """Switch the law off."""
        await super().run(RedeliveryAsFirst(delivery))


class SkipStaleCheck(DeliveryPipeline):
    """Pipeline that never checks whether its delivery is still ours."""

    async def run(self, delivery: Any) -> None:
        """Switch the law off."""
        await super().run(NeverStale(delivery))


class AnswerExpiredCopies(DeliveryPipeline):
    """Pipeline that answers a copy as expired although a create may have been sent for it."""

    def _is_answered_by(self, context: DeliveryContext, completed: Completed) -> bool:
        """Switch the law off."""
        return completed.answers(context.migration, replace(context.envelope, last_sent_at=None))


class ForgetFailuresUnknownToRedis(DeliveryPipeline):
    """Pipeline that works anew on a request whose failure it published, if Redis has a record but not the failure."""

    def _from_memory(self, context: DeliveryContext, answer: Granted | Unavailable) -> Completed | None:
        """Switch the law off."""
        if isinstance(answer, Granted) and answer.has_record:
            self._deduplicator.forget(context.migration)
        return super()._from_memory(context, answer)


class UnsharedOutcomes(AlteredProxy):
    """Claims that store no outcome."""

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        """Switch the law off."""
        await self._target.release(migration, None)
        return completed
