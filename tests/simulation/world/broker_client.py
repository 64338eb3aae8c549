"""Access of a replica to the simulated broker: deliveries, publisher, locks."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

from schemas import names
from schemas.timestamp import from_text
from tests.simulation.world.broker import Broker, Channel
from tests.simulation.world.records import CURRENT_DELIVERY, DeliveryRecord, Event, LastEvent, WatchStart, copy_of
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.call_result import StaleDeliveryError, UnconfirmedError
from worker.policy.follow_up import ProvisioningEvent
from worker.policy.migration_request import Key
from worker.policy.outcome import Completed


class Delivery:
    """A delivery, as the worker sees it."""

    message_id = content_encoding = correlation_id = reply_to = published_at = None
    properties: Any = None

    def __init__(self, replica: ReplicaContext, broker: Broker, channel: Channel, record: DeliveryRecord) -> None:
        self.record = record
        self.body = record.message.body
        self.headers = broker.headers(record.message)
        self.exchange = "" if record.message.parent else names.REQUEST_EXCHANGE
        self.redelivered = record.message.failures > 0
        self._replica = replica
        self._broker = broker
        self._channel = channel

    def is_lost(self) -> bool:
        """Whether the replica knows that the channel is lost."""
        return self._channel.is_known_lost

    async def is_still_ours(self) -> bool:
        """Whether the channel is open; after a freeze the broker is asked."""
        channel, replica = self._channel, self._replica
        while not channel.is_known_lost and channel.freezes_checked != (freezes := replica.freezes):
            await replica.point("channel-check.before")
            is_open = channel.is_open
            await replica.point("channel-check.after")
            channel.freezes_checked = freezes
            if not is_open:
                channel.notice_loss()
        return not channel.is_known_lost

    def release_body(self) -> None:
        """Nothing: every body is small."""

    async def ack(self) -> None:
        """Acknowledge; without effect if the channel was closed unnoticed. Raises StaleDeliveryError."""
        await self._settle("ack", self._broker.ack)
        self.record.has_acked = True

    async def dead_letter(self) -> None:
        """Never asked for: every copy can be made here."""
        raise AssertionError

    async def reject(self) -> None:
        """Return the message to the queue. Raises StaleDeliveryError."""
        await self._settle("reject", self._broker.reject)

    async def _settle(self, kind: str, effect: Callable[[Channel, DeliveryRecord], None]) -> None:
        if self.is_lost():
            raise StaleDeliveryError
        if kind == "ack" and self.record.confirmed.isdisjoint(("event", "copy", "watch")):
            self._replica.report_violation("acknowledged before an event or a copy was confirmed")
        if await self._replica.point(f"{kind}.before") == "ack-lost":
            self._replica.lose_channel()
        self._replica.log("%s%s", kind, "" if self._channel.is_open else " (lost)")
        if self.record in self._channel.unacked:
            effect(self._channel, self.record)
        elif self._channel.is_open:
            self._replica.report_violation("settled a delivery twice")
        await self._replica.point(f"{kind}.after")


REFUSAL_SECONDS: Final = 0.05
PUBLISHER_OUTAGE_SECONDS: Final = 25.0


class Publisher:
    """Publisher with confirms, as far as the broker and the faults allow."""

    def __init__(self, replica: ReplicaContext, broker: Broker) -> None:
        self._replica = replica
        self._broker = broker

    async def event(
        self,
        completed: Completed | ProvisioningEvent,
        *,
        correlation_id: str | None,
        reply_to: str | None,
        trace: Mapping[str, object],
    ) -> None:
        """Publish an event. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()
        body = json.loads(completed.body)
        if isinstance(completed, ProvisioningEvent):
            result = body.get("reason") or "provisioned"
            seconds = (from_text(completed.completed_at) or 0.0) - (from_text(body["succeeded_at"]) or 0.0)
            last_event = (completed.event_id, body["instance_id"], result, seconds)

            def end() -> None:
                self._replica.log("event: %s %s", body["instance_id"], result)
                self._broker.last_events.append(LastEvent(record, self._replica.now, *last_event))

            await self._publish("event", record, end)
            return
        instance_id = body["instance_id"] if completed.succeeded else None
        content = (completed.event_id, completed.succeeded, completed.reason, instance_id, completed.parked)
        error = body.get("error") or {}
        what = (
            (instance_id,) if completed.succeeded else (completed.reason, error.get("status"), error.get("error_code"))
        )
        clock_offset = self._replica.epoch_now() - self._replica.now
        decided_at = (from_text(completed.completed_at) or 0.0) - clock_offset
        meaning = (body["project_id"], body["request_id"], completed.succeeded, *what)

        def effect() -> None:
            self._replica.log("event %s (%s)", "succeeded" if completed.succeeded else "failed", completed.reason)
            self._broker.events.append(
                Event(record, self._replica.now, *content, meaning, completed.is_repeated, decided_at)
            )

        record.is_answered_from_memory = completed.is_repeated
        await self._publish("event", record, effect)

    async def watch(
        self, body: bytes, checks: int, headers: Mapping[str, object], *, correlation_id: str | None
    ) -> None:
        """Publish a watch to a follow-up queue. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()
        task_id = str(headers[names.TASK_ID])
        is_start = record.message.checks is None
        if is_start and "event" not in record.confirmed:
            self._replica.report_violation("a watch begins before the success event is confirmed")

        def effect() -> None:
            self._replica.log("watch of %s after %s looks", task_id, checks)
            self._broker.watch(replace(copy_of(record, headers), body=body), checks)
            if is_start:
                self._broker.watch_starts.append(WatchStart(record, self._replica.now, task_id))

        await self._publish("watch", record, effect)

    async def publish_to_retry_queue(self, delivery: object, retry_level: int, headers: Mapping[str, object]) -> None:
        """Publish a copy to a retry queue. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()

        def effect() -> None:
            self._replica.log("copy to retry %s, %s", retry_level, _state(headers))
            self._broker.postpone(copy_of(record, headers), retry_level)

        await self._publish("copy", record, effect)

    async def park(self, delivery: object, headers: Mapping[str, object]) -> None:
        """Publish a copy to the parked queue. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()

        def effect() -> None:
            self._replica.log("copy to parked")
            self._broker.parked.append(copy_of(record, headers))

        await self._publish("park", record, effect)

    async def hand_back(self, delivery: object, headers: Mapping[str, object]) -> None:
        """Publish a copy to the requests queue. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()

        def effect() -> None:
            self._replica.log("copy to requests, %s", _state(headers))
            self._broker.enqueue(copy_of(record, headers))

        await self._publish("copy", record, effect)

    async def _publish(self, kind: str, record: DeliveryRecord, effect: Callable[[], None]) -> None:
        replica = self._replica
        fault = await replica.point(f"{kind}.before")
        if fault == "publisher-away":
            replica.publisher_unavailable_until = replica.now + PUBLISHER_OUTAGE_SECONDS
        if fault == "nack" or replica.now < max(replica.publisher_unavailable_until, self._broker.unavailable_until):
            await asyncio.sleep(REFUSAL_SECONDS)
            raise UnconfirmedError("refused")
        effect()
        if fault == "published-twice":
            effect()
        if await replica.point(f"{kind}.after") == "confirm-lost":
            raise UnconfirmedError("no confirm")
        record.confirmed.add(kind)


def _state(headers: Mapping[str, object]) -> str:
    shown = {name.removeprefix("x-"): value for name, value in headers.items() if name.startswith("x-")}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value and name not in ("death", "journal"))


class ReplicaLocks:
    """Locks in the broker: each ends with its channel. A lock that cannot be checked counts as taken."""

    def __init__(self, replica: ReplicaContext, broker: Broker, channel: Callable[[], Channel]) -> None:
        self._replica = replica
        self._broker = broker
        self._channel = channel

    async def take(self, key: Key) -> bool:
        """Take a lock. False if another replica has it."""
        await self._replica.point("lock.before")
        channel = self._channel()
        is_ours = channel.is_open and self._broker.locks.setdefault(key, channel) is channel
        self._replica.log("lock: %s", "taken" if is_ours else "refused")
        await self._replica.point("lock.after")
        return is_ours

    async def free(self, key: Key) -> None:
        """Free a lock."""
        await self._replica.point("unlock.before")
        if self._broker.locks.get(key) is self._channel():
            del self._broker.locks[key]
        await self._replica.point("unlock.after")
