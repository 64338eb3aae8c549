"""Executor: looks for the task of one request, creates it, and turns every result into an outcome.

Laws `look-before-create` (look-up and create share one permit, absence is believed for some seconds), `first-delivery`,
`stale-delivery` and `two-waits`. One delivery makes up to `WORKER_TRIES` attempts:
- an attempt looks if a task may exist, and creates if there is none;
- an error after which waiting helps: wait in hand and try again, or wait in the broker;
- an error after which it does not: the request fails;
- an ambiguous create: look at once; without a task wait for the listing delay, look again, then create.
Long on purpose: the steps of one attempt are read together.
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import assert_never

from schemas.event import Reason
from schemas.journal import Kind
from schemas.last_error import LastError
from worker.pipeline import final_events
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.ports import CallPermit, CallThrottle, Chance, Clock, Dcs, Observer, OnCreated
from worker.policy import error_table
from worker.policy.call_result import (
    CallError,
    CallResult,
    CallStatus,
    ConflictingTask,
    ErrorKind,
    Evidence,
    LookupResult,
    PostponedError,
    SeveralTasks,
    TaskCreated,
    TaskFound,
    TaskNotFound,
    ThrottleClosedError,
)
from worker.policy.delivery_report import Call, with_call
from worker.policy.outcome import Completed, DeliveryLost, Outcome, Requeued
from worker.policy.retry_policy import RetryPolicy

_NOT_FINAL = frozenset((Reason.EXPIRED, Reason.EXHAUSTED, Reason.UNRESOLVED))
"""Failures for which another replica may have another outcome."""

ABSENCE_SECONDS = 5.0
"""How long a look-up that found nothing is believed, after its last answer."""
LOOKUPS = 2
"""Look-ups of one delivery that find nothing, before the request is postponed."""
GRACE_SECONDS = 0.1
"""The deadline of a look-up is later than that of its first call, so that this call ends by itself and is counted."""


class Executor:
    """Works on one request until it has an outcome. Keeps no state between requests."""

    def __init__(
        self,
        retry_policy: RetryPolicy,
        dcs: Dcs,
        throttle: CallThrottle,
        observer: Observer,
        on_created: OnCreated,
        *,
        now: Clock,
        random_unit: Chance,
    ) -> None:
        self._retry_policy = retry_policy
        self._dcs = dcs
        self._throttle = throttle
        self._observer = observer
        self._on_created = on_created
        self._now = now
        self._random_unit = random_unit

    async def execute(self, context: DeliveryContext) -> Outcome:
        """Work on the request of `context`, and keep its envelope up to date."""
        outcome = await self._run_attempts(context)
        if not isinstance(outcome, Completed) or outcome.succeeded:
            return outcome
        is_final = outcome.reason not in _NOT_FINAL and not context.last_call_was_lookup
        return outcome if is_final else await self._failure_if_still_ours(context, outcome)

    async def _failure_if_still_ours(self, context: DeliveryContext, outcome: Outcome) -> Outcome:
        """The failure, if it is still ours to publish: after a freeze others may have done more with the request."""
        if not await context.delivery.is_still_ours():
            return DeliveryLost(context.envelope.last_sent_at)
        if context.claimed_at_start and not context.is_claimed():
            now = self._now()
            context.envelope = replace(context.envelope, last_sent_at=now)
            return self._retry_policy.wait(context.envelope, self._retry_policy.listing_delay_left(now, now), "claimed")
        return outcome

    async def _run_attempts(self, context: DeliveryContext) -> Outcome:
        if self._retry_policy.reconcile == "off" and context.envelope.last_sent_at is not None:
            return self._failed(context, Reason.UNRESOLVED)
        context.is_known = context.needs_lookup
        context.needs_lookup = context.needs_lookup or self._retry_policy.needs_lookup(context.envelope)
        attempt = 1
        while isinstance(step := await self._attempt(context), CallError):
            if (reason := self._terminal_reason(context, step)) is not None:
                return self._failed(context, reason, step)
            context.failed = step
            is_new_conflict = error_table.is_conflict(step) and not context.last_call_was_lookup
            wait = 0.0 if is_new_conflict else self._retry_policy.wait_in_hand(step, attempt, self._random_unit())
            if wait is None or not await self._throttle.wait_unless_closed(wait):
                return self._schedule_retry(context, step)
            attempt += 1
        return step

    async def _attempt(self, context: DeliveryContext) -> Outcome | CallError:
        """One attempt, and another one if a probe shows that the refusal concerns this request only."""
        try:
            step = await self._attempt_once(context)
            while isinstance(step, CallError) and context.checked_hold is not None:
                await self._throttle.wait_for_probe(context.checked_hold)
                context.ended_holds.add(context.checked_hold)
                step = await self._attempt_once(context)
            return step
        except ThrottleClosedError as closed:
            return Requeued(context.envelope, closed.why)
        except PostponedError as postponed:
            listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, self._now())
            return self._retry_policy.wait(context.envelope, max(postponed.seconds, listing_delay_left), postponed.why)

    async def _attempt_once(self, context: DeliveryContext) -> Outcome | CallError:
        context.claimed_at_start, context.checked_hold = context.is_claimed(), None
        if self._must_pause(context):
            return Requeued(context.envelope, "claims")
        if self._is_expired(context) and self._was_never_sent(context):
            return self._failed(context, Reason.EXPIRED)
        if not context.claimed_at_start and self._retry_policy.reconcile != "off":
            context.needs_lookup, context.absent_at = True, None
        may_create, asked_at = not self._retry_policy.retries_exhausted(context.envelope), self._now()
        calls = self._lookup_due(context) + may_create
        if not calls:
            return self._failed(context, Reason.EXHAUSTED)
        if context.absent_at is not None and calls == may_create:
            calls = 0  # its look-up was granted with a create, which must follow while absence is believed
        async with self._throttle.permit(context.migration, calls, context.ended_holds) as permit:
            step = await self._look_up_then_create(context, permit, asked_at)
            context.checked_hold = permit.checked_hold
        return step

    async def _look_up_then_create(
        self, context: DeliveryContext, permit: CallPermit, asked_at: float
    ) -> Outcome | CallError:
        while True:
            if self._lookup_due(context):
                if context.lookups >= LOOKUPS:
                    return self._postpone_after_lookups(context)
                if (step := await self._look_up(context, permit, asked_at)) is not None:
                    return step
            if self._is_expired(context):
                return self._failed(context, Reason.EXPIRED)
            if self._retry_policy.retries_exhausted(context.envelope):
                return self._failed(context, Reason.EXHAUSTED)
            step = await self._create(context, permit, asked_at)
            is_withdrawn = isinstance(step, CallError) and step.status is CallStatus.STALE
            if not is_withdrawn or not self._lookup_due(context):
                return step

    def _lookup_due(self, context: DeliveryContext) -> bool:
        """Whether nothing may be created before another look-up."""
        age = None if context.absent_at is None else self._now() - context.absent_at
        return context.needs_lookup and (age is None or not 0.0 <= age <= ABSENCE_SECONDS)

    def _postpone_after_lookups(self, context: DeliveryContext) -> Outcome:
        """No create was sent soon enough after a look-up: wait at no cost, unless a call has failed as well."""
        if context.failed is not None:
            return self._schedule_retry(context, context.failed)
        listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, self._now())
        return self._retry_policy.wait(context.envelope, listing_delay_left, "look")

    def _was_never_sent(self, context: DeliveryContext) -> bool:
        """Whether it is certain that no create was sent, for this delivery or another copy of the request."""
        is_first = not context.envelope.is_known_repeat and not context.is_known
        return is_first and context.claimed_at_start and context.ambiguous_create is None

    def _may_have_been_sent(self, context: DeliveryContext) -> bool:
        """Whether a create may have been sent, as far as is known: not for a request that has only waited."""
        return context.envelope.last_sent_at is not None or not context.claimed_at_start

    async def _look_up(
        self, context: DeliveryContext, permit: CallPermit, asked_at: float
    ) -> Outcome | CallError | None:
        """Law `look-before-create`. None: no task exists, and none can still become listed."""
        if not await context.delivery.is_still_ours():
            return DeliveryLost(context.envelope.last_sent_at)
        started_at = self._now()
        found = await self._find_task(context, permit)
        permit.ended(found)
        self._observer.called(context.migration, "find", found, context.envelope.attempts)
        self._record_call(context, Call(Kind.LOOKUP, 0, asked_at, started_at), found)
        context.last_call_was_lookup = True
        step = self._on_lookup(context, found, started_at)
        if step is None and (spacing := permit.spacing()):
            await self._throttle.wait_unless_closed(spacing)
        return step

    async def _find_task(self, context: DeliveryContext, permit: CallPermit) -> LookupResult | CallError:
        seconds, may_exist = self._retry_policy.lookup_timeout, context.envelope.last_sent_at is not None
        was_sent = context.ambiguous_create is not None or context.envelope.was_sent
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                return await self._dcs.find(
                    context.migration,
                    context.created_since,
                    permit.begin_call,
                    may_exist=may_exist,
                    was_sent=was_sent,
                )
        except TimeoutError:
            message = f"the look-up took longer than {seconds:g} s in all"
            return CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT, message)

    def _on_lookup(
        self, context: DeliveryContext, found: LookupResult | CallError, started_at: float
    ) -> Outcome | CallError | None:
        match found:
            case CallError():
                return found
            case TaskFound():
                done = TaskCreated(found.instance_id, None, found.dcs_request_id, found.task_status)
                return final_events.succeeded(context.migration, context.envelope, done, "adopted", self._now())
            case SeveralTasks():
                return self._failed(context, Reason.UNRESOLVED, candidates=found.candidates)
            case ConflictingTask():
                return final_events.conflicting(context.migration, context.envelope, self._now())
            case TaskNotFound():
                return self._check_listing_delay(context, started_at)
            case _:
                assert_never(found)

    def _check_listing_delay(self, context: DeliveryContext, started_at: float) -> Outcome | CallError | None:
        """Absence counts only if the look-up started after the listing delay, however long its answer took."""
        listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, started_at)
        conflict, envelope = context.envelope.conflict, context.envelope
        if listing_delay_left > 0 and conflict is None and context.ambiguous_create is not None:
            return self._retry_policy.after(context.ambiguous_create, envelope, listing_delay_left, self._now())
        if listing_delay_left > 0:
            return self._retry_policy.wait(envelope, listing_delay_left, "settle")
        if conflict is not None:
            return self._failed(context, Reason.REJECTED)
        context.absent_at, context.ambiguous_create = self._now(), None
        context.lookups += 1
        return None

    async def _create(self, context: DeliveryContext, permit: CallPermit, asked_at: float) -> Outcome | CallError:
        if not await context.delivery.is_still_ours():
            return DeliveryLost(context.envelope.last_sent_at)
        if self._must_pause(context):
            return Requeued(context.envelope, "claims")
        if self._is_expired(context):
            return self._failed(context, Reason.EXPIRED)
        self._throttle.check_open()
        context.envelope = context.envelope.tried()
        started_at = self._now()
        permit.begin_call()
        result = await self._dcs.create(context.migration, partial(self._is_still_allowed, context))
        permit.ended(result)
        self._observer.called(context.migration, "create", result, context.envelope.attempts)
        asked_at = started_at if context.last_call_was_lookup else asked_at
        self._record_call(context, Call(Kind.CREATE, context.envelope.attempts, asked_at, started_at), result)
        context.last_call_was_lookup = False
        if isinstance(result, TaskCreated):
            if (on_created := self._on_created.get(context.migration.region)) is not None:
                on_created(context.migration, result)
            return final_events.succeeded(context.migration, context.envelope, result, "created", self._now())
        if result.is_ambiguous:
            context.ambiguous_create = result
            is_conflict = error_table.is_conflict(result)
            last_error = LastError.of(result, is_conflict=is_conflict)
            context.envelope = replace(context.envelope, last_sent_at=self._now(), last_error=last_error)
            context.needs_lookup, context.absent_at = True, None
            if is_conflict:
                context.lookups = 0  # look at once
        return result

    def _record_call(self, context: DeliveryContext, call: Call, result: CallResult) -> None:
        journal = with_call(context.envelope.journal, call, result, self._now())
        if journal is not context.envelope.journal:
            context.envelope = replace(context.envelope, journal=journal)

    async def _is_still_allowed(self, context: DeliveryContext) -> bool:
        """Claim, delivery, age of the look-up and `not_after`, checked again when the request is ready to be sent."""
        is_sure = context.is_claimed() or not context.claimed_at_start
        is_allowed = is_sure and await context.delivery.is_still_ours() and not self._is_expired(context)
        return is_allowed and not self._lookup_due(context)

    def _terminal_reason(self, context: DeliveryContext, error: CallError) -> Reason | None:
        """The reason of the failure, if waiting cannot help."""
        reason = error_table.final_reason(error)
        if context.last_call_was_lookup:
            return reason if reason is None or not self._may_have_been_sent(context) else Reason.UNRESOLVED
        if error.is_ambiguous:
            return Reason.UNRESOLVED if self._retry_policy.reconcile == "off" else None
        return reason

    def _must_pause(self, context: DeliveryContext) -> bool:
        """Whether no create may begin because the claim is not certain (`WORKER_CLAIMS_AWAY=pause`)."""
        return self._retry_policy.claims_away == "pause" and not context.is_claimed()

    def _schedule_retry(self, context: DeliveryContext, error: CallError) -> Outcome:
        """No attempt is left in hand: the next retry level, or the end of the schedule."""
        policy, envelope, now = self._retry_policy, context.envelope, self._now()
        listing_delay_left = policy.listing_delay_left(envelope.last_sent_at, now) if context.needs_lookup else 0.0
        if policy.has_retries_left(envelope) or policy.costs_nothing(error, envelope, now):
            return policy.after(error, envelope, listing_delay_left, now)
        if context.last_call_was_lookup and self._may_have_been_sent(context):
            return self._failed(context, Reason.UNRESOLVED, error)
        if context.ambiguous_create is not None:
            # The schedule is used up, but whether a task exists is not known before the listing delay is over.
            return policy.after(error, envelope, listing_delay_left, now)
        return self._failed(context, Reason.EXHAUSTED, error)

    def _is_expired(self, context: DeliveryContext) -> bool:
        return context.migration.not_after is not None and self._now() >= context.migration.not_after

    def _failed(
        self, context: DeliveryContext, reason: Reason, error: CallError | None = None, candidates: tuple[str, ...] = ()
    ) -> Completed:
        if error is not None:
            context.envelope = context.envelope.failed_with(LastError.of(error))
        is_lookup = reason is Reason.FORBIDDEN and context.last_call_was_lookup
        said = final_events.MAY_NOT_LIST.get(self._retry_policy.reconcile) if is_lookup else None
        migration, envelope, now = context.migration, context.envelope, self._now()
        known = error or envelope.last_error
        return final_events.failed(migration, envelope, reason, now, error=known, candidates=candidates, said=said)
