"""The service: takes deliveries in, and drains.

Law 10, draining is ordering: unready, stop consuming, let calls finish, settle them, hand back what has
not begun. Deliveries are worked on in tasks owned here, so that losing the broker never cancels a call.
"""

import asyncio

from worker.pipeline.pipeline import DeliveryPipeline
from worker.pipeline.ports import CallThrottle, ConsumerControl, Delivery, Observer
from worker.policy.call_result import StaleDeliveryError

ISOLATION_WAIT_SECONDS = 120.0
"""Seconds that a suspect waits at most until nothing else is in hand."""
DEFECT_PAUSE_SECONDS = 1.0
"""Seconds before a delivery that met a defect returns to the queue."""


class Dispatcher:
    """Works on deliveries of `consumer` until it is drained."""

    def __init__(
        self, process: DeliveryPipeline, throttle: CallThrottle, observer: Observer, consumer: ConsumerControl
    ) -> None:
        self._process = process
        self._throttle = throttle
        self._observer = observer
        self._consumer = consumer
        self._running: set[asyncio.Task[None]] = set()
        self._is_isolating = False

    def __repr__(self) -> str:
        return f"<Service: {len(self._running)} in flight, {self._throttle!r}>"

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
            await self._throttle.pause(DEFECT_PAUSE_SECONDS)
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
            await self._consumer.hold("quarantine")
            others = self._running - {asyncio.current_task()}
            if others and not delivery.is_lost():
                await asyncio.wait(others, timeout=ISOLATION_WAIT_SECONDS)
            await self._process.run(delivery)
        finally:
            self._is_isolating = False
            self._consumer.resume("quarantine")

    async def drain(self, seconds: float) -> int:
        """Stop, let what is in flight settle for `seconds`; how many deliveries were left to the broker."""
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                await self._consumer.stop()
        except Exception as error:  # noqa: BLE001 - a broker that is away must not keep us from draining
            self._observer.unconfirmed(f"the consumer could not be cancelled: {error}")
        self._throttle.close()
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
