"""One order, one outcome: look if a task may exist, else create, and turn every ending into an outcome.

Laws: after an ambiguous ending nothing is created before looking (2); only a first delivery may create
without looking (3); look and create share one permit, and absence is believed for some seconds (look-before-create);
nobody creates on stale ground (5); short waits in hand, long ones in the broker (7).
"""

import asyncio
from dataclasses import replace
from functools import partial
from typing import assert_never

from schemas.event import Reason
from schemas.journal import Kind
from worker.pipeline import final_events
from worker.pipeline.delivery_context import DeliveryContext
from worker.pipeline.ports import CallPermit, CallThrottle, Chance, Clock, Dcs, Observer
from worker.policy import error_table
from worker.policy.call_result import (
    CallError,
    CallStatus,
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
from worker.policy.outcome import Completed, DeliveryLost, Outcome, Requeued
from worker.policy.retry_policy import RetryPolicy
from worker.policy.timeline import Call, entered

_OPEN = frozenset((Reason.EXPIRED, Reason.EXHAUSTED, Reason.UNRESOLVED))
"""Failures to which another worker may find another end."""

ABSENCE_SECONDS = 5.0
"""For which a look-up that found nothing is believed, after its last answer."""
LOOKUPS = 2
"""Per delivery that find nothing, before the request is postponed."""
GRACE_SECONDS = 0.1
"""By which the deadline of a look-up is later than that of its first call, which then ends by itself and is counted."""


class Executor:
    """Works one order to an outcome. Holds no state between orders."""

    def __init__(
        self,
        retry_policy: RetryPolicy,
        dcs: Dcs,
        throttle: CallThrottle,
        observer: Observer,
        *,
        now: Clock,
        random_unit: Chance,
    ) -> None:
        self._retry_policy = retry_policy
        self._dcs = dcs
        self._throttle = throttle
        self._observer = observer
        self._now = now
        self._random_unit = random_unit

    async def handle(self, context: DeliveryContext) -> Outcome:
        """Work on the order of `case`, whose envelope is kept up to date under way."""
        outcome = await self._worked(context)
        is_open = isinstance(outcome, Completed) and outcome.reason in _OPEN
        return await self._sure(context, outcome) if is_open else outcome

    async def _sure(self, context: DeliveryContext, outcome: Outcome) -> Outcome:
        """Whoever stood still does not know what others made of the request since: then it is theirs to end."""
        if not await context.ground.is_still_ours():
            return DeliveryLost(context.envelope.last_sent_at)
        if context.claimed_at_start and not context.is_claimed():
            now = self._now()
            context.envelope = replace(context.envelope, last_sent_at=now)
            return self._retry_policy.wait(context.envelope, self._retry_policy.listing_delay_left(now, now), "claimed")
        return outcome

    async def _worked(self, context: DeliveryContext) -> Outcome:
        if self._retry_policy.reconcile == "off" and context.envelope.last_sent_at is not None:
            return self._failed(context, Reason.UNRESOLVED)
        context.is_known = context.needs_lookup
        context.needs_lookup = context.needs_lookup or self._retry_policy.needs_lookup(context.envelope)
        attempt = 1
        while isinstance(step := await self._step(context), CallError):
            if (reason := self._final(context, step)) is not None:
                return self._failed(context, reason, step)
            context.failed = step
            wait = self._retry_policy.wait_in_hand(step, attempt, self._random_unit())
            if wait is None or not await self._throttle.pause(wait):
                return self._later(context, step)
            attempt += 1
        return step

    async def _step(self, context: DeliveryContext) -> Outcome | CallError:
        """One attempt; a second one where a probe shows that others are not refused."""
        try:
            step = await self._try(context)
            while isinstance(step, CallError) and context.suspect is not None:
                await self._throttle.verdict(context.suspect)
                context.passed.add(context.suspect)
                step = await self._try(context)
            return step
        except ThrottleClosedError:
            return Requeued(context.envelope)
        except PostponedError as aside:
            listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, self._now())
            return self._retry_policy.wait(context.envelope, max(aside.seconds, listing_delay_left), aside.why)

    async def _try(self, context: DeliveryContext) -> Outcome | CallError:
        context.claimed_at_start, context.suspect = context.is_claimed(), None
        if self._is_expired(context) and self._was_never_sent(context):
            return self._failed(context, Reason.EXPIRED)
        if not context.claimed_at_start and self._retry_policy.reconcile != "off":
            context.needs_lookup, context.absent_at = True, None
        calls = self._lookup_due(context) + (not self._retry_policy.is_over(context.envelope))
        if not calls:
            return self._failed(context, Reason.EXHAUSTED)
        wanted = self._now()
        async with self._throttle.permit(context.migration, calls, context.passed) as permit:
            step = await self._look_up_then_create(context, permit, wanted)
            context.suspect = permit.suspect
        return step

    async def _look_up_then_create(
        self, context: DeliveryContext, permit: CallPermit, wanted: float
    ) -> Outcome | CallError:
        while True:
            if self._lookup_due(context):
                if context.lookups >= LOOKUPS:
                    return self._looked_enough(context)
                if (step := await self._look(context, permit, wanted)) is not None:
                    return step
            if self._is_expired(context):
                return self._failed(context, Reason.EXPIRED)
            if self._retry_policy.is_over(context.envelope):
                return self._failed(context, Reason.EXHAUSTED)
            step = await self._create(context, permit, wanted)
            is_withdrawn = isinstance(step, CallError) and step.status is CallStatus.STALE
            if not is_withdrawn or not self._lookup_due(context):
                return step

    def _lookup_due(self, context: DeliveryContext) -> bool:
        """Whether nothing may be created before another look-up."""
        age = None if context.absent_at is None else self._now() - context.absent_at
        return context.needs_lookup and (age is None or not 0.0 <= age <= ABSENCE_SECONDS)

    def _looked_enough(self, context: DeliveryContext) -> Outcome:
        """No create could be written soon enough after a look-up: at no cost, unless a call has failed as well."""
        if context.failed is not None:
            return self._later(context, context.failed)
        listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, self._now())
        return self._retry_policy.wait(context.envelope, listing_delay_left, "look")

    def _was_never_sent(self, context: DeliveryContext) -> bool:
        """Certainly no create was ever sent, for this delivery or for any other copy of the request."""
        is_first = not context.envelope.is_repeat and not context.is_known
        return is_first and context.claimed_at_start and context.ambiguous_create is None

    async def _look(self, context: DeliveryContext, permit: CallPermit, wanted: float) -> Outcome | CallError | None:
        """Law 2. None: no task exists, and none is on its way."""
        if not await context.ground.is_still_ours():
            return DeliveryLost(context.envelope.last_sent_at)
        begun = self._now()
        sighting = await self._find(context, permit)
        permit.ended(sighting)
        self._observer.called(context.migration, "find", sighting, context.envelope.attempts)
        self._enter(context, Call(Kind.LOOK, 0, wanted, begun), sighting)
        context.last_call_was_lookup = True
        return self._seen(context, sighting, begun)

    async def _find(self, context: DeliveryContext, permit: CallPermit) -> LookupResult | CallError:
        seconds = self._retry_policy.lookup_timeout
        try:
            async with asyncio.timeout(seconds + GRACE_SECONDS):
                return await self._dcs.find(context.migration, _since(context), permit.begin_call)
        except TimeoutError:
            message = f"the look-up took longer than {seconds:g} s in all"
            return CallError(Evidence.AMBIGUOUS, ErrorKind.RETRY, CallStatus.TIMEOUT, message)

    def _seen(
        self, context: DeliveryContext, sighting: LookupResult | CallError, begun: float
    ) -> Outcome | CallError | None:
        match sighting:
            case CallError():
                return sighting
            case TaskFound():
                done = TaskCreated(sighting.instance_id, dcs_request_id=sighting.dcs_request_id)
                return final_events.succeeded(context.migration, context.envelope, done, "adopted", self._now())
            case SeveralTasks():
                return self._failed(context, Reason.UNRESOLVED, candidates=sighting.candidates)
            case TaskNotFound():
                return self._settled(context, begun)
            case _:
                assert_never(sighting)

    def _settled(self, context: DeliveryContext, begun: float) -> Outcome | None:
        """Only a look that began when all had settled says that nothing is there, however long its answer took."""
        listing_delay_left = self._retry_policy.listing_delay_left(context.envelope.last_sent_at, begun)
        if listing_delay_left > 0 and context.ambiguous_create is not None:
            return self._retry_policy.after(context.ambiguous_create, context.envelope, listing_delay_left, self._now())
        if listing_delay_left > 0:
            return self._retry_policy.wait(context.envelope, listing_delay_left, "settle")
        context.absent_at, context.ambiguous_create = self._now(), None
        context.lookups += 1
        return None

    async def _create(self, context: DeliveryContext, permit: CallPermit, wanted: float) -> Outcome | CallError:
        if not await context.ground.is_still_ours():
            return DeliveryLost(context.envelope.last_sent_at)
        if self._is_expired(context):
            return self._failed(context, Reason.EXPIRED)
        self._throttle.check_open()
        context.envelope = context.envelope.tried()
        begun = self._now()
        permit.begin_call()
        ending = await self._dcs.create(context.migration, partial(self._may_go, context))
        permit.ended(ending)
        self._observer.called(context.migration, "create", ending, context.envelope.attempts)
        wanted = begun if context.last_call_was_lookup else wanted
        self._enter(context, Call(Kind.CREATE, context.envelope.attempts, wanted, begun), ending)
        context.last_call_was_lookup = False
        if isinstance(ending, TaskCreated):
            return final_events.succeeded(context.migration, context.envelope, ending, "created", self._now())
        if ending.is_ambiguous:
            context.ambiguous_create = ending
            context.envelope = replace(context.envelope, last_sent_at=self._now())
            context.needs_lookup, context.absent_at = True, None
        return ending

    def _enter(self, context: DeliveryContext, call: Call, ending: TaskCreated | LookupResult | CallError) -> None:
        journal = entered(context.envelope.journal, call, ending, self._now())
        if journal is not context.envelope.journal:
            context.envelope = replace(context.envelope, journal=journal)

    async def _may_go(self, context: DeliveryContext) -> bool:
        """Laws 4 and 5, the age of the look-up, and the sender's own limit, once more when all is ready to be sent."""
        is_sure = context.is_claimed() or not context.claimed_at_start
        is_allowed = is_sure and await context.ground.is_still_ours() and not self._is_expired(context)
        return is_allowed and not self._lookup_due(context)

    def _final(self, context: DeliveryContext, fault: CallError) -> Reason | None:
        """The reason, if waiting cannot help."""
        if context.last_call_was_lookup:
            return Reason.UNRESOLVED if error_table.final_reason(fault) else None
        if fault.is_ambiguous:
            return Reason.UNRESOLVED if self._retry_policy.reconcile == "off" else None
        return error_table.final_reason(fault)

    def _later(self, context: DeliveryContext, fault: CallError) -> Outcome:
        """No try is left in hand: the schedule's next place, or the end of it."""
        now = self._now()
        listing_delay_left = (
            self._retry_policy.listing_delay_left(context.envelope.last_sent_at, now) if context.needs_lookup else 0.0
        )
        if self._retry_policy.has_retries_left(context.envelope) or self._retry_policy.is_free(
            fault, context.envelope, now
        ):
            return self._retry_policy.after(fault, context.envelope, listing_delay_left, now)
        if context.last_call_was_lookup:
            return self._failed(context, Reason.UNRESOLVED, fault)
        if context.ambiguous_create is not None:
            # The schedule is used up, but whether a task exists is not known before it has settled.
            return self._retry_policy.after(fault, context.envelope, listing_delay_left, now)
        return self._failed(context, Reason.EXHAUSTED, fault)

    def _is_expired(self, context: DeliveryContext) -> bool:
        return context.migration.not_after is not None and self._now() >= context.migration.not_after

    def _failed(
        self, context: DeliveryContext, reason: Reason, fault: CallError | None = None, candidates: tuple[str, ...] = ()
    ) -> Completed:
        fault = fault or context.ambiguous_create
        return final_events.failed(
            context.migration, context.envelope, reason, self._now(), fault=fault, candidates=candidates
        )


def _since(context: DeliveryContext) -> float:
    """Tasks created before this are not the request's; 0 if its first delivery may be long ago."""
    if context.since is not None:
        return context.since
    return context.envelope.first_received_at if context.envelope.is_dated else 0.0
