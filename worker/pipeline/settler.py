"""Settler: the only code that publishes an outcome and acknowledges a delivery.

Law `confirm-then-ack`: publish, wait for the confirm, then acknowledge. An unconfirmed publish is repeated while the
delivery is ours; after that the broker delivers the request again.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, assert_never

from schemas import names
from schemas.envelope import Envelope
from schemas.event import MigrationSucceeded, Reason
from schemas.journal import Kind
from schemas.timestamp import to_text
from worker.pipeline.ports import Chance, Clock, Delivery, Observer, Publisher, Sleep
from worker.policy import backoff, follow_up
from worker.policy.call_result import StaleDeliveryError, UnconfirmedError, UncopyableError
from worker.policy.outcome import Completed, DeliveryLost, Outcome, Requeued, RetryLater

PUBLISH_ATTEMPTS_AFTER_LOSS = 5
"""How often a final event is published whose delivery is lost."""
TRACE_HEADER_LIMIT_CHARACTERS = 512
"""Longest trace header that is passed on (https://www.w3.org/TR/trace-context/#tracestate-limits)."""

Publish = Callable[[], Awaitable[None]]


class Settler:
    """Carries outcomes out at the broker."""

    def __init__(
        self,
        publisher: Publisher,
        observer: Observer,
        *,
        now: Clock,
        random_unit: Chance,
        sleep: Sleep,
        with_follow_up: bool = False,
    ) -> None:
        self._publisher = publisher
        self._observer = observer
        self._now = now
        self._random_unit = random_unit
        self._sleep = sleep
        self._with_follow_up = with_follow_up

    async def settle(
        self, delivery: Delivery, sender_request_id: str | None, envelope: Envelope, outcome: Outcome
    ) -> bool:
        """Publish what `outcome` asks for, then acknowledge. False: left to the broker.

        `sender_request_id`: the request id that the sender wrote into the body. Raises UncopyableError for an outcome
        that is no event; what must be parked and cannot be copied is dead-lettered after its event.
        """
        if isinstance(outcome, DeliveryLost):
            return False
        is_final_everywhere = _is_final_everywhere(outcome)
        acknowledge = delivery.ack
        for publish in self._publishes(delivery, sender_request_id, envelope, outcome):
            try:
                if not await self._confirmed(delivery, publish, is_final_everywhere=is_final_everywhere):
                    return False
            except UncopyableError as error:
                if not isinstance(outcome, Completed):
                    raise
                self._observer.unconfirmed(str(error))
                acknowledge = delivery.dead_letter
        try:
            await acknowledge()
        except StaleDeliveryError:
            return False
        return True

    async def publish_then_ack(self, delivery: Delivery, publish: Publish) -> bool:
        """Publish until it is confirmed, then acknowledge. False: left to the broker."""
        if not await self._confirmed(delivery, publish, is_final_everywhere=False):
            return False
        try:
            await delivery.ack()
        except StaleDeliveryError:
            return False
        return True

    async def _confirmed(self, delivery: Delivery, publish: Publish, *, is_final_everywhere: bool) -> bool:
        """Publish until it is confirmed, or the delivery is lost.

        What is final for every replica is published even then: the message may be lost with its queue, so that no
        other delivery would publish the event. If it is delivered again, the same event only comes twice.
        """
        failures = 0
        while not delivery.is_lost() or (is_final_everywhere and failures < PUBLISH_ATTEMPTS_AFTER_LOSS):
            try:
                await publish()
            except UnconfirmedError as error:
                failures += 1
                self._observer.unconfirmed(str(error))
                await self._sleep(backoff.reconnect(failures, self._random_unit()))
            else:
                return True
        return False

    def _publishes(
        self,
        delivery: Delivery,
        sender_request_id: str | None,
        envelope: Envelope,
        outcome: Completed | RetryLater | Requeued,
    ) -> Iterator[Publish]:
        match outcome:
            case Completed():
                if outcome.parked and outcome.must_park(envelope):
                    yield partial(self._park, delivery, envelope, outcome)
                yield partial(self._event, delivery, sender_request_id, outcome)
                if self._with_follow_up and outcome.must_watch(envelope):
                    yield partial(self._watch, delivery, sender_request_id, outcome)
            case RetryLater():
                headers = self._headers_with_journal(
                    delivery, outcome.envelope, Kind.WAIT, outcome.why, n=outcome.retry_level, took=outcome.seconds
                )
                yield partial(self._publisher.publish_to_retry_queue, delivery, outcome.retry_level, headers)
            case Requeued():
                headers = self._headers_with_journal(delivery, outcome.envelope, Kind.RETURNED)
                yield partial(self._publisher.hand_back, delivery, headers)
            case _:
                assert_never(outcome)

    async def _park(self, delivery: Delivery, envelope: Envelope, completed: Completed) -> None:
        headers = self._headers_with_journal(
            delivery, envelope, Kind.PARKED, completed.reason, code=completed.error_code
        )
        headers = {name: value for name, value in headers.items() if name != names.PARKED_ERROR_CODE}
        headers[names.PARKED_REASON] = completed.reason
        headers[names.PARKED_AT] = to_text(self._now())
        if completed.error_code:
            headers[names.PARKED_ERROR_CODE] = completed.error_code
        await self._publisher.park(delivery, headers)

    def _headers_with_journal(
        self, delivery: Delivery, envelope: Envelope, did: Kind, got: str = "", **more: Any
    ) -> dict[str, object]:
        """Headers of a copy; the last entry of its journal is what happens now."""
        journal = envelope.journal.add(self._now(), did, got, **more)
        return replace(envelope, journal=journal).write(delivery.headers)

    async def _event(self, delivery: Delivery, sender_request_id: str | None, completed: Completed) -> None:
        await self._publisher.event(
            completed,
            correlation_id=_correlation_id(delivery, sender_request_id),
            reply_to=delivery.reply_to,
            trace=trace_headers(delivery.headers),
        )

    async def _watch(self, delivery: Delivery, sender_request_id: str | None, completed: Completed) -> None:
        """Start the watch of the created task: it waits for its first look."""
        success = MigrationSucceeded.model_validate_json(completed.body)
        headers = follow_up.headers(success, 0) | trace_headers(delivery.headers)
        correlation_id = _correlation_id(delivery, sender_request_id)
        await self._publisher.watch(completed.body, 0, headers, correlation_id=correlation_id)


def _correlation_id(delivery: Delivery, sender_request_id: str | None) -> str | None:
    return delivery.correlation_id or sender_request_id or delivery.message_id


def trace_headers(headers: Mapping[str, object]) -> dict[str, object]:
    """Trace headers of the request that are usable. A bad one is dropped: it must not stop the event."""
    found = {name: headers.get(name) for name in (names.TRACEPARENT, names.TRACESTATE)}
    return {
        name: value
        for name, value in found.items()
        if isinstance(value, str) and len(value) <= TRACE_HEADER_LIMIT_CHARACTERS
    }


def _is_final_everywhere(outcome: Outcome) -> bool:
    """Whether every replica would come to the same outcome."""
    return isinstance(outcome, Completed) and (outcome.succeeded or outcome.reason in FINAL_EVERYWHERE)


FINAL_EVERYWHERE = (Reason.REJECTED, Reason.INVALID_REQUEST)
