"""The service: takes deliveries in, and drains.

Law 10, draining is ordering: unready, stop consuming, let calls finish, settle them, hand back what has
not begun. Deliveries are worked on in tasks owned here, so that losing the broker never cancels a call.
"""

import asyncio
from typing import Protocol

from worker.pipeline.gate import OpenGate
from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import Delivery, Observer
from worker.policy.call_result import StaleDeliveryError

ISOLATION_WAIT_SECONDS = 120.0
"""Seconds that a suspect waits at most until nothing else is in hand."""
DEFECT_PAUSE_SECONDS = 1.0
"""Seconds before a delivery that met a defect returns to the queue."""


class ConsumerControl(Protocol):
    """What hands deliveries over, and can be told to stop."""

    async def hold(self, why: str) -> None:
        """Take no further deliveries until `resume` is called for the same reason."""
        ...

    def resume(self, why: str) -> None:
        """One reason to hold is gone."""
        ...

    async def stop(self) -> None:
        """Take no further deliveries; those handed over can still be acknowledged."""
        ...


class Dispatcher:
    """Works on deliveries until it is drained.

    `intake`: the consumer, which pauses while a suspect is processed alone.
    """

    def __init__(
        self, process: DeliveryPipeline, gate: OpenGate, observer: Observer, intake: ConsumerControl | None = None
    ) -> None:
        self._process = process
        self._gate = gate
        self._observer = observer
        self._running: set[asyncio.Task[None]] = set()
        self._is_isolating = False
        self._intake = intake

    def __repr__(self) -> str:
        return f"<Service: {len(self._running)} in flight, {self._gate!r}>"

    @property
    def in_flight(self) -> int:
        """Deliveries that are being worked on."""
        return len(self._running)

    def deliver(self, delivery: Delivery) -> None:
        """Begin to work on a delivery."""
        task = asyncio.get_running_loop().create_task(self._work(delivery))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _work(self, delivery: Delivery) -> None:
        try:
            if self._process.is_suspect(delivery):
                await self._isolate(delivery)
            else:
                await self._process.run(delivery)
        except Exception as error:  # noqa: BLE001 - a defect must cost one delivery, not the worker
            self._observer.failed(error)
            await self._gate.pause(DEFECT_PAUSE_SECONDS)
            await _returned(delivery)

    async def _isolate(self, delivery: Delivery) -> None:
        """Work on a suspect with nothing else in hand: if it takes the process down, it goes alone.

        A second one would share its fate, so it is put off.
        """
        if self._is_isolating:
            await self._process.postpone(delivery, "quarantine")
            return
        self._is_isolating = True
        try:
            if self._intake is not None:
                await self._intake.hold("quarantine")
            others = self._running - {asyncio.current_task()}
            if others and not delivery.is_lost():
                await asyncio.wait(others, timeout=ISOLATION_WAIT_SECONDS)
            await self._process.run(delivery)
        finally:
            self._is_isolating = False
            if self._intake is not None:
                self._intake.resume("quarantine")

    async def drain(self, intake: ConsumerControl, seconds: float) -> int:
        """Stop, let what is in flight settle for `seconds`; how many deliveries were left to the broker."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await intake.stop()
        except Exception as error:  # noqa: BLE001 - a broker that is away must not keep us from draining
            self._observer.unconfirmed(f"the consumer could not be cancelled: {error}")
        self._gate.close()
        while self._running and (left := deadline - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(self._running, timeout=left)
        unsettled = list(self._running)
        for task in unsettled:
            task.cancel()
        await asyncio.gather(*unsettled, return_exceptions=True)
        return len(unsettled)


async def _returned(delivery: Delivery) -> None:
    try:
        await delivery.reject()
    except StaleDeliveryError:
        return
