"""Confirmed publishing, as far as the broker and the faults allow."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Final

from tests.simulation.world.broker import Broker
from tests.simulation.world.records import CURRENT_DELIVERY, DeliveryRecord, Event, copy_of
from tests.simulation.world.replica_context import ReplicaContext
from worker.policy.call_result import UnconfirmedError
from worker.policy.outcome import Completed

REFUSAL_SECONDS: Final = 0.05
PUBLISHER_OUTAGE_SECONDS: Final = 25.0


class Publisher:
    """Confirmed publishing."""

    def __init__(self, replica: ReplicaContext, broker: Broker) -> None:
        self._replica = replica
        self._broker = broker

    async def event(
        self, ending: Completed, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish an event. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()
        instance_id = json.loads(ending.body)["instance_id"] if ending.succeeded else None
        content = (ending.event_id, ending.succeeded, ending.reason, instance_id, ending.parked)

        def effect() -> None:
            self._replica.log("event %s (%s)", "succeeded" if ending.succeeded else "failed", ending.reason)
            self._broker.events.append(Event(record, self._replica.now, *content))

        await self._publish("event", record, effect)

    async def postpone(self, delivery: object, place: int, headers: Mapping[str, object]) -> None:
        """Publish a copy to a retry queue. Raises UnconfirmedError."""
        record = CURRENT_DELIVERY.get()

        def effect() -> None:
            self._replica.log("copy to retry %s, %s", place, _state(headers))
            self._broker.postpone(copy_of(record, headers), place)

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
