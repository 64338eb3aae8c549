"""One order, one outcome: look if a task may exist, else create, and turn every ending into an outcome.

Laws: after an ambiguous ending nothing is created before looking (2); only a first delivery may create
without looking (3); nobody creates on stale ground (5); short waits in hand, long ones in the broker (7).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import assert_never

from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.journal import Kind
from worker.flow import endings
from worker.flow.ports import Chance, Clock, Dcs, Gate, Ground, Observer
from worker.policy import error_table
from worker.policy.chronicle import Call, entered
from worker.policy.fault import Absent, Done, Fault, Found, GateClosedError, Several, Sighting, StepAsideError
from worker.policy.order import Order
from worker.policy.outcome import Abandoned, Ending, HandedBack, Outcome
from worker.policy.rules import Rules

_OPEN = frozenset((Reason.EXPIRED, Reason.EXHAUSTED, Reason.UNRESOLVED))
"""Failures to which another worker may find another end."""


@dataclass(slots=True)
class Case:
    """What is known of an order while one delivery of it is worked on."""

    order: Order
    envelope: Envelope
    ground: Ground
    must_look: bool = False
    """A task may exist: nothing is created before a look-up, and a settle time, say that none does."""
    is_claimed: Callable[[], bool] = lambda: True
    """False once another replica may work on the same request: then every create is preceded by a look-up."""
    is_known: bool = False
    """Another copy of the request was worked on before, here or under a claim."""
    relies_on_claim: bool = True
    """The step under way began under a sure claim: it must not go on without looking once that is lost."""
    since: float | None = None
    """When the request was first known, as far as anybody has told; None: by its envelope."""
    unheard: Fault | None = None
    """The ambiguous create of this delivery, until a look-up settled it."""
    was_looking: bool = False
    """The last fault came from a look-up."""


class Handler:
    """Works one order to an outcome. Holds no state between orders."""

    def __init__(self, rules: Rules, dcs: Dcs, gate: Gate, observer: Observer, *, now: Clock, chance: Chance) -> None:
        self._rules = rules
        self._dcs = dcs
        self._gate = gate
        self._observer = observer
        self._now = now
        self._chance = chance

    async def handle(self, case: Case) -> Outcome:
        """Work on the order of `case`, whose envelope is kept up to date under way."""
        outcome = await self._worked(case)
        is_open = isinstance(outcome, Ending) and outcome.reason in _OPEN
        return await self._sure(case, outcome) if is_open else outcome

    async def _sure(self, case: Case, outcome: Outcome) -> Outcome:
        """Whoever stood still does not know what others made of the request since: then it is theirs to end."""
        if not await case.ground.is_firm():
            return Abandoned(case.envelope.last_sent_at)
        if case.relies_on_claim and not case.is_claimed():
            now = self._now()
            case.envelope = replace(case.envelope, last_sent_at=now)
            return self._rules.wait(case.envelope, self._rules.owed(now, now), "claimed")
        return outcome

    async def _worked(self, case: Case) -> Outcome:
        if self._rules.reconcile == "off" and case.envelope.last_sent_at is not None:
            return self._failed(case, Reason.UNRESOLVED)
        case.is_known = case.must_look
        case.must_look = case.must_look or self._rules.must_look(case.envelope)
        attempt = 1
        step = await self._step(case)
        while isinstance(step, Fault):
            if (reason := self._final(case, step)) is not None:
                return self._failed(case, reason, step)
            wait = self._rules.wait_in_hand(step, attempt, self._chance())
            if wait is None or not await self._gate.pause(wait):
                return self._later(case, step)
            attempt += 1
            step = await self._step(case)
        return step

    async def _step(self, case: Case) -> Outcome | Fault:
        try:
            return await self._try(case)
        except GateClosedError:
            return HandedBack(case.envelope)
        except StepAsideError as aside:
            owed = self._rules.owed(case.envelope.last_sent_at, self._now())
            return self._rules.wait(case.envelope, max(aside.seconds, owed), aside.why)

    async def _try(self, case: Case) -> Outcome | Fault:
        case.relies_on_claim = case.is_claimed()
        if self._is_expired(case) and self._was_never_sent(case):
            return self._failed(case, Reason.EXPIRED)
        if not case.relies_on_claim and self._rules.reconcile != "off":
            case.must_look = True
        if case.must_look and (step := await self._look(case)) is not None:
            return step
        if self._is_expired(case):
            return self._failed(case, Reason.EXPIRED)
        if self._rules.is_over(case.envelope):
            return self._failed(case, Reason.EXHAUSTED)
        return await self._create(case)

    def _was_never_sent(self, case: Case) -> bool:
        """Certainly no create was ever sent, for this delivery or for any other copy of the request."""
        is_first = not case.envelope.is_repeat and not case.is_known
        return is_first and case.relies_on_claim and case.unheard is None

    async def _look(self, case: Case) -> Outcome | Fault | None:
        """Law 2. None: no task exists, and none is on its way."""
        wanted = self._now()
        async with self._gate.permit(case.order) as permit:
            if not await case.ground.is_firm():
                return Abandoned(case.envelope.last_sent_at)
            begun = self._now()
            sighting = await self._dcs.find(case.order, _since(case))
            permit.ended(sighting)
        self._observer.called(case.order, "find", sighting, case.envelope.attempts)
        self._enter(case, Call(Kind.LOOK, 0, wanted, begun), sighting)
        case.was_looking = True
        return self._seen(case, sighting, begun)

    def _seen(self, case: Case, sighting: Sighting | Fault, begun: float) -> Outcome | Fault | None:
        match sighting:
            case Fault():
                return sighting
            case Found():
                done = Done(sighting.instance_id, dcs_request_id=sighting.dcs_request_id)
                return endings.succeeded(case.order, case.envelope, done, "adopted", self._now())
            case Several():
                return self._failed(case, Reason.UNRESOLVED, candidates=sighting.candidates)
            case Absent():
                return self._settled(case, begun)
            case _:
                assert_never(sighting)

    def _settled(self, case: Case, begun: float) -> Outcome | None:
        """Only a look that began when all had settled says that nothing is there, however long its answer took."""
        owed = self._rules.owed(case.envelope.last_sent_at, begun)
        if owed > 0 and case.unheard is not None:
            return self._rules.after(case.unheard, case.envelope, owed, self._now())
        if owed > 0:
            return self._rules.wait(case.envelope, owed, "settle")
        case.must_look, case.unheard = False, None
        return None

    async def _create(self, case: Case) -> Outcome | Fault:
        wanted = self._now()
        async with self._gate.permit(case.order) as permit:
            if not await case.ground.is_firm():
                return Abandoned(case.envelope.last_sent_at)
            if self._is_expired(case):
                return self._failed(case, Reason.EXPIRED)
            case.envelope = case.envelope.tried()
            begun = self._now()
            ending = await self._dcs.create(case.order, partial(self._may_go, case))
            permit.ended(ending)
        self._observer.called(case.order, "create", ending, case.envelope.attempts)
        self._enter(case, Call(Kind.CREATE, case.envelope.attempts, wanted, begun), ending)
        case.was_looking = False
        if isinstance(ending, Done):
            return endings.succeeded(case.order, case.envelope, ending, "created", self._now())
        if ending.is_ambiguous:
            case.unheard = ending
            case.envelope = replace(case.envelope, last_sent_at=self._now())
            case.must_look = True
        return ending

    def _enter(self, case: Case, call: Call, ending: Done | Sighting | Fault) -> None:
        journal = entered(case.envelope.journal, call, ending, self._now())
        if journal is not case.envelope.journal:
            case.envelope = replace(case.envelope, journal=journal)

    async def _may_go(self, case: Case) -> bool:
        """Laws 4 and 5, and the sender's own limit, asked once more when everything is ready to be sent."""
        is_sure = case.is_claimed() or not case.relies_on_claim
        return is_sure and await case.ground.is_firm() and not self._is_expired(case)

    def _final(self, case: Case, fault: Fault) -> Reason | None:
        """The reason, if waiting cannot help."""
        if case.was_looking:
            return Reason.UNRESOLVED if error_table.final_reason(fault) else None
        if fault.is_ambiguous:
            return Reason.UNRESOLVED if self._rules.reconcile == "off" else None
        return error_table.final_reason(fault)

    def _later(self, case: Case, fault: Fault) -> Outcome:
        """No try is left in hand: the schedule's next place, or the end of it."""
        now = self._now()
        owed = self._rules.owed(case.envelope.last_sent_at, now) if case.must_look else 0.0
        if self._rules.may_spend(case.envelope) or self._rules.is_free(fault, case.envelope, now):
            return self._rules.after(fault, case.envelope, owed, now)
        if case.was_looking:
            return self._failed(case, Reason.UNRESOLVED, fault)
        if case.unheard is not None:
            # The schedule is used up, but whether a task exists is not known before it has settled.
            return self._rules.after(fault, case.envelope, owed, now)
        return self._failed(case, Reason.EXHAUSTED, fault)

    def _is_expired(self, case: Case) -> bool:
        return case.order.not_after is not None and self._now() >= case.order.not_after

    def _failed(
        self, case: Case, reason: Reason, fault: Fault | None = None, candidates: tuple[str, ...] = ()
    ) -> Ending:
        fault = fault or case.unheard
        return endings.failed(case.order, case.envelope, reason, self._now(), fault=fault, candidates=candidates)


def _since(case: Case) -> float:
    """Tasks created before this are not the request's; 0 if its first delivery may be long ago."""
    if case.since is not None:
        return case.since
    return case.envelope.first_received_at if case.envelope.is_dated else 0.0
