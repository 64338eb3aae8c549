"""Confirmed publishing, as far as the broker and the faults allow."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Final

from tests.simulation.world.broker import Broker
from tests.simulation.world.records import HANDED, Event, Handed, copied
from tests.simulation.world.stage import Stage
from worker.policy.call_result import UnconfirmedError
from worker.policy.outcome import Completed

FAILS_AFTER: Final = 0.05
AWAY: Final = 25.0


class Publisher:
    """Confirmed publishing."""

    def __init__(self, stage: Stage, broker: Broker) -> None:
        self._stage = stage
        self._broker = broker

    async def event(
        self, ending: Completed, *, correlation_id: str | None, reply_to: str | None, trace: Mapping[str, object]
    ) -> None:
        """Publish an event. Raises UnconfirmedError."""
        by = HANDED.get()
        instance_id = json.loads(ending.body)["instance_id"] if ending.succeeded else None
        record = (ending.event_id, ending.succeeded, ending.reason, instance_id, ending.parked)

        def effect() -> None:
            self._stage.say("event %s (%s)", "succeeded" if ending.succeeded else "failed", ending.reason)
            self._broker.events.append(Event(by, self._stage.now, *record))

        await self._publish("event", by, effect)

    async def postpone(self, delivery: object, place: int, headers: Mapping[str, object]) -> None:
        """Publish a copy to a retry queue. Raises UnconfirmedError."""
        by = HANDED.get()

        def effect() -> None:
            self._stage.say("copy to retry %s, %s", place, _state(headers))
            self._broker.postpone(copied(by, headers), place)

        await self._publish("copy", by, effect)

    async def park(self, delivery: object, headers: Mapping[str, object]) -> None:
        """Publish a copy to the parked queue. Raises UnconfirmedError."""
        by = HANDED.get()

        def effect() -> None:
            self._stage.say("copy to parked")
            self._broker.parked.append(copied(by, headers))

        await self._publish("park", by, effect)

    async def hand_back(self, delivery: object, headers: Mapping[str, object]) -> None:
        """Publish a copy to the requests queue. Raises UnconfirmedError."""
        by = HANDED.get()

        def effect() -> None:
            self._stage.say("copy to requests, %s", _state(headers))
            self._broker.put(copied(by, headers))

        await self._publish("copy", by, effect)

    async def _publish(self, kind: str, by: Handed, effect: Callable[[], None]) -> None:
        stage = self._stage
        fault = await stage.point(f"{kind}.before")
        if fault == "away":
            stage.publisher_away_until = stage.now + AWAY
        if fault == "nack" or stage.now < max(stage.publisher_away_until, self._broker.away_until):
            await asyncio.sleep(FAILS_AFTER)
            raise UnconfirmedError("refused")
        effect()
        if fault == "twice":
            effect()
        if await stage.point(f"{kind}.after") == "unheard":
            raise UnconfirmedError("no confirm")
        by.confirmed.add(kind)


def _state(headers: Mapping[str, object]) -> str:
    shown = {name.removeprefix("x-"): value for name, value in headers.items() if name.startswith("x-")}
    return ", ".join(f"{name} {value}" for name, value in shown.items() if value and name not in ("death", "journal"))
