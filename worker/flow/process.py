"""One delivery, one straight line: envelope, parse, handle, settle."""

import asyncio
import time
from collections.abc import Container
from dataclasses import dataclass, replace
from functools import partial

from schemas.envelope import Envelope
from schemas.event import Reason
from schemas.request import InvalidRequestError, Sender, Violation, parse
from worker.flow import endings
from worker.flow.copies import Copies, Unfinished, is_outdated
from worker.flow.handle import Case, Handler
from worker.flow.ports import Claims, Clock, Delivery, Observer
from worker.flow.settle import Settler
from worker.policy.claim import Concluded, Granted, Held
from worker.policy.facts import Settled, trace_id
from worker.policy.order import Order, order
from worker.policy.outcome import Abandoned, Ending, HandedBack, Outcome, Postponed
from worker.policy.rules import Rules


@dataclass(frozen=True, slots=True)
class Reading:
    """How a message body is read."""

    max_bytes: int
    regions: Container[str]
    default_region: str
    with_marker: bool = True

    def read(self, body: bytes) -> Order:
        """The order in `body`. Raises InvalidRequestError."""
        request = parse(body, max_bytes=self.max_bytes)
        found = order(request, default_region=self.default_region, with_marker=self.with_marker)
        if found.region not in self.regions:
            sender = Sender(found.request_id, found.project_id, found.region, found.task.name)
            violation = Violation(field="region", message="is not one of the worker's regions")
            raise InvalidRequestError((violation,), sender, is_addressed=True)
        return found


class Process:
    """What happens to a delivery, from received to acknowledged."""

    def __init__(
        self,
        reading: Reading,
        rules: Rules,
        copies: Copies,
        claims: Claims | None,
        handler: Handler,
        settler: Settler,
        observer: Observer,
        *,
        now: Clock,
    ) -> None:
        self._reading = reading
        self._rules = rules
        self._copies = copies
        self._claims = claims
        self.locks: Claims | None = None
        """For repeats, where there are no claims."""
        self._handler = handler
        self._settler = settler
        self._observer = observer
        self._now = now

    async def run(self, delivery: Delivery) -> None:
        """Work on `delivery` until it is settled, or left to the broker because its channel is gone."""
        started = time.perf_counter()
        self._observer.received(redelivered=delivery.redelivered)
        envelope = self._envelope(delivery)
        outcome: Outcome
        try:
            case = Case(self._reading.read(delivery.body), envelope, delivery)
        except InvalidRequestError as error:
            outcome = endings.invalid(error, envelope, delivery.body, self._now())
            order, given_id = None, error.sender.request_id
        else:
            outcome = await self._decide(case)
            order, envelope = case.order, case.envelope
            given_id = order.request_id if order.is_named else None
        is_settled = await self._settler.settle(delivery, given_id, envelope, outcome)
        self._say(delivery, order, envelope, outcome if is_settled else Abandoned(None), started)

    def is_suspect(self, delivery: Delivery) -> bool:
        """Law 9: whether the delivery must be worked on with nothing else in hand."""
        return (delivery.redelivered or bool(delivery.headers)) and self._rules.is_suspect(self._envelope(delivery))

    async def put_off(self, delivery: Delivery, why: str) -> None:
        """Let a delivery wait in the broker; it spends nothing."""
        envelope = self._envelope(delivery)
        self._observer.received(redelivered=delivery.redelivered)
        started = time.perf_counter()
        outcome = self._rules.wait(envelope, 0.0, why)
        is_settled = await self._settler.settle(delivery, None, envelope, outcome)
        self._say(delivery, None, envelope, outcome if is_settled else Abandoned(None), started)

    def _envelope(self, delivery: Delivery) -> Envelope:
        return Envelope.read(delivery.headers, redelivered=delivery.redelivered, now=self._now())

    async def _decide(self, case: Case) -> Outcome:
        """Law 4: a copy of a request that is known or being worked on is answered with its outcome."""
        while True:
            ending = self._copies.ending(case.order, case.envelope)
            if ending is not None:
                return self._same(case, ending)
            flight = self._copies.flight(case.order)
            if flight is None:
                return await self._fly(case)
            outcome = await asyncio.shield(flight.landed)
            if flight.fingerprint != case.order.fingerprint:
                continue  # which of the two is the request is known only when the other has landed
            if (followed := self._follow(case, outcome)) is not None:
                return followed

    async def _fly(self, case: Case) -> Outcome:
        known = self._copies.unfinished(case.order)
        if known is not None:
            if known.fingerprint != case.order.fingerprint:
                return endings.conflicting(case.order, case.envelope, self._now())
            case.must_look = self._rules.reconcile != "off"
            case.since = min(known.first_received_at, case.envelope.first_received_at)
            case.envelope = _later(case.envelope, known.last_sent_at)
        outcome: Outcome | None = None
        self._copies.take_off(case.order)
        try:
            claims = self._claims or self._locks_of(case)
            outcome = await (self._claimed(case, claims) if claims else self._worked(case))
            if isinstance(outcome, Ending) and outcome.fingerprint == case.order.fingerprint:
                self._copies.remember(case.order, outcome)
            return outcome
        finally:
            self._copies.land(case.order, outcome, self._unfinished(case, outcome))

    def _locks_of(self, case: Case) -> Claims | None:
        is_repeat = case.must_look or case.envelope.is_repeat
        return self.locks if is_repeat and self._rules.reconcile != "off" else None

    def _unfinished(self, case: Case, outcome: Outcome | None) -> Unfinished:
        last_sent_at = case.envelope.last_sent_at if outcome else self._now()
        first = case.since if case.since is not None else case.envelope.first_received_at
        return Unfinished(case.order.fingerprint, last_sent_at, first if case.envelope.is_dated else 0.0)

    async def _worked(self, case: Case) -> Outcome:
        """Law 9: a request that took so many workers down is not worked on, unless its ending is known."""
        if self._rules.is_poison(case.envelope):
            return endings.failed(case.order, case.envelope, Reason.POISON, self._now())
        return await self._handler.handle(case)

    async def _claimed(self, case: Case, claims: Claims) -> Outcome:
        """Law 4 across replicas: work on the request only under a claim, or look before every create."""
        match await claims.take(case.order, self._now(), case.envelope.replays):
            case Concluded(ending) if not is_outdated(ending, case.envelope):
                return self._same(case, ending)
            case Held() as held:
                return self._held_elsewhere(case, held)
            case Granted(is_first, last_sent_at):
                case.envelope = _later(case.envelope, last_sent_at)
                case.must_look = case.must_look or (not is_first and self._rules.reconcile != "off")
                case.since = case.since if is_first else 0.0
            case _:
                pass  # away, or an ending that an operator's replay has outdated: looked for as a repeat
        case.is_claimed = partial(claims.is_held, case.order)
        try:
            outcome = await self._worked(case)
        except BaseException:
            await claims.release(case.order, self._now())
            raise
        if isinstance(outcome, Ending):
            return await claims.conclude(case.order, outcome)
        await claims.release(case.order, case.envelope.last_sent_at)
        return outcome

    def _held_elsewhere(self, case: Case, held: Held) -> Outcome:
        now = self._now()
        if held.fingerprint != case.order.fingerprint:
            return endings.conflicting(case.order, case.envelope, now)
        if held.is_forgetful:
            case.envelope = _later(case.envelope, now)
        return self._rules.wait(case.envelope, self._rules.owed(case.envelope.last_sent_at, now), "claimed")

    def _same(self, case: Case, ending: Ending) -> Ending:
        if ending.fingerprint == case.order.fingerprint:
            return ending
        return endings.conflicting(case.order, case.envelope, self._now())

    def _follow(self, case: Case, outcome: Outcome | None) -> Outcome | None:
        """What the outcome of one copy means for another; None: this one works on.

        What may have been sent for one copy may have been sent for all.
        """
        match outcome:
            case Ending():
                return None  # it is remembered by now, or an operator has sent the request again since
            case Postponed():
                case.envelope = _later(case.envelope, outcome.envelope.last_sent_at)
                return replace(outcome, envelope=case.envelope, why="copy")
            case HandedBack():
                case.envelope = _later(case.envelope, outcome.envelope.last_sent_at)
                return HandedBack(case.envelope)
            case _:
                case.envelope = _later(case.envelope, self._now())
                case.since = 0.0
                case.must_look = self._rules.reconcile != "off"
                return None

    def _say(
        self, delivery: Delivery, order: Order | None, envelope: Envelope, outcome: Outcome, started: float
    ) -> None:
        kind, reason, parked = _label(outcome)
        self._observer.settled(
            Settled(
                outcome=kind,
                reason=reason,
                order=order,
                envelope=envelope,
                seconds=time.perf_counter() - started,
                age=max(0.0, self._now() - envelope.first_received_at),
                parked=parked,
                trace_id=trace_id(delivery.headers),
            )
        )


def _later(envelope: Envelope, last_sent_at: float | None) -> Envelope:
    if last_sent_at is None:
        return envelope
    return replace(envelope, last_sent_at=max(last_sent_at, envelope.last_sent_at or last_sent_at))


def _label(outcome: Outcome) -> tuple[str, str, bool]:
    match outcome:
        case Ending():
            return ("succeeded" if outcome.succeeded else "failed", outcome.reason, outcome.parked)
        case Postponed():
            return ("retried", outcome.why, False)
        case HandedBack():
            return ("returned", "drain", False)
        case _:
            return ("returned", "stale", False)
