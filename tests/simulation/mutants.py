"""Parts of the worker with one law switched off each."""

from contextlib import suppress
from dataclasses import replace
from typing import Any
from uuid import uuid4

from schemas import names
from schemas.envelope import Envelope
from schemas.event import Reason
from worker.flow.copies import Copies, Flight
from worker.flow.handle import Case, Handler
from worker.flow.process import Process
from worker.flow.settle import Settler
from worker.policy.fault import Fault, Found, Several, Sighting, UnconfirmedError
from worker.policy.order import Order
from worker.policy.outcome import Ending, HandedBack, Outcome, Postponed
from worker.policy.rules import Rules


class Credulous(Settler):
    """Takes every publish for confirmed."""

    async def _confirmed(self, delivery: Any, publish: Any, **_: Any) -> bool:
        with suppress(UnconfirmedError):
            await publish()
        return True


class Hasty(Settler):
    """Acknowledges a postponed request before its copy is confirmed."""

    async def settle(self, delivery: Any, given_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, Postponed):
            await delivery.ack()
        return await super().settle(delivery, given_id, envelope, outcome)


class Dropping(Settler):
    """Hands nothing back when it drains."""

    async def settle(self, delivery: Any, given_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, HandedBack):
            await delivery.ack()
            return True
        return await super().settle(delivery, given_id, envelope, outcome)


class Forgetful(Settler):
    """Leaves the time of the last create out of a copy."""

    async def settle(self, delivery: Any, given_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, Postponed | HandedBack):
            outcome = replace(outcome, envelope=replace(outcome.envelope, last_sent_at=None))
        return await super().settle(delivery, given_id, envelope, outcome)


class Inventive(Settler):
    """Gives every event an id of its own."""

    async def settle(self, delivery: Any, given_id: str | None, envelope: Envelope, outcome: Outcome) -> bool:
        """The law switched off."""
        if isinstance(outcome, Ending):
            outcome = replace(outcome, event_id=str(uuid4()))
        return await super().settle(delivery, given_id, envelope, outcome)


class Blind(Handler):
    """Does not look after an ambiguous ending."""

    async def _create(self, case: Case) -> Outcome | Fault:
        ending = await super()._create(case)
        case.must_look, case.unheard = False, None
        return ending


class Impatient(Handler):
    """Counts the settle time from the beginning of a call."""

    async def _create(self, case: Case) -> Outcome | Fault:
        before, begun = case.envelope.last_sent_at, self._now()
        ending = await super()._create(case)
        if case.envelope.last_sent_at != before:
            case.envelope = replace(case.envelope, last_sent_at=begun)
        return ending


class Guessing(Handler):
    """Adopts the first of several candidates."""

    def _seen(self, case: Case, sighting: Sighting | Fault, begun: float) -> Outcome | Fault | None:
        seen = Found(sighting.candidates[0]) if isinstance(sighting, Several) else sighting
        return super()._seen(case, seen, begun)


class Resigned(Handler):
    """Gives up whatever is ambiguous."""

    def _final(self, case: Case, fault: Fault) -> Reason | None:
        """The law switched off."""
        return Reason.UNRESOLVED if fault.is_ambiguous else super()._final(case, fault)


class Altered:
    """A delivery, some of which looks different."""

    def __init__(self, delivery: Any) -> None:
        self._delivery = delivery

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)


class AlwaysFirst(Altered):
    """A redelivery that looks like a first delivery."""

    redelivered = False

    @property
    def headers(self) -> dict[str, object]:
        """The law switched off."""
        return {name: value for name, value in self._delivery.headers.items() if name != names.DELIVERY_COUNT}


class AlwaysFirm(Altered):
    """A delivery whose ground seems firm for ever."""

    async def is_firm(self) -> bool:
        """The law switched off."""
        return True


class Unmarked(Process):
    """Takes a redelivery for a first delivery."""

    async def run(self, delivery: Any) -> None:
        """The law switched off."""
        await super().run(AlwaysFirst(delivery))


class Sleepwalking(Process):
    """Never asks whether its delivery is still its own."""

    async def run(self, delivery: Any) -> None:
        """The law switched off."""
        await super().run(AlwaysFirm(delivery))


class Scattered(Copies):
    """Lets every copy fly by itself."""

    def flight(self, order: Order) -> None:
        """The law switched off."""

    def unfinished(self, order: Order) -> None:
        """The law switched off."""

    def take_off(self, order: Order) -> Flight:
        """The law switched off."""
        self._flights.pop(order.key, None)
        return super().take_off(order)

    def land(self, order: Order, *rest: Any) -> None:
        """The law switched off."""
        if order.key in self._flights:
            super().land(order, *rest)


class Amnesiac(Copies):
    """Remembers no ending."""

    def remember(self, order: Order, ending: Ending) -> None:
        """Forget it."""


class Restless(Rules):
    """Owes no settle time."""

    def owed(self, last_sent_at: float | None, now: float) -> float:
        """The law switched off."""
        return 0.0


class Trusting(Rules):
    """Looks only if the headers say that a create was sent."""

    def must_look(self, envelope: Envelope) -> bool:
        """The law switched off."""
        return envelope.last_sent_at is not None


class Tireless(Rules):
    """Knows no poison."""

    def is_poison(self, *_: Any, **__: Any) -> bool:
        """The law switched off."""
        return False


class Condemning(Rules):
    """Takes the first interruption for poison."""

    def is_poison(self, envelope: Envelope) -> bool:
        """The law switched off."""
        return envelope.interruptions > 0


class Spendthrift(Rules):
    """Never has a place of the schedule left."""

    def may_spend(self, envelope: Envelope) -> bool:
        """The law switched off."""
        return False


class Silent(Altered):
    """Claims that are told of no ending."""

    async def conclude(self, order: Order, ending: Ending) -> Ending:
        """The law switched off."""
        await self._delivery.release(order, None)
        return ending
