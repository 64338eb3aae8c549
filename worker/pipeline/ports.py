"""What the flow needs from the rooms around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from worker.policy.call_result import CallError, LookupResult, TaskCreated
from worker.policy.claim import ClaimAnswer
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.migration_request import MigrationRequest
from worker.policy.outcome import Completed
from worker.policy.throttle.hold import Hold

Clock = Callable[[], float]
"""Epoch seconds."""
Chance = Callable[[], float]
"""Uniform in [0, 1)."""


Sleep = Callable[[float], Awaitable[object]]
"""Wait for so many seconds."""


class DeliveryOwnership(Protocol):
    """What a delivery stands on: the channel that it came by."""

    def is_lost(self) -> bool:
        """True once the channel is gone: the delivery can never be acknowledged."""
        ...

    async def is_still_ours(self) -> bool:
        """Whether the broker still counts the delivery as ours, asked of the broker if it was silent."""
        ...


class Delivery(DeliveryOwnership, Protocol):
    """One message as it was delivered."""

    @property
    def body(self) -> bytes:
        """The message body."""
        ...

    @property
    def headers(self) -> Mapping[str, object]:
        """Message headers; empty if there are none."""
        ...

    @property
    def redelivered(self) -> bool:
        """The broker's redelivered flag."""
        ...

    @property
    def message_id(self) -> str | None:
        """AMQP message-id."""
        ...

    @property
    def correlation_id(self) -> str | None:
        """AMQP correlation-id."""
        ...

    @property
    def reply_to(self) -> str | None:
        """AMQP reply-to."""
        ...

    @property
    def properties(self) -> Any:
        """What a copy is made of; opaque here."""
        ...

    async def ack(self) -> None:
        """Acknowledge. Raises StaleDeliveryError when the channel is gone."""
        ...

    async def reject(self) -> None:
        """Return to the queue, counted as a failed delivery. Raises StaleDeliveryError."""
        ...


class Publisher(Protocol):
    """Confirmed publishing. Every method raises UnconfirmedError when the broker does not confirm in time."""

    async def event(
        self, ending: Completed, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish the event to the events exchange, and to `reply_to` if given."""
        ...

    async def postpone(self, delivery: Delivery, place: int, headers: Mapping[str, object]) -> None:
        """Put a copy into the retry queue of `place`."""
        ...

    async def park(self, delivery: Delivery, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue."""
        ...

    async def hand_back(self, delivery: Delivery, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue."""
        ...


class Dcs(Protocol):
    """The service. Endings are values: no method raises for anything that the service or the net does."""

    async def create(
        self, migration: MigrationRequest, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> TaskCreated | CallError:
        """Create the task. `may_go` is asked when all is ready, right before the request is sent."""
        ...

    async def find(
        self, migration: MigrationRequest, since: float, on_call: Callable[[], None]
    ) -> LookupResult | CallError:
        """Look for a task of the order that was created at `since` or later. `on_call` is called for each call."""
        ...

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        """Make a list call for no request; what it finds does not matter."""
        ...


class Claims(Protocol):
    """Claims and outcomes shared by the replicas. Nothing raises: what is away is `Unavailable`."""

    async def take(self, migration: MigrationRequest, now: float, replays: int = 0) -> ClaimAnswer:
        """Ask for the request; a granted claim is renewed until it is concluded or released.

        A failure that an operator's replay has outdated is no answer.
        """
        ...

    def is_held(self, migration: MigrationRequest) -> bool:
        """Whether the granted claim is still surely ours."""
        ...

    async def conclude(self, migration: MigrationRequest, ending: Completed) -> Completed:
        """Store how the request ended, for every replica, and give the claim up.

        The ending that stands: another one, where the request was over before, which whoever stood still may not know.
        """
        ...

    async def release(self, migration: MigrationRequest, last_sent_at: float | None) -> None:
        """Give the claim up, and say when a create may last have been in flight."""
        ...


class CallPermit(Protocol):
    """Permit for the calls of one attempt, look and create."""

    @property
    def suspect(self) -> Hold | None:
        """What refused a call, perhaps for every request: to be checked by `CallThrottle.verdict`."""
        ...

    def begin_call(self) -> None:
        """A call begins."""
        ...

    def ended(self, result: TaskCreated | LookupResult | CallError) -> None:
        """A call, or a look of several calls, ended."""
        ...


class CallThrottle(Protocol):
    """Says when calls may begin, and how many at once."""

    def permit(
        self, migration: MigrationRequest, calls: int, passed: Collection[Hold] = ()
    ) -> AbstractAsyncContextManager[CallPermit]:
        """Wait for a permit for so many calls. Raises PostponedError, or ThrottleClosedError once it drains."""
        ...

    def check_open(self) -> None:
        """Raise ThrottleClosedError once this replica drains: no further call may begin."""
        ...

    async def verdict(self, hold: Hold) -> None:
        """Wait for the probe of what refused a call. Raises PostponedError if the probe is refused as well."""
        ...

    async def pause(self, seconds: float) -> bool:
        """Wait between two tries; False if this replica began to drain meanwhile."""
        ...

    def close(self) -> None:
        """Let no further call begin."""
        ...


class Observer(Protocol):
    """Is told facts, after they are true; is never asked."""

    def received(self, *, redelivered: bool) -> None:
        """A delivery came in."""
        ...

    def called(
        self, migration: MigrationRequest, operation: str, ending: TaskCreated | LookupResult | CallError, attempt: int
    ) -> None:
        """A call of the service for this order ended (`create` or `find`)."""
        ...

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery is over."""
        ...

    def failed(self, error: Exception) -> None:
        """A delivery met a defect of this worker and was returned to the queue."""
        ...

    def unconfirmed(self, reason: str) -> None:
        """A publish was not confirmed and will be tried again."""
        ...


class ThrottleObserver(Protocol):
    """Is told why calls go as they do."""

    def limited(self, limit: int) -> None:
        """So many calls of the service may be made at once from now on."""
        ...

    def breaker(self, region: str, state: int) -> None:
        """The breaker of a region is closed (0), half-open (1) or open (2) from now on."""
        ...

    def note(self, level: Any, event: str, **fields: Any) -> None:
        """Anything else that is worth a line."""
        ...


class ConsumerControl(Protocol):
    """What hands deliveries over, until it is stopped."""

    async def hold(self, why: str) -> None:
        """Take no further deliveries until `resume` is called for the same reason."""
        ...

    def resume(self, why: str) -> None:
        """One reason to hold is gone."""
        ...

    async def stop(self) -> None:
        """Take no further deliveries; those handed over can still be acknowledged."""
        ...
