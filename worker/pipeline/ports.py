"""Ports of the pipeline: what it needs from the rooms around it, as protocols."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

from schemas.envelope import Envelope
from schemas.last_error import LastError
from worker.policy.call_result import CallError, CallResult, LookupResult, TaskCreated
from worker.policy.delivery_report import DeliveryFinished
from worker.policy.follow_up import LastWord, ProvisioningEvent, Watch
from worker.policy.migration_request import Key, MigrationRequest
from worker.policy.outcome import ClaimAnswer, Completed
from worker.policy.throttle.hold import Hold

Clock = Callable[[], float]
"""Epoch seconds."""
Chance = Callable[[], float]
"""Uniform in [0, 1)."""
Sleep = Callable[[float], Awaitable[object]]
"""Waits for a number of seconds."""


class DeliveryOwnership(Protocol):
    """Whether a delivery is still ours, as far as its channel knows."""

    def is_lost(self) -> bool:
        """True once the channel was closed: the delivery can never be acknowledged."""

    async def is_still_ours(self) -> bool:
        """Whether the broker still counts the delivery as ours; it is asked if it was silent."""


class Delivery(DeliveryOwnership, Protocol):
    """One delivered message."""

    @property
    def body(self) -> bytes:
        """The message body."""

    @property
    def headers(self) -> Mapping[str, object]:
        """Message headers; empty if there are none."""

    @property
    def exchange(self) -> str:
        """Exchange that the message was published to; empty for a copy of a worker, which goes straight to a queue."""

    @property
    def redelivered(self) -> bool:
        """The broker's redelivered flag."""

    @property
    def message_id(self) -> str | None:
        """AMQP message-id."""

    @property
    def content_encoding(self) -> str | None:
        """AMQP content-encoding."""

    @property
    def correlation_id(self) -> str | None:
        """AMQP correlation-id."""

    @property
    def reply_to(self) -> str | None:
        """AMQP reply-to."""

    @property
    def published_at(self) -> float | None:
        """AMQP timestamp, in epoch seconds."""

    @property
    def properties(self) -> Any:
        """AMQP properties, for a copy; opaque here."""

    def release_body(self) -> None:
        """The body was refused: it is read no more, and a large one may leave the memory."""

    async def ack(self) -> None:
        """Acknowledge. Raises StaleDeliveryError if the channel was closed, or the delivery was settled before."""

    async def dead_letter(self) -> None:
        """Let the broker put it into the parked queue. Raises StaleDeliveryError as `ack` does."""

    async def reject(self) -> None:
        """Return to the queue, counted as a failed delivery. Raises StaleDeliveryError as `ack` does."""


class Publisher(Protocol):
    """Confirmed publishing. Every method raises UnconfirmedError when the broker does not confirm in time.

    Those that make a copy raise UncopyableError when the broker closes the connection for it.
    """

    async def event(
        self,
        completed: Completed | ProvisioningEvent,
        *,
        correlation_id: str | None,
        reply_to: str | None,
        trace: Mapping[str, object],
    ) -> None:
        """Publish the event to the events exchange, and to `reply_to` if given."""

    async def watch(
        self, body: bytes, checks: int, headers: Mapping[str, object], *, correlation_id: str | None
    ) -> None:
        """Put a watch into the queue in which it waits for the look after `checks` looks."""

    async def publish_to_retry_queue(self, delivery: Delivery, retry_level: int, headers: Mapping[str, object]) -> None:
        """Put a copy to the retry queue of `retry_level` (1 is the first)."""

    async def park(self, delivery: Delivery, headers: Mapping[str, object]) -> None:
        """Put a copy into the parked queue."""

    async def hand_back(self, delivery: Delivery, headers: Mapping[str, object]) -> None:
        """Put a copy at the end of the requests queue."""


class Dcs(Protocol):
    """DCS. Results are values: no method raises for what the service or the network does."""

    async def create(
        self, migration: MigrationRequest, is_still_allowed: Callable[[], Awaitable[bool]]
    ) -> TaskCreated | CallError:
        """Create the task. `is_still_allowed` is asked right before the request is sent."""

    async def find(
        self,
        migration: MigrationRequest,
        since: float,
        on_call: Callable[[], None],
        *,
        may_exist: bool,
        was_sent: bool,
    ) -> LookupResult | CallError:
        """Look for a task of the request, which was first known at `since`. `on_call` is called for each call.

        `may_exist`: a create may have been sent, so that more than the tasks of its name are looked through.
        `was_sent`: one was called for this very message, so that a task whose marker was cut off may be its.
        """

    async def probe(self, project_id: str, region: str) -> LookupResult | CallError:
        """Make a list call that belongs to no request; what it finds does not matter."""


class Claims(Protocol):
    """Claims and outcomes that the replicas share. No method raises: a Redis that does not answer is `Unavailable`."""

    async def take(self, migration: MigrationRequest, now: float, envelope: Envelope) -> ClaimAnswer:
        """Claim the request; a granted claim is renewed until it is concluded or released.

        An outcome that does not answer a delivery with this envelope is replaced by the claim.
        """

    def is_claimed(self, migration: MigrationRequest) -> bool:
        """Whether the granted claim is certainly still ours."""

    async def conclude(self, migration: MigrationRequest, completed: Completed) -> Completed:
        """Store the outcome for every replica, and release the claim.

        Returns the outcome that counts: another one if the request ended before, which a frozen replica may not know.
        """

    async def release(
        self, migration: MigrationRequest, last_sent_at: float | None, last_error: LastError | None = None
    ) -> None:
        """Release the claim, and store when a create may last have been in flight, and its conflict."""


class SharedClaims(Claims, Protocol):
    """Claims that can be away."""

    @property
    def is_available(self) -> bool:
        """Whether Redis can be asked."""


OnCreated = Mapping[str, Callable[[MigrationRequest, TaskCreated], None]]
"""By region: receives a task that this process created. It does not wait, and raises nothing."""


class CallOwner(Protocol):
    """What calls are made for: a request, or the watch of a created task."""

    @property
    def project_id(self) -> str:
        """Project of the calls."""

    @property
    def region(self) -> str:
        """Region of the calls."""

    @property
    def key(self) -> Key:
        """Identity: failures of different owners tell of an outage."""


class CallPermit(Protocol):
    """Permit for the calls of one attempt, look-up and create."""

    @property
    def checked_hold(self) -> Hold | None:
        """The hold that a refusal started: to be checked by `CallThrottle.wait_for_probe`."""

    def begin_call(self) -> None:
        """A call begins."""

    def spacing(self) -> float:
        """Seconds between look-up and create."""

    def ended(self, result: CallResult) -> None:
        """A call, or a look-up of several calls, ended."""


class CallThrottle(Protocol):
    """Throttle: when calls may begin, and how many at once."""

    def permit(
        self, migration: CallOwner, calls: int, ended_holds: Collection[Hold] = (), *, is_spare: bool = False
    ) -> AbstractAsyncContextManager[CallPermit]:
        """Wait for a permit for so many calls. Raises PostponedError, or ThrottleClosedError once it drains.

        `is_spare`: do not wait; raise PostponedError while a request waits or the project is throttled.
        """

    def check_open(self) -> None:
        """Raise ThrottleClosedError once this replica drains: no further call may begin."""

    async def wait_for_probe(self, hold: Hold) -> None:
        """Wait for the probe of what refused a call. Raises PostponedError if the probe is refused as well."""

    async def wait_unless_closed(self, seconds: float) -> bool:
        """Wait between two attempts; False if this replica drains."""

    def close(self) -> None:
        """Let no further call begin."""


class Observer(Protocol):
    """Receives facts after they happened."""

    def received(self, *, redelivered: bool) -> None:
        """A delivery came in."""

    def called(self, migration: MigrationRequest, operation: str, result: CallResult, attempt: int) -> None:
        """A call of DCS for this request ended (`create` or `find`)."""

    def settled(self, fact: DeliveryFinished) -> None:
        """A delivery has ended."""

    def followed_up(self, watch: Watch, word: LastWord, now: float) -> None:
        """A watch has ended."""

    def note(self, level: Any, event: str, **fields: Any) -> None:
        """Log anything else."""

    def failed(self, error: Exception) -> None:
        """A delivery met a defect of this worker; it returns to the queue if it was not settled before."""

    def unconfirmed(self, reason: str) -> None:
        """A publish was not confirmed and will be repeated."""


class ThrottleObserver(Protocol):
    """Receives what the throttle decides."""

    def limited(self, limit: int) -> None:
        """The number of calls at once is limited to this from now on."""

    def breaker(self, region: str, state: int) -> None:
        """The breaker of a region is closed (0), half-open (1) or open (2) from now on."""

    def note(self, level: Any, event: str, **fields: Any) -> None:
        """Log anything else."""


CLAIMS_AWAY = "Redis is away"
"""Reason for which consumption pauses (`WORKER_CLAIMS_AWAY=pause`)."""


class ConsumerControl(Protocol):
    """Control of the consumer."""

    async def pause_and_wait(self, why: str) -> None:
        """Take no further deliveries until `resume` is called for the same reason."""

    def resume(self, why: str) -> None:
        """Remove one reason to take no deliveries."""

    async def stop(self) -> None:
        """Take no further deliveries; those handed over can still be acknowledged."""
