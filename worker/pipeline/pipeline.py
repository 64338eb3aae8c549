"""Delivery pipeline: read the envelope, parse, deduplicate, claim, execute, settle."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.request import InvalidRequestError
from schemas.timestamp import from_text
from worker.pipeline import final_events
from worker.pipeline.deduplicator import RETURN_SECONDS, Deduplicator, Unfinished
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.executor import Executor
from worker.pipeline.ports import Claims, Clock, Delivery, Observer, SharedClaims
from worker.pipeline.settler import Settler
from worker.policy.call_result import UncopyableError
from worker.policy.delivery_report import DeliveryFinished, age_starts_at, label, trace_id
from worker.policy.migration_request import MigrationRequest, RequestParser
from worker.policy.outcome import (
    ClaimAnswer,
    ClaimedElsewhere,
    Completed,
    Concluded,
    DeliveryLost,
    Granted,
    Outcome,
    Requeued,
    RetryLater,
    Unavailable,
)
from worker.policy.retry_policy import RetryPolicy


class DeliveryPipeline:
    """Pipeline of one delivery, from received to acknowledged.

    `locks`: for repeated requests, without claims or while Redis is away. `before_hand_back` cancels the consumer.
    """

    def __init__(  # noqa: PLR0913 - each argument is a collaborator, and none is set afterwards
        self,
        parser: RequestParser,
        retry_policy: RetryPolicy,
        deduplicator: Deduplicator,
        claims: SharedClaims | None,
        executor: Executor,
        settler: Settler,
        observer: Observer,
        *,
        now: Clock,
        locks: Claims | None = None,
        before_hand_back: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._parser = parser
        self._retry_policy = retry_policy
        self._deduplicator = deduplicator
        self._claims = claims
        self._locks = locks
        self._before_hand_back = before_hand_back
        self._executor = executor
        self._settler = settler
        self._observer = observer
        self._now = now

    async def run(self, delivery: Delivery) -> None:
        """Process `delivery` until it is settled, or left to the broker because its channel was closed."""
        started, envelope = time.perf_counter(), self._envelope(delivery)
        self._observer.received(redelivered=delivery.redelivered)
        outcome: Outcome
        try:
            migration = self._parser.read(delivery.body, delivery.content_encoding)
            since, published_at = envelope.created_since, delivery.published_at
            context = DeliveryContext(migration, envelope, delivery, lambda: True, since, published_at)
        except InvalidRequestError as error:
            outcome = final_events.invalid(error, envelope, delivery.body, self._now())
            migration, sender_request_id = None, error.sender.request_id
            delivery.release_body()
        else:
            outcome = await self._decide(context)
            migration, envelope = context.migration, context.envelope
            sender_request_id = migration.request_id if migration.has_sender_request_id else None
        if isinstance(outcome, Requeued) and self._before_hand_back is not None:
            with suppress(Exception):  # of a lost broker connection; with it the delivery is lost
                await self._before_hand_back()
        try:
            is_settled = await self._settler.settle(delivery, sender_request_id, envelope, outcome)
        except UncopyableError:
            assert migration is not None
            outcome = final_events.failed(migration, envelope, Reason.POISON, self._now())
            is_settled = await self._settler.settle(delivery, sender_request_id, envelope, outcome)
        self._report(delivery, migration, envelope, outcome if is_settled else DeliveryLost(None), started)

    def is_suspect(self, delivery: Delivery) -> bool:
        """Law `poison`: whether the delivery must be processed alone."""
        has_state = bool(delivery.redelivered or delivery.headers)
        return has_state and self._retry_policy.is_suspect(self._envelope(delivery))

    async def postpone(self, delivery: Delivery, why: str) -> None:
        """Let a delivery wait in the broker, at no cost."""
        started, envelope = time.perf_counter(), self._envelope(delivery)
        self._observer.received(redelivered=delivery.redelivered)
        outcome = self._retry_policy.wait(envelope, 0.0, why)
        is_settled = await self._settler.settle(delivery, None, envelope, outcome)
        self._report(delivery, None, envelope, outcome if is_settled else DeliveryLost(None), started)

    def _envelope(self, delivery: Delivery) -> Envelope:
        redelivered, is_own_copy = delivery.redelivered, not delivery.exchange
        return Envelope.read(delivery.headers, redelivered=redelivered, now=self._now(), is_own_copy=is_own_copy)

    async def _decide(self, context: DeliveryContext) -> Outcome:
        """Law `single-flight`: a copy of a request that has ended or is in progress gets its outcome."""
        if not await context.delivery.is_still_ours():  # after a freeze it would look later than a stored outcome
            return DeliveryLost(context.envelope.last_sent_at)
        while True:
            in_progress = self._deduplicator.in_progress(context.migration)
            if in_progress is None:
                return await self._single_flight(context)
            outcome = await asyncio.shield(in_progress.finished)
            if in_progress.fingerprint != context.migration.fingerprint:
                continue  # which of the two is the request is known only when the other has finished
            if (followed := self._follow_copy(context, outcome)) is not None:
                return followed

    async def _single_flight(self, context: DeliveryContext) -> Outcome:
        completed = self._deduplicator.completed(context.migration)
        if completed is not None and not self._is_answered_by(context, completed):
            self._deduplicator.forget(context.migration)
            context.needs_lookup = self._retry_policy.reconcile != "off"
        elif completed is not None and (completed.succeeded or not self._claims):
            return self._same_outcome(context, completed)
        known = self._deduplicator.unfinished(context.migration)
        if known is not None:
            if self._conflicts(context, known) and not self._claims:
                return final_events.conflicting(context.migration, context.envelope, self._now())
            context.needs_lookup = self._retry_policy.reconcile != "off"
            context.created_since = min(known.first_received_at, context.created_since)
            error = known.error_at(self._now(), context.migration)
            context.envelope = context.envelope.sent_at_least(known.last_sent_at, error)
        outcome: Outcome | None = None
        self._deduplicator.start(context.migration, age_starts_at(context.published_at, context.envelope, self._now()))
        try:
            outcome = await self._claim_or_lock(context)
            if isinstance(outcome, Completed) and outcome.fingerprint == context.migration.fingerprint:
                self._deduplicator.remember(context.migration, outcome)
            return outcome
        finally:
            self._deduplicator.finish(context.migration, outcome, self._unfinished(context, outcome))

    async def _claim_or_lock(self, context: DeliveryContext) -> Outcome:
        """Law `single-flight` across replicas: a claim; without claims, or while Redis is away, a lock for a repeat."""
        policy, migration, envelope, now = self._retry_policy, context.migration, context.envelope, self._now()
        if self._claims is not None:
            answer = await self._claims.take(migration, now, envelope)
            if not isinstance(answer, Unavailable):
                return await self._under_claim(context, self._claims, answer)
            if policy.claims_away == "pause":
                if self._claims.is_available:  # the reply about this record alone is of no use
                    return policy.wait(envelope, 0.0, "claimed")
                return Requeued(envelope, "claims")
            if (known := self._from_memory(context, answer)) is not None:
                return known
        is_repeat = context.needs_lookup or envelope.is_known_repeat
        if self._claims is not None and policy.reconcile == "ambiguous":
            context.needs_lookup = True
        if self._locks is None or not is_repeat or policy.reconcile == "off":
            return await self._execute(context)
        return await self._under_claim(context, self._locks, await self._locks.take(migration, now, envelope))

    def _unfinished(self, context: DeliveryContext, outcome: Outcome | None) -> Unfinished:
        now, envelope, fingerprint = self._now(), context.envelope, context.migration.fingerprint
        last_sent_at = envelope.last_sent_at if outcome else now
        waits_until = now + outcome.seconds if isinstance(outcome, RetryLater) else 0.0
        open_to = max(waits_until, now + self._retry_policy.listing_delay_left(last_sent_at, now))
        return Unfinished(fingerprint, last_sent_at, context.created_since, waits_until, envelope.last_error, open_to)

    def _conflicts(self, context: DeliveryContext, known: Unfinished | None) -> bool:
        """Whether the request is certainly another one, which waits in a retry queue."""
        if known is None or known.fingerprint == context.migration.fingerprint:
            return False
        return self._now() < known.waits_until + RETURN_SECONDS

    async def _execute(self, context: DeliveryContext) -> Outcome:
        """Law `poison`: a request whose deliveries ended without a result too often is not executed."""
        if self._retry_policy.is_poison(context.envelope):
            return final_events.failed(context.migration, context.envelope, Reason.POISON, self._now())
        return await self._executor.execute(context)

    async def _under_claim(self, context: DeliveryContext, claims: Claims, answer: ClaimAnswer) -> Outcome:
        """Execute under a claim or a lock (`Unavailable`), or do what its refusal means."""
        match answer:
            case Concluded(completed):
                return self._same_outcome(context, completed)
            case ClaimedElsewhere() as other:
                return self._claimed_elsewhere(context, other)
            case Granted():
                if (known := self._from_memory(context, answer)) is not None:
                    if answer.has_record:  # of a later message, perhaps: what was sent for it must stay known
                        await claims.release(context.migration, answer.last_sent_at, answer.last_error)
                    else:
                        await claims.conclude(context.migration, known)
                    return known
        context.is_claimed = partial(claims.is_claimed, context.migration)
        try:
            outcome = await self._execute(context)
        except BaseException:
            await claims.release(context.migration, self._now(), context.envelope.last_error)
            raise
        if isinstance(outcome, Completed):
            standing = await claims.conclude(context.migration, outcome)
            is_other = standing != outcome and self._is_answered_by(context, standing)
            return replace(standing, is_repeated=True) if is_other else outcome
        await claims.release(context.migration, context.envelope.last_sent_at, context.envelope.last_error)
        return outcome

    def _from_memory(self, context: DeliveryContext, answer: Granted | Unavailable) -> Completed | None:
        """What this replica knows of the request and Redis does not; None: it is executed, with what Redis knows."""
        failure = self._deduplicator.completed(context.migration)
        if isinstance(answer, Unavailable):
            conflicts = self._conflicts(context, self._deduplicator.unfinished(context.migration))
            unknown = final_events.conflicting(context.migration, context.envelope, self._now()) if conflicts else None
            return unknown if failure is None else self._same_outcome(context, failure)
        is_first, last_sent_at = answer.is_first, answer.last_sent_at
        if failure is not None:
            if not failure.parked and (failure.reason != Reason.EXPIRED or last_sent_at is None):
                return self._same_outcome(context, failure)
            # Replayed or dropped since, or expired although another replica had sent a create.
            self._deduplicator.forget(context.migration)
            is_first, last_sent_at = False, last_sent_at or from_text(failure.completed_at)
        context.envelope = context.envelope.sent_at_least(last_sent_at, answer.last_error)
        context.needs_lookup = context.needs_lookup or (not is_first and self._retry_policy.reconcile != "off")
        context.created_since = context.created_since if is_first else 0.0
        return None

    def _claimed_elsewhere(self, context: DeliveryContext, other: ClaimedElsewhere) -> Outcome:
        if other.fingerprint != context.migration.fingerprint:
            return final_events.conflicting(context.migration, context.envelope, self._now())
        now = self._now()
        if other.is_last_send_unknown:
            context.envelope = context.envelope.sent_at_least(now)
        listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, now)
        return self._retry_policy.wait(context.envelope, listing_delay_left, "claimed")

    def _is_answered_by(self, context: DeliveryContext, completed: Completed) -> bool:
        return completed.answers(context.migration, context.envelope)

    def _same_outcome(self, context: DeliveryContext, completed: Completed) -> Completed:
        if completed.fingerprint == context.migration.fingerprint:
            return replace(completed, is_repeated=True)
        return final_events.conflicting(context.migration, context.envelope, self._now())

    def _follow_copy(self, context: DeliveryContext, outcome: Outcome | None) -> Outcome | None:
        """What the outcome of one copy means for another; None: this one continues.

        A create that may have been sent for one copy counts for all copies.
        """
        match outcome:
            case Completed():  # this one had arrived before, by any clock
                is_same = outcome.fingerprint == context.migration.fingerprint
                is_answered = is_same and outcome.answers(context.migration, context.envelope, had_arrived=True)
                return replace(outcome, is_repeated=True) if is_answered else None
            case RetryLater() | Requeued():
                other, why = outcome.envelope, "copy" if isinstance(outcome, RetryLater) else outcome.why
                context.envelope = context.envelope.sent_at_least(other.last_sent_at, other.last_error)
                return replace(outcome, envelope=context.envelope, why=why)
            case _:
                context.envelope = context.envelope.sent_at_least(self._now())
                context.created_since = 0.0
                context.needs_lookup = self._retry_policy.reconcile != "off"
                return None

    def _report(
        self,
        delivery: Delivery,
        migration: MigrationRequest | None,
        envelope: Envelope,
        outcome: Outcome,
        started: float,
    ) -> None:
        (kind, reason), now = label(outcome), self._now()
        self._observer.settled(
            DeliveryFinished(
                outcome=kind,
                reason=reason,
                migration=migration,
                envelope=envelope,
                seconds=time.perf_counter() - started,
                age=max(0.0, now - age_starts_at(delivery.published_at, envelope, now)),
                parked=isinstance(outcome, Completed) and outcome.parked and outcome.must_park(envelope),
                is_repeated=isinstance(outcome, Completed) and outcome.is_repeated,
                trace_id=trace_id(delivery.headers),
                completed=outcome if isinstance(outcome, Completed) else None,
                message_id=delivery.message_id,
                retry_in_seconds=outcome.seconds if isinstance(outcome, RetryLater) else None,
            )
        )
